"""One machine with GPUs: no two jobs on one device, whoever is killed. Devices are pretended, the scheduler is real."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from workspace import REPOSITORY, SNAKEMAKE

from genview import shared_gpus
from genview.shared_gpus import Device

LISTING = "".join(f"GPU {number}: NVIDIA Pretended (UUID: GPU-{number}{number}{number})\\n" for number in range(2))
# The rules' own functions under rules that only note when they ran and what they saw.
TOY = """
import sys
from pathlib import Path
from genview.config import load as configuration
from genview.errors import GenviewError

STUDY = configuration.parse({})

include: "REPOSITORY/workflow/rules/resources.smk"

rule all:
    input: expand("{{part}}.txt", part=range(5)), "both.txt"

rule one:
    output: "{{part}}.txt"
    resources: **gpus(1)
    retries: 1
    script: "toy.py"

rule both:
    output: "both.txt"
    resources: **gpus(2)
    retries: 1
    script: "toy.py"

onstart:
    share_gpus()
"""
SCRIPT = """
import os, time
from genview import stage

with stage.running("toy.log", gpus=snakemake.resources.get("gpu", 0)):
    start = time.time()
    with open(os.environ["NOTES"], "a") as notes:
        print("begin", os.getpid(), os.environ["CUDA_VISIBLE_DEVICES"], start, file=notes)
    time.sleep(0.3)
    with open(os.environ["NOTES"], "a") as notes:
        print("end", os.getpid(), os.environ["CUDA_VISIBLE_DEVICES"], time.time(), file=notes)
    open(snakemake.output[0], "w").close()
"""


def pretend(folder: Path, listing: str = LISTING) -> dict[str, str]:
    """The environment of a machine whose driver lists these GPUs."""
    program = folder / "bin/nvidia-smi"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f"#!/bin/sh\nprintf '{listing}'\n")
    program.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != shared_gpus.VISIBLE}
    environment |= {"PATH": f"{program.parent}:{SNAKEMAKE.parent}:{os.environ['PATH']}"}
    return environment | {shared_gpus.FOLDER: str(folder / "locks"), "PYTHONPATH": str(REPOSITORY)}


def toy(folder: Path) -> Path:
    folder.mkdir()
    (folder / "Snakefile").write_text(TOY.replace("REPOSITORY", str(REPOSITORY)).replace("{{", "{").replace("}}", "}"))
    (folder / "toy.py").write_text(SCRIPT)
    return folder


def start(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.Popen:
    command = [str(SNAKEMAKE), "--cores", "8", *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def shifts(notes: Path) -> list[tuple[float, float, set[str]]]:
    """When each job that ended had which devices."""
    begun, found = {}, []
    for line in notes.read_text().splitlines():
        what, process, seen, moment = line.split()
        if what == "begin":
            begun[process] = float(moment)
        else:
            found.append((begun[process], float(moment), set(seen.split(","))))
    return found


def test_devices_are_listed_as_cuda_reads_them(tmp_path):
    environment = pretend(tmp_path)
    assert shared_gpus.visible(environment) == (Device("0", "GPU-000"), Device("1", "GPU-111"))
    for entries, names in [("1", ["GPU-111"]), ("GPU-1,0", ["GPU-111", "GPU-000"]), ("0,-1,1", ["GPU-000"]), ("", [])]:
        found = shared_gpus.visible(environment | {shared_gpus.VISIBLE: entries})
        assert [device.name for device in found] == names, entries
    cut = "GPU 0: A (UUID: GPU-a)\\n  MIG 1g Device 0: (UUID: MIG-x)\\n  MIG 1g Device 1: (UUID: MIG-y)\\n"
    environment = pretend(tmp_path / "cut", cut)
    assert [device.entry for device in shared_gpus.visible(environment)] == ["MIG-x", "MIG-y"]


@pytest.mark.slow
def test_jobs_of_two_studies_never_share_a_device_and_a_killed_one_frees_its_own(tmp_path):
    environment = pretend(tmp_path) | {"NOTES": str(tmp_path / "notes")}
    notes = tmp_path / "notes"
    running = [start(toy(tmp_path / name), environment) for name in ("first", "second")]
    while not (notes.is_file() and "begin" in notes.read_text()) and running[0].poll() is None:
        time.sleep(0.02)
    os.kill(int(notes.read_text().split()[1]), signal.SIGKILL)
    for process in running:
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said
    found = shifts(notes)
    assert len(found) == 12
    assert sorted(len(seen) for _, _, seen in found) == [1] * 10 + [2] * 2
    for index, (begin, end, seen) in enumerate(found):
        for other_begin, other_end, other_seen in found[index + 1 :]:
            apart = end <= other_begin or other_end <= begin
            assert apart or not seen & other_seen, found


HELD = """
import subprocess, sys, time
from genview import shared_gpus
shared_gpus.share(shared_gpus.visible())
with shared_gpus.claimed(1):
    child = subprocess.Popen([sys.executable, "-c", CHILD], pass_fds=shared_gpus.held())
    print(child.pid, flush=True)
    time.sleep(600)
