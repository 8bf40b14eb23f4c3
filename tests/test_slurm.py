"""On a real SLURM: what a lab would lose if the cluster path broke.

One private cluster of two emulated nodes serves all tests of this file.
"""

import json
import re

import private_slurm
import pytest
from workspace import SNAKEMAKE, Workspace

REASON = private_slurm.reason_to_skip()
pytestmark = [pytest.mark.slow, pytest.mark.slurm, pytest.mark.skipif(REASON is not None, reason=str(REASON))]

QUICK = ("slurm-init-seconds-before-status-checks: 20", "slurm-init-seconds-before-status-checks: 2")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with private_slurm.cluster(tmp_path_factory.mktemp("slurm"), nodes=2, cpus=2, gpus=2) as running:
        yield running


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, cluster) -> Workspace:
    work = Workspace(tmp_path_factory.mktemp("cluster_study"))
    work.environment.update(cluster.environment())
    work.environment["PATH"] = f"{SNAKEMAKE.parent}:{cluster.environment()['PATH']}"
    work.edit("profiles/slurm/config.yaml", *QUICK)
    return work


def submit(work: Workspace, *arguments: str, check: bool = True, timeout: int = 600):
    return work.snakemake("--profile", "slurm", *arguments, check=check, timeout=timeout)


ARTIFACT = "results/smoke/probes/originals/digits.json"


def test_a_probe_and_all_it_needs_run_as_jobs_of_the_cluster(workspace, cluster):
    done = submit(workspace, ARTIFACT, "--configfile", "config/smoke.yaml")
    assert len(re.findall(r"has been submitted with SLURM jobid", done.stderr)) >= 3
    assert json.loads((workspace.root / ARTIFACT).read_text())["results"]
    assert workspace.planned(ARTIFACT, "--configfile", "config/smoke.yaml") == {}, "a second run would do something"
    assert cluster.jobs() == [], "jobs were left on the cluster"


def test_a_request_for_gpus_reaches_the_job(cluster):
    seen = cluster.run("srun", "--nodes=1", "--gpus=2", "bash", "-c", "echo $CUDA_VISIBLE_DEVICES")
    assert seen.split() == ["0,1"]
