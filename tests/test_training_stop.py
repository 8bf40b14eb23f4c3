"""A cluster kills jobs without asking: what was trained until then must count, to the last bit."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from started import Started
from training_study import study, weights

from genview.training import launch
from genview.training.job import Job

pytestmark = pytest.mark.slow

FOUR = {"image_image": 1, "image_image_quality": 1, "image_text": 1, "image_text_quality": 1}
LOSS = {"early": {"image_image": 1, "image_text": 1}, "later": FOUR, "switch_epoch": 2}
LAUNCHER = Path(__file__).parents[1] / "workflow" / "scripts" / "launch_training.sh"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def a_job(folder, **changes):
    settings = {"count": 40, "epochs": 4, "method": LOSS, "ema": 0.9, "checkpoints": {"every_steps": 3}}
    return study(folder, **{**settings, **changes})


def start(job: Job, folder: Path) -> Started:
    """The run in a process of its own."""
    file = folder / "job.json"
    file.write_text(job.model_dump_json())
    return Started("genview.training", "--job", file, errors=folder / "errors.txt")


def start_two(job: Job, file: Path) -> subprocess.Popen:
    """The run in two processes, under torchrun."""
    file.write_text(job.model_dump_json())
    command = launch.command(job, file, LAUNCHER, 1)
    return subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)


def finish_two(job: Job, file: Path) -> str:
    """The run in two processes, to its end; returns what they said."""
    process = start_two(job, file)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return errors


def elsewhere(job: Job, folder: Path) -> Job:
    """The same run with its own folders."""
    names = {"model": "model", "metrics": "metrics.jsonl", "checkpoints": "checkpoints", "logs": "logs"}
    return job.model_copy(update={name: str(folder / place) for name, place in names.items()})


def wait_for(condition, process, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)


def finish(job: Job, folder: Path) -> str:
    """The run to its end; returns what it said."""
    process = start(job, folder)
    assert process.wait() == 0, process.errors
    return process.errors


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
    finish(job, folder)
    assert len(Path(job.metrics).read_text().splitlines()) == 20
    return job


def test_a_run_killed_at_arbitrary_steps_ends_as_one_that_was_not(undisturbed, tmp_path):
    job, seen = elsewhere(undisturbed, tmp_path), []
    for kill_after in (1, 2, 4, 5, 8, 11, 14, 16):  # before the first checkpoint, within epochs, after the switch
        process = start(job, tmp_path)
        process.wait_until(lambda goal=kill_after: step_now(job) >= goal)
        process.kill()
        seen.append(step_now(job))
    assert seen[-1] > seen[0]
    assert "going on from step" in finish(job, tmp_path)
    assert_equal_runs(job, undisturbed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_warning_saves_a_checkpoint_at_once_and_the_run_goes_on_from_there(undisturbed, tmp_path, number):
    run = undisturbed.run
    late = run.model_copy(update={"checkpoints": run.checkpoints.model_copy(update={"every_steps": 1000})})
    job = elsewhere(undisturbed, tmp_path).model_copy(update={"run": late})
    process = start(job, tmp_path)
    process.wait_until(lambda: step_now(job) >= 7)
    process.send(number)
    assert process.wait() == 75, process.errors
    saved = [path.name for path in Path(job.checkpoints).glob("step-*")]
    assert len(saved) == 1 and f"stopped at step {int(saved[0][5:])} of 20" in process.errors
    assert not Path(job.model).exists()
    assert f"going on from step {int(saved[0][5:])}" in finish(job, tmp_path)
    assert_equal_runs(job, undisturbed)


def test_a_run_goes_on_with_other_code_only_where_the_user_says_so(undisturbed, tmp_path):
    """To update the package in the third week of a training must not cost the two before."""
    job = elsewhere(undisturbed, tmp_path)
    process = start(job, tmp_path)
    process.wait_until(lambda: step_now(job) >= 4)
    process.kill()
    other = job.model_copy(update={"code": "0123456789abcdef"})
    process = start(other, tmp_path)
    assert process.wait() == 1 and "Traceback" not in process.errors
    (digest,) = re.search(r"checkpoints: \{accept: \[(\w+)\]\}", process.errors).groups()
    checkpoints = job.run.checkpoints.model_copy(update={"accept": (digest,)})
    accepted = other.model_copy(update={"run": job.run.model_copy(update={"checkpoints": checkpoints})})
    assert "going on with other code" in finish(accepted, tmp_path)
    assert_equal_runs(accepted, undisturbed)
    ((step, before),) = json.loads((Path(job.model) / "run.json").read_text())["codes"]
    assert step >= 3 and before == digest
    card = (Path(job.model) / "README.md").read_text()
    assert f"up to step {step} with the code `{digest}`" in card and "`0123456789abcdef`" in card
    assert "codes" not in (Path(undisturbed.model) / "run.json").read_text()


def test_changed_settings_are_refused_on_the_command_line_with_the_differences(undisturbed, tmp_path):
    job = elsewhere(undisturbed, tmp_path)
    process = start(job, tmp_path)
    process.wait_until(lambda: step_now(job) >= 4)
    process.kill()
    changed = job.model_copy(update={"run": job.run.model_copy(update={"batch_size": 4, "epochs": 5})})
    process = start(changed, tmp_path)
    assert process.wait() == 1
    assert "run.batch_size: was 8, is 4" in process.errors and "run.epochs: was 4, is 5" in process.errors
    assert "Traceback" not in process.errors


@pytest.fixture(scope="module")
def one_and_two(tmp_path_factory):
    """The same run in one process, and in two with half the batch each."""
    folder = tmp_path_factory.mktemp("two")
    loss = {"early": {"image_image": 1, "image_text": 1}}
    # SGD follows the gradient; AdamW would blow the rounding of small gradients up to whole steps.
    sgd = {"name": "sgd", "base_learning_rate": 1.0, "warmup_epochs": 0.5}
    one = a_job(folder, epochs=2, method=loss, views=("drawn", "other"), optimizer=sgd)
    half = one.run.model_copy(update={"gpus_per_node": 2, "batch_size": one.run.batch_size // 2})
    two = elsewhere(one, folder / "two").model_copy(update={"run": half})
    finish(one, folder)
    finish_two(two, folder / "two.json")
    return one, two


def rows(job: Job) -> list[dict]:
    return [json.loads(line) for line in Path(job.metrics).read_text().splitlines()]


def test_two_processes_under_torchrun_equal_one_with_the_same_global_batch(one_and_two):
    first, second = map(rows, one_and_two)
    assert len(first) == len(second) == 10
    for row, other in zip(first, second):
        assert row.keys() == other.keys()
        for name in row:
            # What is watched spreads rounding further than the loss does: Adam divides by small gradients.
            tolerance = 2e-4 if name == "loss" else 1e-2
            assert row[name] == pytest.approx(other[name], rel=tolerance), (row["step"], name)
    both = [torch.cat([t.flatten() for _, t in sorted(weights(job.model).items())]) for job in one_and_two]
    assert (both[0] - both[1]).norm() < 1e-3 * both[0].norm()


def test_two_processes_stopped_and_resumed_end_as_undisturbed_ones(one_and_two, tmp_path):
    job = elsewhere(one_and_two[1], tmp_path)
    process = start_two(job, tmp_path / "job.json")
    wait_for(lambda: step_now(job) >= 4, process)
    process.terminate()
    _, errors = process.communicate()
    assert process.returncode != 0
    assert list(Path(job.checkpoints).glob("step-*")), errors
    assert "going on from step" in finish_two(job, tmp_path / "job.json")
    losses, expected = ([row["loss"] for row in rows(run)] for run in (job, one_and_two[1]))
    assert losses == pytest.approx(expected, rel=1e-5) and len(losses) == 10


def test_the_rule_s_process_hands_a_warning_on_to_the_run(tmp_path):
    job = a_job(tmp_path, quality=False, method={})
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
