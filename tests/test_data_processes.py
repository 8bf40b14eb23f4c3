"""Work in processes: results in order, nothing lost when one dies, nothing left behind when the job is killed."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from genview.data import processes


def square_or_die(number: int) -> int:
    if number in (13, 14, 70):
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.002 * (number % 3))
    return number * number


@pytest.mark.parametrize("workers", [2, 4])
def test_results_come_in_order_and_only_deadly_tasks_are_lost(workers):
    results = list(processes.ordered_map(square_or_die, range(100), workers=workers, crashed=lambda task: -task))
    assert results == [-number if number in (13, 14, 70) else number * number for number in range(100)]


def test_tasks_are_taken_as_they_are_needed():
    taken = []

    def endless():
        number = 0
        while True:
            taken.append(number)
            yield number
            number += 1

    results = processes.ordered_map(abs, endless(), workers=2, crashed=abs)
    assert [next(results) for _ in range(20)] == list(range(20))
    results.close()
    assert len(taken) < 40


def test_an_error_of_the_function_is_raised_not_swallowed():
    with pytest.raises(TypeError):
        list(processes.ordered_map(abs, [1, "a"], workers=2, crashed=abs))


def test_a_killed_job_leaves_no_process_behind(tmp_path):
    code = """
        import os, sys, time
        from genview.data import processes
        def work(number):
            open(f"{sys.argv[1]}/{os.getpid()}", "w").close()
            time.sleep(0.05)
        list(processes.ordered_map(work, range(10**6), workers=3, crashed=work))
    """
    job = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)])
    while len(list(tmp_path.iterdir())) < 3:
        time.sleep(0.01)
    job.send_signal(signal.SIGKILL)
    job.wait()
    workers = [Path("/proc") / path.name for path in tmp_path.iterdir()]
    deadline = time.monotonic() + 10
    while any(_alive(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(_alive(worker) for worker in workers)


def _alive(process: Path) -> bool:
    """Whether a process runs; one that has ended and waits to be noticed does not."""
    try:
        return (process / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
