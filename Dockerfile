# GenView with the versions of the lock. Not built in this repository's tests; the lines are checked.
#
#     docker build -t genview .
#     docker run --rm --gpus all --ipc=host -v "$PWD":/study -w /study genview --configfile mine.yaml
FROM python:3.11-slim-bookworm

RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc git make \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/genview
# Packages change seldom and weigh gigabytes: a layer of their own.
COPY requirements.lock ./
RUN pip install --no-cache-dir -r requirements.lock

COPY . .
RUN pip install --no-cache-dir --no-deps --no-build-isolation .

ENTRYPOINT ["genview", "run"]
