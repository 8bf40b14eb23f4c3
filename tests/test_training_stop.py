"""A cluster kills jobs without asking: what was trained until then must count, to the last bit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from training_study import study, weights

from genview.training import launch
from genview.training.job import Job

pytestmark = pytest.mark.slow

FOUR = {"image_image": 1, "image_image_quality": 1, "image_text": 1, "image_text_quality": 1}
LOSS = {"early": {"image_image": 1, "image_text": 1}, "later": FOUR, "switch_epoch": 2}
LAUNCHER = Path(__file__).parents[1] / "workflow" / "scripts" / "launch_training.sh"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def a_job(folder, **changes):
    settings = {"count": 40, "epochs": 4, "loss": LOSS, "ema": 0.9, "checkpoints": {"every_steps": 3}}
    return study(folder, **{**settings, **changes})


def start(job: Job, file: Path) -> subprocess.Popen:
    """In a process of its own: a fork of one that has used autograd could not train."""
    file.write_text(job.model_dump_json())
    command = launch.command(job, file, LAUNCHER, 1)
    return subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)


def elsewhere(job: Job, folder: Path) -> Job:
    """The same run with its own folders."""
    names = {"model": "model", "metrics": "metrics.jsonl", "checkpoints": "checkpoints", "logs": "logs"}
    return job.model_copy(update={name: str(folder / place) for name, place in names.items()})


def wait_for(condition, process, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)


def step_now(job: Job) -> int:
    path = Path(job.checkpoints) / "metrics.jsonl"
    rows = path.read_text().splitlines() if path.is_file() else []
    return len(rows)


def assert_equal_runs(one: Job, other: Job):
    assert Path(one.metrics).read_bytes() == Path(other.metrics).read_bytes()
    first, second = weights(one.model), weights(other.model)
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    job = a_job(folder)
    process = start(job, folder / "job.json")
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert len(Path(job.metrics).read_text().splitlines()) == 20
    return job


def test_a_run_killed_at_arbitrary_steps_ends_as_one_that_was_not(undisturbed, tmp_path):
    job, seen = elsewhere(undisturbed, tmp_path), []
    for kill_after in (2, 5, 8, 16):  # before the first checkpoint, in the middle of epochs, after the switch
        process = start(job, tmp_path / "job.json")
        wait_for(lambda goal=kill_after: step_now(job) >= goal, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        seen.append(step_now(job))
    assert seen[-1] > seen[0]
    process = start(job, tmp_path / "job.json")
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "going on from step" in errors
    assert_equal_runs(job, undisturbed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_warning_saves_a_checkpoint_at_once_and_the_run_goes_on_from_there(undisturbed, tmp_path, number):
    run = undisturbed.run
    late = run.model_copy(update={"checkpoints": run.checkpoints.model_copy(update={"every_steps": 1000})})
    job = elsewhere(undisturbed, tmp_path).model_copy(update={"run": late})
    process = start(job, tmp_path / "job.json")
    wait_for(lambda: step_now(job) >= 7, process)
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == 75, errors
    saved = [path.name for path in Path(job.checkpoints).glob("step-*")]
    assert len(saved) == 1 and f"stopped at step {int(saved[0][5:])} of 20" in errors
    assert not Path(job.model).exists()
    process = start(job, tmp_path / "job.json")
    _, errors = process.communicate()
    assert process.returncode == 0 and f"going on from step {int(saved[0][5:])}" in errors, errors
    assert_equal_runs(job, undisturbed)


def test_changed_settings_are_refused_on_the_command_line_with_the_differences(undisturbed, tmp_path):
    job = elsewhere(undisturbed, tmp_path)
    process = start(job, tmp_path / "job.json")
    wait_for(lambda: step_now(job) >= 4, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    changed = job.model_copy(update={"run": job.run.model_copy(update={"batch_size": 4, "epochs": 5})})
    process = start(changed, tmp_path / "job.json")
    _, errors = process.communicate()
    assert process.returncode == 1
    assert "run.batch_size: was 8, is 4" in errors and "run.epochs: was 4, is 5" in errors and "Traceback" not in errors


def test_two_processes_under_torchrun_equal_one_with_the_same_global_batch(tmp_path):
    (tmp_path / "data").mkdir()
    loss = {"early": {"image_image": 1, "image_text": 1}}
    # SGD follows the gradient; AdamW would blow the rounding of small gradients up to whole steps.
    sgd = {"name": "sgd", "base_learning_rate": 1.0, "warmup_epochs": 0.5}
    one = a_job(tmp_path, epochs=2, loss=loss, ema=None, views=("drawn", "other"), optimizer=sgd)
    two = elsewhere(one, tmp_path / "two").model_copy(
        update={"run": one.run.model_copy(update={"gpus_per_node": 2, "batch_size": one.run.batch_size // 2})}
    )
    for job, file in ((one, tmp_path / "one.json"), (two, tmp_path / "two.json")):
        process = start(job, file)
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    first, second = ([json.loads(line) for line in Path(job.metrics).read_text().splitlines()] for job in (one, two))
    assert len(first) == len(second) == 10
    for row, other in zip(first, second):
        assert row.keys() == other.keys()
        for name in row:
            assert row[name] == pytest.approx(other[name], rel=2e-4), (row["step"], name)
    both = [torch.cat([t.flatten() for _, t in sorted(weights(job.model).items())]) for job in (one, two)]
    assert (both[0] - both[1]).norm() < 1e-3 * both[0].norm()


def test_two_processes_stopped_and_resumed_end_as_undisturbed_ones(tmp_path):
    job = a_job(tmp_path, gpus_per_node=2, batch_size=4, epochs=2)
    process = start(job, tmp_path / "job.json")
    wait_for(lambda: step_now(job) >= 4, process)
    process.terminate()
    _, errors = process.communicate()
    assert process.returncode != 0
    assert list(Path(job.checkpoints).glob("step-*")), errors
    process = start(job, tmp_path / "job.json")
    _, errors = process.communicate()
    assert process.returncode == 0 and "going on from step" in errors, errors
    whole = elsewhere(job, tmp_path / "whole")
    process = start(whole, tmp_path / "whole.json")
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    one, two = ([json.loads(line)["loss"] for line in Path(j.metrics).read_text().splitlines()] for j in (job, whole))
    assert one == pytest.approx(two, rel=1e-5) and len(one) == 10


def test_the_rule_s_process_hands_a_warning_on_to_the_run(tmp_path):
    job = a_job(tmp_path, quality=False, loss={})
    (tmp_path / "given.json").write_text(job.model_dump_json())
    script = (
        "import sys; from pathlib import Path; from genview import stage; from genview.training import launch, job\n"
        "given = job.Job.model_validate_json(Path(sys.argv[1]).read_text())\n"
        "with stage.running(): launch.run(given, Path(sys.argv[2]), launcher=Path('x'), log=Path(sys.argv[3]))\n"
    )
    arguments = [str(tmp_path / name) for name in ("given.json", "job.json", "processes.log")]
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: step_now(job) >= 2, process)
    process.send_signal(signal.SIGUSR1)
    _, errors = process.communicate()
    assert process.returncode == 1 and "after saving a checkpoint" in errors, errors
    assert list(Path(job.checkpoints).glob("step-*"))
