"""Processes of a test's own, to be killed: real ones, whose imports alone are shared.

Importing torch and what stands on it takes longer than what most of them do. They are forked from a server that has
imported it and done nothing else (a fork of a process that has used autograd could not train).
"""

import multiprocessing
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

METHOD: Final = "forkserver"
_server = multiprocessing.get_context(METHOD)
_server.set_forkserver_preload(["genview.generation.views", "genview.training.loop.trainer"])


def _main(module: str, arguments: list[str], errors: Path) -> None:
    with errors.open("w") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


class Started:
    """``python -m module arguments``, running; what it writes to standard error goes to a file."""

    def __init__(self, module: str, *arguments: str | Path, errors: Path):
        self._errors = errors
        self._process = _server.Process(target=_main, args=(module, [str(word) for word in arguments], errors))
        self._process.start()

    @property
    def errors(self) -> str:
        """What it has said on standard error."""
        return self._errors.read_text()

    def runs(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.is_alive()

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self._process.pid, number)

    def wait(self, seconds: float = 300) -> int:
        """Wait for the end; returns the exit status, of a killed process the signal's number below zero."""
        self._process.join(seconds)
        if self._process.exitcode is None:
            raise TimeoutError(self.errors)
        return self._process.exitcode

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        self.send(signal.SIGKILL)
        assert self.wait() == -signal.SIGKILL, self.errors

    def wait_until(self, condition: Callable[[], bool], seconds: float = 300, pause: float = 0.005) -> None:
        """Return as soon as the condition holds, or the process has ended."""
        deadline = time.monotonic() + seconds
        while not condition() and self.runs():
            assert time.monotonic() < deadline, self.errors
            time.sleep(pause)
