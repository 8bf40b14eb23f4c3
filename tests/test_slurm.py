"""On a real SLURM: what a lab would lose if the cluster path broke.

One private cluster of two emulated nodes serves all tests of this file.
"""

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


def test_the_study_runs_through_the_profile(workspace):
    submit(workspace, "--configfile", "config/smoke.yaml", timeout=1200)
    report = workspace.root / "results/smoke/report.html"
    assert report.stat().st_size > 10_000
    assert workspace.planned("--configfile", "config/smoke.yaml") == {}, "a second run would do something"
