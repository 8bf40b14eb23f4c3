"""What a stranger gets: a wheel that holds every file of the package, works alone, and says what it is."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
VERSION = (ROOT / "genview/VERSION").read_text().strip()
ALONE = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
LEFT_OUT = {
    ".git",
    ".venv",
    ".venv-3.12",
    ".venv-3.13",
    "__pycache__",
    "build",
    "results",
    "site",
    ".snakemake",
    "shared",
    "logs",
}


def of_the_package(folder: Path) -> set[str]:
    """The files under ``genview/``, without what running it leaves there."""
    return {
        path.relative_to(folder).as_posix()
        for path in (folder / "genview").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The folder with the source distribution, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("release")
    source = folder / "source"
    source.mkdir()
    for path in ROOT.iterdir():
        if path.name not in LEFT_OUT and not path.name.endswith((".egg-info", "_cache")):
            subprocess.run(["cp", "-r", str(path), str(source)], check=True)
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(source)],
        check=True,
        capture_output=True,
        env=ALONE,
    )
    return folder


@pytest.mark.slow
def test_the_source_distribution_holds_the_repository(built):
    with tarfile.open(built / f"genview-{VERSION}.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert of_the_package(ROOT) <= names
    for name in ("LICENSE", "NOTICE", "CITATION.cff", "CHANGELOG.md", "Snakefile", "config/config.yaml", ".ci/run"):
        assert name in names
    assert "tests/test_release.py" in names and "workflow/rules/training.smk" in names


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package_and_says_its_licence(built):
    with zipfile.ZipFile(built / f"genview-{VERSION}-py3-none-any.whl") as archive:
        missing = of_the_package(ROOT) - set(archive.namelist())
        assert not missing, sorted(missing)[:10]
        archive.extractall(built / "unpacked")
    about = PathDistribution(built / f"unpacked/genview-{VERSION}.dist-info")
    assert about.version == VERSION
    assert about.metadata["License-Expression"] == "Apache-2.0"
    assert set(about.metadata.get_all("License-File")) == {"LICENSE", "NOTICE"}


@pytest.mark.slow
def test_the_installed_wheel_works_away_from_the_checkout(built, tmp_path):
    venv.create(tmp_path / "empty", with_pip=False)
    python = tmp_path / "empty/bin/python"
    wheel = built / f"genview-{VERSION}-py3-none-any.whl"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, str(wheel)], check=True, env=ALONE)
    # The dependencies come from this environment, as plain folders: its editable install of the package is passed over.
    environment = {**ALONE, "PYTHONPATH": sysconfig.get_path("purelib")}
    (tmp_path / "mine.yaml").write_text("study: mine\n")
    script = """if True:
        import genview, genview.__main__ as command_line
        from genview.models import load
        print(genview.__file__, genview.__version__)
        load.small_directory("small/clip")
        raise SystemExit(command_line.main(["check", "--config", "mine.yaml"]))"""
    done = subprocess.run(
        [str(python), "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path / "empty")) and VERSION in done.stdout.splitlines()[0]
    assert "'mine' can run" in done.stdout


def test_the_version_stands_in_one_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert f"## {VERSION}" in (ROOT / "CHANGELOG.md").read_text()
    for name in ("CITATION.cff", "genview/__init__.py", "README.md"):
        assert VERSION not in (ROOT / name).read_text(), name


def test_the_citation_names_the_software_and_the_four_papers():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0" and citation["license"] == "Apache-2.0"
    papers = {reference["identifiers"][0]["value"] for reference in citation["references"]}
    assert papers == {"arXiv:2509.23770", "arXiv:2403.12003", "arXiv:2407.20171", "arXiv:2406.00262"}
    assert all({"title", "authors", "year", "type"} <= reference.keys() for reference in citation["references"])


def test_the_containers_lines_name_what_is_there():
    """Without Docker and Apptainer: known instructions, files that exist, the lock, the same Python."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    assert {word for word, _ in lines} <= {"FROM", "RUN", "WORKDIR", "COPY", "ENTRYPOINT"}
    copied = [rest.split()[:-1] for word, rest in lines if word == "COPY"]
    assert all((ROOT / source).exists() for sources in copied for source in sources)
    steps = [rest for word, rest in lines if word in ("COPY", "RUN")]
    lock = steps.index("pip install --no-cache-dir -r requirements.lock")
    assert steps[lock - 1] == "requirements.lock ./", "the lock's layer must not hang on the sources"

    definition = (ROOT / "genview.def").read_text()
    header, *sections = definition.split("\n%")
    assert {section.split()[0] for section in sections} == {"files", "post", "runscript"}
    assert "-r /opt/genview/requirements.lock" in definition
    (image,) = (rest for word, rest in lines if word == "FROM")
    assert f"From: {image}" in header
    (python,) = yaml.safe_load((ROOT / "envs/genview.yaml").read_text())["dependencies"][:1]
    assert image.startswith(f"python:{python.removeprefix('python =')}-")
