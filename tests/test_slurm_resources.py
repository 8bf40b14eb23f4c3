"""What jobs ask a cluster for: the rules' functions on a real SLURM, under rules that only note."""

import os
import re
import subprocess

import private_slurm
import pytest
from workspace import REPOSITORY, SNAKEMAKE

from genview import attempts, partition

REASON = private_slurm.reason_to_skip()
on_slurm = pytest.mark.skipif(REASON is not None, reason=str(REASON))

TOY = """
from genview.config import load as configuration
from genview.errors import GenviewError

STUDY = configuration.parse({})

include: "REPOSITORY/workflow/rules/resources.smk"

rule all:
    input: "hungry.txt", "slow.txt", "train.txt"

rule hungry:
    output: "hungry.txt"
    resources: mem_mb=memory(500), runtime=minutes(5)
    shell: "python -c 'import time; b = bytes([1]) * 500_000_000; time.sleep(8)'; touch {output}"

rule slow:
    output: "slow.txt"
    resources: mem_mb=memory(600), runtime=minutes(1)
    shell: "test -e tried || {{ touch tried; sleep 200; }}; touch {output}"

rule train:
    output: "train.txt"
    resources: **gpus(1), mem_mb=memory(600), runtime=5, slurm_extra=warned("train")
    shell: "echo $CUDA_VISIBLE_DEVICES > {output}; scontrol show job $SLURM_JOB_ID >> {output}"

onstart:
    try:
        check_cluster(workflow.dag.needrun_jobs())
    except GenviewError as error:
        raise WorkflowError(str(error))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    (folder / "Snakefile").write_text(TOY.replace("REPOSITORY", str(REPOSITORY)))
    with private_slurm.cluster(tmp_path_factory.mktemp("slurm"), cpus=4, gpus=2, memory_mb=4000) as cluster:

        def snakemake(*arguments: str) -> tuple[int, str]:
            environment = {**os.environ, **cluster.environment(), "PYTHONPATH": str(REPOSITORY)}
            environment["PATH"] = f"{SNAKEMAKE.parent}:{environment['PATH']}"
            profile = ["--profile", str(REPOSITORY / "profiles/slurm"), "--verbose"]
            quick = ["--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "1"]
            done = subprocess.run(
                [str(SNAKEMAKE), *arguments, *profile, *quick],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=900,
            )
            return done.returncode, done.stdout + done.stderr

        yield folder, snakemake


@on_slurm
@pytest.mark.slow
@pytest.mark.slurm
def test_a_retry_asks_for_more_of_what_was_short_and_the_site_and_the_rule_are_joined(run):
    folder, snakemake = run
    site = ["--default-resources", "gpu_gres=gpu", "slurm_extra='--mail-type=NONE'"]
    status, said = snakemake(*site, "--set-resources", "train:slurm_extra='--nice=5'")
    assert status == 0, said[-6000:]
    asked = re.findall(r"sbatch call: .*--comment rule_(\w+) .*-t (\d+) --mem (\d+)", said)
    assert [numbers for rule, *numbers in asked if rule == "hungry"] == [["5", "500"], ["5", "1000"]], "memory grows"
    assert [numbers for rule, *numbers in asked if rule == "slow"] == [["1", "600"], ["2", "600"]], "time grows"
    (call,) = re.findall(r"sbatch call: .*rule_train.*", said)
    assert "--nice=5 --signal=TERM@300" in call, "the warning is lost to --set-resources"
    assert "--gres=gpu:1" in call and "--gpus" not in call and "--ntasks-per-gpu" not in call
    assert (folder / "train.txt").read_text().startswith("0\n"), "the job has no GPU"
    assert "--mail-type=NONE" in next(iter(re.findall(r"sbatch call: .*rule_hungry.*", said)))


@on_slurm
@pytest.mark.slow
@pytest.mark.slurm
def test_what_no_node_has_is_refused_before_the_first_job_by_name(run):
    _, snakemake = run
    status, said = snakemake("--forceall", "--set-resources", "train:mem_mb=5000", "slow:gres='gpu:3'")
    assert status and "rule train" not in re.findall(r"sbatch call: .*", said)
    assert "train, in the default partition: 5000 MB of 4000" in said and "slow" in said and "3 GPUs of 2" in said
    status, said = snakemake("--forceall", "--set-resources", "train:slurm_extra='--gres=gpu:1'")
    assert status and "not allowed in the 'slurm_extra'" in said and "sbatch call" not in said


def test_times_are_read_as_slurm_writes_them():
    written = {"1-00:00:00": 1440, "2-12": 3600, "12:00:00": 720, "30:00": 30, "infinite": None, "UNLIMITED": None}
    assert {text: partition.minutes(text) for text in written} == written


def test_limits_are_those_of_the_largest_node_of_the_named_partitions(monkeypatch, tmp_path):
    program = tmp_path / "sinfo"
    lines = [
        "small*|4|8000|1:00:00|(null)",
        "gpu|16|64000+|2-00:00:00|gpu:a100:4(S:0-1),nvme:1",
        "gpu|8|32000|2-00:00:00|gpu:2",
    ]
    program.write_text("#!/bin/sh\nprintf '" + "\\n".join(lines) + "'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    partition._nodes.cache_clear()
    partition.limits.cache_clear()
    try:
        assert partition.limits("gpu") == partition.Limits(16, 64000, 4, 2880)
        assert partition.limits(None) == partition.Limits(4, 8000, 0, 60)
        assert partition.limits("small,gpu").minutes == 2880 and partition.limits("other") is None
        wrong = partition.excess(None, cores=8, memory_mb=100, gpus=1, time=90)
        assert wrong == ["8 cores of 4", "1 GPUs of 0", "90 minutes of 60"]
    finally:
        partition._nodes.cache_clear()
        partition.limits.cache_clear()


def test_the_reason_of_a_failure_is_read_from_its_log_and_old_logs_are_of_another_start(tmp_path):
    texts = [
        "slurmstepd: error: *** STEP 1.0 CANCELLED DUE TO TIME LIMIT ***",
        "error: Detected 1 oom_kill event",
        "boom",
    ]
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.log").write_text(text)
    os.utime(tmp_path / "2.log", (10, 10))
    assert attempts.reasons(tmp_path, since=100) == {"time": 1, "memory": 1}
    assert attempts.reasons(tmp_path, since=0)["other"] == 1
