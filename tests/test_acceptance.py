"""A change of code must not throw GPU-weeks away in passing, and an accepted artifact must stand, visibly."""

import json
import time

import miniature_study
import pytest
from workspace import Workspace

from genview import costs, made
from genview.report import origin
from genview.results import StudyResults

SMOKE = ("manifest", "--configfile", "config/smoke.yaml")


def test_the_time_of_stopped_and_killed_attempts_is_added_up(tmp_path):
    log, file = tmp_path / "logs/views/0.log", tmp_path / "costs/views/0.attempts"
    assert costs.attempts_of(tmp_path, log) == file
    with costs.counted(file, log, "a", 2), pytest.raises(ValueError, match="stopped"):
        time.sleep(0.05)
        raise ValueError("stopped")
    first = costs.read(file)
    assert first["seconds"] >= 0.05 and first["attempts"] == 1
    # Killed: it began, and wrote to its log for the last time 100 s later.
    file.write_text(json.dumps({**first, "began": time.time() - 100}))
    log.parent.mkdir(parents=True)
    log.write_text("step 7\n")
    with costs.counted(file, log, "a", 2):
        pass
    assert costs.read(file)["seconds"] == pytest.approx(first["seconds"] + 100, abs=5)
    assert costs.hours(tmp_path, log) == pytest.approx(2 * 100 / 3600, rel=0.1), "two GPUs cost twice"
    with costs.counted(file, log, "b", 2):
        pass
    assert costs.read(file)["seconds"] < 5, "what was made otherwise is not a cost of what is there"


def test_the_report_lists_what_was_accepted_and_counts_all_attempts(tmp_path):
    folder = tmp_path / "miniature"
    for shard in ("0-of-2", "1-of-2"):
        artifact = folder / f"views/img/{shard}.tar"
        made.finish(artifact, {"code": "code/views/a.json"}, rule="generate_views")
        made.accept(artifact, "b", "a message was reworded")
        entry = {"artifact": f"views/img/{shard}.tar", "rule": "generate_views", "made": "a", "code": "b"}
        made.add_accepted(folder, [{**entry, "reason": "a message was reworded"}])
    made.finish(artifact, {"code": "code/views/b.json"})  # made anew since
    (folder / "costs/views/img").mkdir(parents=True)
    (folder / "costs/views/img/0-of-2.tsv").write_text("s\tmax_rss\n60\t1\n")
    (folder / "costs/views/img/0-of-2.attempts").write_text(json.dumps({"seconds": 4260, "last": 60}))
    section = origin.section(StudyResults(folder, miniature_study.configuration(tmp_path)))
    tables = {block.title: block for block in section.blocks if block.kind == "table"}
    assert tables["Accepted"].rows == [["generate_views", "1", "a message was reworded", "a", "b"]]
    assert tables["Time per stage"].rows[0][:3] == ["views", "1", "71.0\u202fmin"]


@pytest.mark.slow
def test_a_dear_change_stops_before_the_first_job_and_may_be_done_or_accepted(tmp_path):
    work = Workspace(tmp_path / "work")
    work.snakemake(*SMOKE)
    manifest = work.root / "results/smoke/data/manifest.parquet"
    made = manifest.read_bytes()
    count = work.root / "results/smoke/costs/data/manifest.attempts"
    taken = json.loads(count.read_text())
    assert 0 < taken["seconds"] < 600
    count.write_text(json.dumps({**taken, "seconds": 12.3 * 3600}))

    work.append("genview/data/images.py", "\nEDITED = 1\n")
    dry = work.snakemake(*SMOKE, "-n").stdout
    assert "code changed, genview/data/images.py (took 12 hours)" in dry
    assert "What there is of these took 12 hours" in dry
    done = work.snakemake(*SMOKE, check=False)
    assert done.returncode and manifest.read_bytes() == made
    for told in ("took 12 hours", "images.py", "--config confirm_hours=13", "genview accept manifest --reason"):
        assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert work.planned(*SMOKE, "--config", "confirm_hours=13") == {"manifest": 1}

    accept = ("-m", "genview", "accept", "--config", "config/smoke.yaml")
    assert "is neither a file nor a stage" in work.python(*accept, "nothing", "--reason", "x", check=False).stderr
    assert "say why" in work.python(*accept, "manifest", "--reason", " ", check=False).stderr
    second = "results/smoke/data/rejected.parquet"
    assert "manifest: 1 accepted" in work.python(*accept, second, "--reason", "a name is new").stdout
    assert "manifest: 1 made by today's code already" not in work.python(*accept, "all", "--reason", "again").stdout
    assert work.planned(*SMOKE) == {} and manifest.read_bytes() == made
    listed = json.loads((work.root / "results/smoke/accepted.json").read_text())
    assert [entry["reason"] for entry in listed] == ["again"] and listed[0]["artifact"] == "data/manifest.parquet"

    work.append("genview/data/images.py", "\nEDITED = 2\n")
    assert work.planned(*SMOKE) == {"manifest": 1}, "an acceptance is of one code, not of all that follows"
    work.snakemake(*SMOKE, "--config", "confirm_hours=13")
    assert json.loads(count.read_text())["seconds"] < 600
    assert work.planned(*SMOKE) == {}