"""
CHILD = """
import signal, time
from genview import shared_gpus
signal.signal(signal.SIGTERM, lambda number, frame: None)
shared_gpus.keep()
time.sleep(600)
"""


def test_a_device_is_in_use_until_the_last_process_of_a_killed_job_has_ended(tmp_path):
    only = LISTING.splitlines()[0].split("\\n")[0] + "\\n"
    environment = pretend(tmp_path, only)
    job = subprocess.Popen(
        [sys.executable, "-c", f"CHILD = {CHILD!r}\n{HELD}"], env=environment, stdout=subprocess.PIPE, text=True
    )
    child = int(job.stdout.readline())
    job.kill()
    job.wait()
    words = "from genview import shared_gpus as gpus; gpus.share(gpus.visible())\nwith gpus.claimed(1): print('mine')"
    waiting = subprocess.Popen([sys.executable, "-c", words], env=environment, stdout=subprocess.PIPE, text=True)
    time.sleep(1.5)
    assert waiting.poll() is None, "the device was given away while a process of the killed job was using it"
    os.kill(child, signal.SIGKILL)
    assert waiting.communicate(timeout=60)[0] == "mine\n"


def test_a_training_of_more_gpus_than_there_are_is_refused_before_the_first_job(tmp_path):
    study = tmp_path / "mine.yaml"
    wanted = (
        "study: wanting\ndataset: {source: scenes}\nruns: {large: {gpus_per_node: 3, model: {architecture: small}}}\n"
    )
    study.write_text(f"{wanted}results: {tmp_path}/results\n")
    process = subprocess.run(
        [str(SNAKEMAKE), "runs", "--configfile", str(study)],
        cwd=REPOSITORY,
        env=pretend(tmp_path),
        capture_output=True,
        text=True,
    )
    said = process.stdout + process.stderr
    assert process.returncode and "runs.large.gpus_per_node: 3 asked for, but the jobs of this machine share 2" in said
    assert not list((tmp_path / "results/wanting").glob("data/*"))


def test_every_rule_that_asks_for_gpus_claims_them():
    rules = [path.read_text() for path in sorted((REPOSITORY / "workflow/rules").glob("*.smk"))]
    blocks = [block for text in rules for block in re.split(r"\n(?= *rule )", text)]
    asking = [block for block in blocks if "**gpus(" in block or "**training_gpus(" in block]
    scripts = {re.search(r"scripts/(\w+\.py)", block)[1] for block in asking if "script:" in block}
    assert len(scripts) > 8
    for script in scripts:
        assert "with stage.job(snakemake," in (REPOSITORY / "workflow/scripts" / script).read_text(), script
    for block in blocks:
        assert not re.search(r"^ +gpu=", block, re.MULTILINE), f"gpu_gres does not reach this rule:\n{block}"


@pytest.mark.parametrize(
    ("cores", "listing", "expected"),
    [(64, LISTING, "8 1"), (12, LISTING, "6 1"), (2, LISTING, "2 1"), (6, "", "6 1")],
)
def test_gpus_share_the_cores_that_there_are(tmp_path, cores, listing, expected):
    """Eight cores feed a GPU; where there are fewer for each, every GPU still gets a job."""
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "Snakefile").write_text(
        "from genview.config import load as configuration\nSTUDY = configuration.parse({})\n"
        f'include: "{REPOSITORY}/workflow/rules/resources.smk"\n'
        'print("cores", cores("token_scores", 1), cores("token_scores", 0))\nrule all:\n'
    )
    done = subprocess.run(
        [SNAKEMAKE, "-n", "--cores", str(cores)],
        cwd=folder,
        env=pretend(tmp_path, listing),
        capture_output=True,
        text=True,
    )
    assert f"cores {expected}" in done.stdout + done.stderr, done.stderr
