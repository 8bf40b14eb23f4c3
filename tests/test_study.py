"""The whole study, for real: every stage, one artifact by path, kills at random moments, the cluster aside.

The study is ``config/smoke.yaml``: the default study with fewer pictures and steps.
"""

import json
import re
import shutil
import time

import kills
import pytest
import small_disk
from PIL import Image
from workspace import REPOSITORY, Workspace

from genview import parquet, tables
from genview.data import published

pytestmark = pytest.mark.slow

SMOKE = ("--configfile", "config/smoke.yaml")


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Workspace:
    work = Workspace(tmp_path_factory.mktemp("study"))
    work.snakemake(*SMOKE, timeout=1500)
    return work


def test_one_command_ends_in_a_report_and_a_second_one_does_nothing(study):
    page = (study.root / "results/smoke/report.html").read_text()
    assert "<html" in page and "data:image" in page and "http-equiv" not in page
    assert not re.search(r'(src|href)="https?://', page), "the report asks the network for something"
    assert study.planned(*SMOKE) == {}


def test_tables_are_as_documented_and_name_what_made_them(study):
    results = study.root / "results/smoke"
    documented = {
        "data/manifest.parquet": tables.MANIFEST,
        "data/rejected.parquet": tables.REJECTED,
        "foreground/small/scores/0-of-2.parquet": tables.SCORES,
        "foreground/small/foreground_ratio.parquet": tables.FOREGROUND_RATIO,
        "conditions/noise_level.parquet": tables.NOISE_LEVEL,
        "conditions/guidance/1-of-2.parquet": tables.GUIDANCE,
        "conditions/guidance_scale.parquet": tables.GUIDANCE_SCALE,
        "conditions/conditions.parquet": tables.CONDITIONS,
        "views/imgtxt/0-of-2.parquet": tables.VIEWS,
    }
    for name, schema in documented.items():
        parquet.read(results / name, schema)
        assert {"stage", "study", "version", "parameters", "code"} <= parquet.metadata(results / name).keys(), name
    keys = parquet.read(results / "data/manifest.parquet", tables.MANIFEST)["key"].to_pylist()
    assert parquet.read(results / "conditions/conditions.parquet", tables.CONDITIONS)["key"].to_pylist() == keys


def test_every_number_comes_with_its_interval_and_its_data(study):
    found = sorted((study.root / "results/smoke").glob("probes/*/*.json"))
    assert [path.parent.name + "/" + path.stem for path in found] == [
        "all_views/digits",
        "originals/digits",
    ]
    for path in found:
        result = json.loads(path.read_text())
        assert result["data_digest"] and result["model_digest"] and result["selection"] == "validation"
        for row in result["results"]:
            assert 0 <= row["value"] <= 1 and row["low"] <= row["value"] <= row["high"], (path, row)


def test_no_artifact_holds_a_path_of_this_machine(study):
    machine = str(study.root).encode()
    for path in (study.root / "results/smoke").rglob("*"):
        if path.is_file() and "/logs/" not in str(path) and "/costs/" not in str(path):
            assert machine not in path.read_bytes(), path


def test_any_view_is_made_again_and_conditions_are_exported_by_command(study, tmp_path):
    config = SMOKE[1]
    keys = parquet.read(study.root / "results/smoke/data/manifest.parquet", tables.MANIFEST, ["key"])["key"].to_pylist()
    for view in ("img", "txt"):
        done = study.python("-m", "genview", "remake", view, keys[0], "--config", config, "--to", str(tmp_path / view))
        assert "byte for byte" in done.stdout and '"noise_level"' in done.stdout
        assert Image.open(tmp_path / view).format == "JPEG"
    for words, said in (
        (("imag", keys[0]), "did you mean 'img'"),
        (("img", "nobody"), "no image 'nobody'"),
        (("img", keys[0], "--sample", "7"), "there is no sample 7"),
    ):
        wrong = study.python("-m", "genview", "remake", *words, "--config", config, check=False)
        assert wrong.returncode == 1 and said in wrong.stderr and "Traceback" not in wrong.stderr
    assert study.python("-m", "genview", "export", str(tmp_path / "csv"), "--config", config).stdout.count(".csv") == 4
    infos = published.read_csv(tmp_path / "csv/infos.csv", "infos")
    assert len(infos) == len(keys) and infos["noise_level"].null_count == 0


