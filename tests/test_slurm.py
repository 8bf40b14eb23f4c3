"""On a real SLURM: what a lab would lose if the cluster path broke.

One private cluster of two emulated nodes serves all tests of this file. Two workflows are submitted side by side: a
whole study, which meets a node that goes down and a job short of memory, and some trainings, over two nodes and over a
time limit.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import private_slurm
import pytest
import torch
from safetensors.torch import load_file
from workspace import SNAKEMAKE, Workspace

from genview.cluster import left_behind

REASON = private_slurm.reason_to_skip()
pytestmark = [pytest.mark.slow, pytest.mark.slurm, pytest.mark.skipif(REASON is not None, reason=str(REASON))]

# The default study, shrunk further: every stage once. Its training asks for two processes with a GPU each.
STUDY = """
extends: config/smoke.yaml
study: cluster
dataset: {shards: 1}
views: {img: null, txt: null}
runs:
  originals: null
  all_views:
    gpus_per_node: 2
    batch_size: 8
    data: {views: {imgtxt: 1.0}, workers: 1}
    model: {architecture: config/own.json}
evaluation:
  probe: {datasets: [scene_class], neighbours: 20}
"""
# The same training in one process and over two nodes, and one over two nodes that is stopped by its time limit.
TRAININGS = """
extends: config/smoke.yaml
study: trainings
dataset: {shards: 1}
views: {img: null, txt: null, imgtxt: null}
training:
  epochs: 3
  log_every_steps: 1
  optimizer: {name: sgd, base_learning_rate: 0.001, warmup_epochs: 0.5}
  checkpoints: {every_steps: 100000}
runs:
  originals: null
  all_views: null
  one: {}
  nodes: {nodes: 2, batch_size: 8}
  limited: {nodes: 2, batch_size: 8, epochs: 8, data: {workers: 1}}
"""
# What the README shows of a site's own file.
SITE = """
default-resources:
  slurm_partition: main
set-resources:
  train: {constraint: big}
