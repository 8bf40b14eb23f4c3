"""A stage's process: what happens to it when what started it is gone, or when its log takes nothing more."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

JOB = """
    import sys, time
    from genview import stage
    with stage.running():
        open(sys.argv[1], "w").close()
        time.sleep(60)
"""
WORKFLOW = """
    import subprocess, sys
    subprocess.run([sys.executable, "-c", sys.argv[1], sys.argv[2]])
"""


def alive(marker: Path) -> bool:
    """Whether a process runs that was given this path."""
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0") if folder.name.isdigit() else []
        except OSError:
            continue
        if str(marker).encode() in words:
            return True
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent was killed")
def test_a_job_ends_when_its_workflow_is_killed_so_that_the_next_start_does_not_double_it(tmp_path):
    marker = tmp_path / "started"
    words = [textwrap.dedent(WORKFLOW), textwrap.dedent(JOB), str(marker)]
    workflow = subprocess.Popen([sys.executable, "-c", *words])
    while not marker.exists() and workflow.poll() is None:
        time.sleep(0.02)
    assert alive(marker)
    os.kill(workflow.pid, signal.SIGKILL)
    workflow.wait()
    deadline = time.monotonic() + 10
    while alive(marker) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(marker)


def test_a_full_disk_that_takes_no_log_is_said_in_the_terminal():
    code = """
        from genview import atomic, stage
        with stage.running("/dev/full"):
            with atomic.writing("/dev/shm/genview-stage-test") as partial, open("/dev/full", "w") as file:
                file.write("x")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("genview: /dev/shm/genview-stage-test: cannot be written: the disk is full")
    assert "Traceback" not in done.stderr