def test_the_pictures_of_the_readme_are_made_of_a_finished_study(study, tmp_path):
    study.python(
        *("-m", "recipes.pictures", "--config", SMOKE[1], "--results", "results/smoke", "--output", str(tmp_path))
    )
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    # Runs of six steps have no curve.
    assert sizes.keys() | {"curve-effective-rank.svg"} == {p.name for p in (REPOSITORY / "docs/pictures").iterdir()}
    assert min(sizes.values()) > 2000 and Image.open(tmp_path / "views.png").size[0] > 400


def test_one_artifact_makes_only_what_it_needs(tmp_path):
    work = Workspace(tmp_path / "one")
    planned = work.planned("results/smoke/probes/originals/digits.json", *SMOKE)
    assert planned == {"manifest": 1, "train": 1, "probe_features": 1, "probe": 1}
    assert "sample_features" in work.planned("pca", *SMOKE) and "train" not in work.planned("views", *SMOKE)


def test_a_wrong_setting_is_named_before_anything_runs(tmp_path):
    work = Workspace(tmp_path / "wrong")
    work.edit("config/smoke.yaml", "  count: 48", "  cuont: 48")
    done = work.snakemake("-n", *SMOKE, check=False)
    said = done.stdout + done.stderr
    assert done.returncode and "dataset.cuont" in said and "did you mean 'count'" in said
    assert "Traceback" not in said


def test_killed_at_random_moments_the_same_command_ends_in_the_same_artifacts(study, tmp_path):
    """Twenty-two more fall within the stages: test_generation_interruption, test_training_stop, test_guidance_stage."""
    work = Workspace(tmp_path / "killed")
    tally = kills.run_with_kills(work, [*SMOKE, "--cores", "2"], kills=12, seed=1, jobs=kills.finished_jobs(study))
    assert tally["kills"] == 12 and len(tally) > 8, tally  # most rules were hit
    expected, found = kills.digests(study.root / "results"), kills.digests(work.root / "results")
    assert found == expected
    assert kills.leftovers(work.root / "results") == []


FULL = {
    "ingestion": ("data/manifest.parquet", ["data"], 16_000),
    "generation": (
        "views/img/0-of-2.tar",
        ["views/img/0-of-2.*", "views/img/.kept/*/0-of-2.*"],
        110_000,
    ),
    "training": ("runs/originals/model", ["runs/originals"], 1_000_000),
    "report": ("report.html", ["report.html", "summary.csv", "figures", "configuration.json"], 20_000),
}
"""What is asked for, patterns of what is lost of a finished study before, and the bytes free while it is made again."""

NO_DISK = small_disk.reason_to_skip()


@pytest.fixture
def small(study, tmp_path):
    """The finished study on a small disk of its own."""
    work = Workspace(tmp_path)
    shutil.copytree(study.root / ".snakemake", work.root / ".snakemake")
    with small_disk.mounted(work.root / "results", megabytes=64):
        shutil.copytree(study.root / "results/smoke", work.root / "results/smoke")
        yield work


@pytest.mark.skipif(NO_DISK is not None, reason=str(NO_DISK))
@pytest.mark.parametrize("stage", FULL)
def test_a_full_disk_is_named_and_after_space_is_made_the_same_command_goes_on(study, small, stage):
    artifact, lost, leaving = FULL[stage]
    results = small.root / "results"
    for path in [path for pattern in lost for path in (results / "smoke").glob(pattern)]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    command = (f"results/smoke/{artifact}", *SMOKE, "--cores", "2")
    running = small.start(*command)
    while kills.running_rules(small) == kills.WORKFLOW and running.poll() is None:
        time.sleep(0.1)
    # While the job runs: a disk that is full before its start is told before the start.
    with small_disk.filled(results, leaving):
        said, _ = running.communicate(timeout=300)
        assert running.returncode and "the disk is full; make space and run the same command again" in said, said[
            -3000:
        ]
        assert re.search(r"results/smoke/\S+: cannot be written: the disk is full", said), said[-3000:]
        assert "Traceback" not in said, said[-3000:]
        assert not (results / "smoke" / artifact).exists(), "what is half-written is taken for finished"
    small.snakemake(*command)
    expected, found = kills.digests(study.root / "results"), kills.digests(results)
    assert found == expected
    assert kills.leftovers(results) == []


@pytest.mark.skipif(NO_DISK is not None, reason=str(NO_DISK))
def test_results_that_cannot_be_written_are_named_before_the_first_job(small):
    with small_disk.read_only(small.root / "results"):
        done = small.snakemake("results/smoke/published/infos.csv", *SMOKE, check=False)
    said = done.stdout + done.stderr
    assert done.returncode and re.search(
        r"genview: results/smoke/\S+: cannot be written: the file system is read", said
    )
    assert "Error in rule" not in said and "Traceback" not in said