"""
CONFIGURATION = ("--configfile", "config/cluster.yaml")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with private_slurm.cluster(tmp_path_factory.mktemp("slurm"), nodes=2, cpus=8, gpus=2) as running:
        yield running


class Submitted:
    """A workspace whose workflows run on the cluster, as a user would start them."""

    def __init__(self, folder: Path, cluster: private_slurm.Cluster, configuration: str):
        self.work, self.cluster = Workspace(folder), cluster
        self.root = self.work.root
        path = f"{SNAKEMAKE.parent}:{cluster.environment()['PATH']}"
        own = self.work.environment["PYTHONPATH"]
        # Both nodes are this machine, and SLURM's names of them lead nowhere.
        self.work.environment.update(
            cluster.environment(), PATH=path, PYTHONPATH=own, GENVIEW_RENDEZVOUS_HOST="127.0.0.1"
        )
        (self.root / "config/cluster.yaml").write_text(configuration)
        self.work.edit(
            "profiles/slurm/config.yaml",
            "slurm-init-seconds-before-status-checks: 20",
            "slurm-init-seconds-before-status-checks: 2\nseconds-between-status-checks: 1",
        )
        (self.root / "site").mkdir()
        (self.root / "site/config.yaml").write_text(SITE)
        self.process: subprocess.Popen
        self.lost: private_slurm.Job

    def start(self, *targets: str) -> None:
        """Type the command; what it says goes to a file."""
        command = [str(SNAKEMAKE), *targets, "--profile", "slurm", "--profile", "site", *CONFIGURATION]
        with (self.root / "said.txt").open("w") as said:
            self.process = subprocess.Popen(
                command,
                cwd=self.root,
                env=self.work.environment,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        """What the workflow said so far."""
        return (self.root / "said.txt").read_text()

    def finish(self, seconds: int = 1100) -> int:
        """Wait for the workflow's end; returns its exit status."""
        return self.process.wait(timeout=seconds)

    def kill(self) -> None:
        """The login node goes away under the workflow."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def job(self, rule: str) -> private_slurm.Job:
        """Wait until a job of this workspace runs."""

        def running():
            assert self.process.poll() is None, self.said[-5000:]
            jobs = (job for job in self.cluster.jobs(rule) if job.folder == str(self.root))
            return next((job for job in jobs if job.state == "RUNNING"), None)

        return self.cluster.wait_for(running)


def _hold_until_warned(trainings: Submitted) -> None:
    """Make a run meet its time limit: after some steps stop its processes, and set the limit to the next minute."""
    steps = trainings.root / "results/trainings/runs/limited/checkpoints/metrics.jsonl"
    trainings.cluster.wait_for(lambda: steps.is_file() and len(steps.read_text().splitlines()) >= 3, 300)
    held = [pid for pid, words in _processes() if "genview.training" in words and "limited/job.json" in words]
    for pid in held:
        os.kill(pid, signal.SIGSTOP)
    (job,) = (
        job
        for job in trainings.cluster.jobs("train")
        if (job.folder, "limited" in job.comment) == (str(trainings.root), True)
    )
    elapsed = trainings.cluster.run("squeue", "--noheader", f"--jobs={job.number}", "--format=%M").strip()
    minutes = int(elapsed.split(":")[-2]) + (2 if int(elapsed[-2:]) > 40 else 1)
    trainings.cluster.run("scontrol", "update", f"jobid={job.number}", f"timelimit={minutes}")
    logs = trainings.root / "logs/slurm/rule_train/limited"
    try:
        trainings.cluster.wait_for(lambda: any("CANCELLED AT" in log.read_text() for log in logs.glob("*.log")), 180)
    finally:
        for pid in held:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _processes():
    for directory in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if directory.name.isdigit():
                yield int(directory.name), (directory / "cmdline").read_bytes().decode()


@pytest.fixture(scope="module")
def submitted_trainings(tmp_path_factory, cluster) -> Future:
    """Started first and looked at last: it waits for its time limit."""
    trainings = Submitted(tmp_path_factory.mktemp("trainings"), cluster, TRAININGS)
    trainings.work.edit("workflow/rules/resources.smk", "WARNING = 300", "WARNING = 5")

    def follow() -> Submitted:
        _hold_until_warned(trainings)
        assert trainings.finish() == 0, trainings.said[-5000:]
        return trainings

    trainings.start("runs")
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(follow)
    trainings.kill()


@pytest.fixture(scope="module")
def trainings(submitted_trainings) -> Submitted:
    return submitted_trainings.result()


@pytest.fixture(scope="module")
def study(tmp_path_factory, cluster, submitted_trainings) -> Iterator[Submitted]:
    """The whole study, of which the first job loses its node and one job has too little memory at first."""
    study = Submitted(tmp_path_factory.mktemp("study"), cluster, STUDY)
    tiny = study.root / "genview/encoders/architectures/tiny.json"
    (study.root / "config/own.json").write_text(tiny.read_text())
    rules = study.root / "workflow/rules/audit.smk"
    audit = rules.read_text().index("rule audit")
    text = rules.read_text()
    rules.write_text(text[:audit] + text[audit:].replace("memory(16000 if AUDIT_GPUS else 4000)", "memory(700)"))
    study.start()
    try:
        study.lost = study.job("manifest")
        node = f"nodename={study.lost.nodes}"
        cluster.run("scontrol", "update", node, "state=down", "reason=test")
        cluster.wait_for(lambda: not any(job.nodes == study.lost.nodes for job in cluster.jobs()))
        # A node that answers in time has come back by itself, and to resume it is then an error.
        cluster.run("scontrol", "update", node, "state=resume", check=False)
        assert study.finish() == 0, study.said[-5000:]
        yield study
    finally:
        study.kill()


def test_the_whole_study_runs_as_jobs_of_the_cluster(study, cluster):
    results = study.root / "results/cluster"
    assert "<html" in (results / "report.html").read_text()
    assert json.loads((results / "probes/all_views/scene_class.json").read_text())["results"]
    submitted = set(re.findall(r"logs/slurm/rule_(\w+)/", study.said))
    assert {"manifest", "token_scores", "generate_views", "train", "probe", "report"} <= submitted
    assert not {"foreground_ratio", "noise_level", "guidance_scale", "conditions"} & submitted, "tables are made here"
    assert study.work.planned(*CONFIGURATION) == {}, "a second run would do something"


def test_the_terminal_says_which_jobs_of_the_cluster_have_ended(study):
    lines = dict(re.findall(r"^\[(\d+) of \d+\] (\w+)", study.said, re.MULTILINE))
    assert {"manifest", "train", "probe", "report"} <= set(lines.values())
    ((jobs, last),) = re.findall(r"^\[(\d+) of (\d+)\] all$", study.said, re.MULTILINE)
    assert jobs == last


def test_two_processes_on_one_node_have_a_gpu_each(study, cluster):
    (number,) = re.findall(r"logs/slurm/rule_train/all_views/(\d+)\.log\)\.", study.said)
    asked = cluster.run("scontrol", "show", "job", number)
    assert "Features=big" in asked and "Partition=main" in asked, "the site's own file does not count"
    assert "NumNodes=1" in asked and "CPUs/Task=4" in asked and "TimeLimit=1-00:00:00" in asked
    log = (study.root / "results/cluster/logs/training/all_views/processes.log").read_text()
    assert sorted(re.findall(r"process (\d) of 2 on node\d, CUDA_VISIBLE_DEVICES=0,1", log)) == ["0", "1"]
    assert json.loads((study.root / "results/cluster/runs/all_views/model/run.json").read_text())["processes"] == 2


def test_a_job_whose_node_goes_down_is_run_again(study, cluster):
    ended = cluster.run("scontrol", "show", "job", study.lost.number)
    assert "Restarts=1" in ended and "JobState=COMPLETED" in ended


def test_a_job_short_of_memory_fails_by_name_and_passes_with_more(study):
    assert "Error in rule audit" in study.said
    numbers = re.findall(r"logs/slurm/rule_audit/\w+/(\d+)\.log\)\.", study.said)
    memory = [study.cluster.memory_mb(number) for number in numbers]
    assert len(memory) > 1 and memory == [700 * (attempt + 1) for attempt in range(len(memory))]


PROBE = "results/cluster/probes/all_views/scene_class.json"


def test_jobs_of_a_killed_workflow_are_found_and_not_doubled(study, cluster, monkeypatch):
    features = "results/cluster/probes/all_views/features/digits.safetensors"
    study.start(features)
    orphan = study.job("probe_features")
    cluster.run("scontrol", "suspend", orphan.number)
    study.kill()
    study.work.snakemake("--unlock", *CONFIGURATION)
    study.start(features)
    assert study.finish() != 0
    assert "still on the cluster" in study.said and f"scancel {orphan.number}" in study.said
    assert [job.number for job in cluster.jobs("probe_features")] == [orphan.number]
    monkeypatch.setenv("SLURM_CONF", study.work.environment["SLURM_CONF"])
    assert left_behind(study.root, "results/cluster") == [orphan.number]
    assert left_behind(study.root, "results/another") == [], "another study in the same folder is kept from starting"
    cluster.run("scontrol", "resume", orphan.number)
    cluster.wait_for(lambda: not cluster.jobs("probe_features"))
    assert study.work.planned(features, *CONFIGURATION) == {}, "what the job made does not count"
    study.work.edit("config/cluster.yaml", "evaluation:\n", "evaluation:\n  features: {batch_size: 31}\n")
    changed = study.work.planned(features, *CONFIGURATION)
    study.work.edit("config/cluster.yaml", "  features: {batch_size: 31}\n", "")
    assert changed == {"probe_features": 1}, "what the job made passes for one with settings that came after it"


def test_a_cancelled_job_is_named_with_its_log_and_the_same_command_goes_on_with_a_changed_setting(study, cluster):
    study.work.edit("config/cluster.yaml", "neighbours: 20", "neighbours: 5")
    study.start(PROBE, "--retries", "0")
    job = study.job("probe")
    cluster.run("scancel", job.number)
    assert study.finish() != 0
    assert f"SLURM-job '{job.number}' failed, SLURM status is: 'CANCELLED'" in study.said
    assert f"logs/slurm/rule_probe/all_views_scene_class/{job.number}.log" in study.said
    study.work.edit("config/cluster.yaml", "neighbours: 5", "neighbours: 7")
    study.start(PROBE)
    assert study.finish() == 0, study.said[-5000:]
    assert set(re.findall(r"logs/slurm/rule_(\w+)/", study.said)) == {"probe"}
    assert study.work.planned(PROBE, *CONFIGURATION) == {}


def test_a_training_over_two_nodes_equals_the_one_in_a_process(trainings):
    results = trainings.root / "results/trainings"
    log = (results / "logs/training/nodes/processes.log").read_text()
    assert sorted(re.findall(r"process (\d) of 2 on (\w+),", log)) == [("0", "node1"), ("1", "node2")]
    one, nodes = (
        [json.loads(line) for line in (results / f"runs/{run}/metrics.jsonl").read_text().splitlines()]
        for run in ("one", "nodes")
    )
    assert len(one) == len(nodes) == 9
    for row, other in zip(one, nodes):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-3), row["step"]
    both = [load_file(results / f"runs/{run}/model/open_clip_model.safetensors") for run in ("one", "nodes")]
    first, second = (torch.cat([t.flatten().float() for _, t in sorted(state.items())]) for state in both)
    assert (first - second).norm() < 1e-3 * first.norm()


def test_a_training_over_two_nodes_that_meets_its_time_limit_goes_on_from_the_checkpoint_it_saved(trainings):
    results = trainings.root / "results/trainings"
    log = (results / "logs/training/limited/processes.log").read_text()
    stopped = re.search(r"stopped at step (\d+) of 24", log)
    assert stopped and int(stopped[1]) >= 3
    assert f"going on from step {stopped[1]} of 24" in log
    assert set(re.findall(r"process (\d) of 2 on (\w+),", log)) == {("0", "node1"), ("1", "node2")}
    steps = [json.loads(line)["step"] for line in (results / "runs/limited/metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 25))


def test_nothing_is_left_on_the_cluster(study, trainings, cluster):
    assert cluster.jobs() == []
