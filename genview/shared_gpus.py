"""GPUs of this machine, shared among the jobs of all workflows by locks that die with their process.

A workflow that runs its jobs on this machine names the devices in an environment variable. Each job then claims as many
as it needs and sees no other; what it starts for a long time (a training's processes) holds the claim as well, so that
a device is free only when the last process that computes on it has ended. Jobs of a cluster are given their devices by
the cluster, and claim nothing.
"""

import contextlib
import fcntl
import functools
import logging
import os
import re
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from genview.errors import GenviewError

logger = logging.getLogger("genview")

SHARED = "GENVIEW_GPUS"
"""Set by the workflow for its jobs: the devices that they share, as in ``CUDA_VISIBLE_DEVICES``."""
HELD = "GENVIEW_GPU_LOCKS"
"""Set by a job for the processes that it starts: the lock files of its devices."""
FOLDER = "GENVIEW_GPU_LOCK_FOLDER"
"""Where the lock files are, instead of a folder of the user's own in /tmp."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
PAUSE = 0.2
"""Seconds between two looks at devices that are in use."""

_GPU = re.compile(r"^GPU (\d+): .*\(UUID: (GPU-[^)]+)\)")
_SLICE = re.compile(r"^\s+MIG .*\(UUID: (MIG-[^)]+)\)")


_held: dict[Path, int] = {}  # lock files of this process's claim, and their descriptors


class Device(NamedTuple):
    """A device as CUDA is told of it, and a name that is the same whoever tells."""

    entry: str
    name: str


def visible(environment: Mapping[str, str] = os.environ) -> tuple[Device, ...]:
    """NVIDIA GPUs that this process may use, told without loading a driver; slices (MIG) count each.

    As CUDA reads it, ``CUDA_VISIBLE_DEVICES`` ends at the first entry that names no device.
    """
    there = _listed(shutil.which("nvidia-smi", path=environment.get("PATH")))
    entries = environment.get(VISIBLE)
    if entries is None:
        return there
    found: list[Device] = []
    for entry in (part.strip() for part in entries.split(",")):
        named = [device for device in there if entry and device.name.startswith(entry)]
        device = there[int(entry)] if entry.isdigit() and int(entry) < len(there) else None
        if device is None and len(named) == 1:
            device = named[0]
        if device is None or device.name in {other.name for other in found}:
            break
        found.append(Device(entry, device.name))
    return tuple(found)


@functools.cache
def _listed(program: str | None) -> tuple[Device, ...]:
    """All devices of the machine, in the order of their numbers."""
    if program is None:
        numbers = sorted(int(path.name[6:]) for path in Path("/dev").glob("nvidia*") if path.name[6:].isdigit())
        return tuple(Device(str(number), f"nvidia{number}") for number in numbers)
    try:
        text = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning("which GPUs there are is not known: %s", error)
        return ()
    devices: list[Device] = []
    whole = ""
    for line in text.splitlines():
        if gpu := _GPU.match(line):
            whole = gpu[2]
            devices.append(Device(gpu[1], whole))
        elif part := _SLICE.match(line):
            # A GPU that is cut into slices cannot be used as a whole.
            devices = [device for device in devices if device.name != whole]
            devices.append(Device(part[1], part[1]))
    return tuple(devices)


def share(devices: tuple[Device, ...]) -> None:
    """Let the jobs that this process will start share these devices, and no others; none: as if nothing were said."""
    if devices:
        os.environ[SHARED] = ",".join(device.entry for device in devices)


@contextlib.contextmanager
def claimed(count: int) -> Iterator[None]:
    """Wait for ``count`` devices, and let this process and those that it starts see them alone.

    Whoever waits is served in turn, so that a job of several devices is not passed by jobs of one for ever. Outside
    of a workflow on this machine nothing is claimed and nothing hidden.

    Raises:
        GenviewError: there are fewer devices than that.
    """
    if SHARED not in os.environ:
        yield
        return
    before = os.environ.get(VISIBLE)
    devices = visible({**os.environ, VISIBLE: os.environ[SHARED]})
    if count > len(devices):
        raise GenviewError(f"{count} GPUs are needed, but the jobs of this machine share {len(devices)}")
    try:
        chosen = _wait(devices, count) if count else []
        os.environ[VISIBLE] = ",".join(device.entry for device in chosen)
        os.environ[HELD] = os.pathsep.join(map(str, _held))
        yield
    finally:
        for descriptor in _held.values():
            os.close(descriptor)
        _held.clear()
        os.environ.pop(HELD, None)
        os.environ.pop(VISIBLE)
        if before is not None:
            os.environ[VISIBLE] = before


def _wait(devices: tuple[Device, ...], count: int) -> list[Device]:
    """Claim devices as they become free."""
    folder = _folder()
    chosen: list[Device] = []
    start = time.monotonic()
    turn = os.open(folder / "turn", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not _try(turn):
            logger.info("waiting for a GPU: other jobs are before this one")
            fcntl.flock(turn, fcntl.LOCK_EX)
        told = False
        while True:
            for device in devices:
                path = folder / f"{device.name}.lock"
                if path in _held or len(chosen) == count:
                    continue
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
                if not _try(descriptor):
                    os.close(descriptor)
                    continue
                # Shared from here on: the processes of a training hold it too. Nobody else tries, it is our turn.
                fcntl.flock(descriptor, fcntl.LOCK_SH)
                _held[path] = descriptor
                chosen.append(device)
            if len(chosen) == count:
                break
            if not told:
                logger.info("waiting for %d of %d GPUs, which other jobs use", count - len(chosen), len(devices))
                told = True
            time.sleep(PAUSE)
    finally:
        os.close(turn)
    logger.info("GPU %s, after %.0f s", ",".join(d.entry for d in chosen), time.monotonic() - start)
    return chosen


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _folder() -> Path:
    """The user's folder of lock files, which nobody else may write."""
    folder = Path(os.environ.get(FOLDER) or f"/tmp/genview-gpus-{os.getuid()}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise GenviewError(f"{folder} belongs to somebody else; set {FOLDER} to a folder of your own on this machine")
    return folder


def held() -> tuple[int, ...]:
    """Descriptors of this process's claim, for what it starts (``pass_fds``): that holds it from its first moment."""
    return tuple(_held.values())


def keep() -> None:
    """Hold the devices of the job that started this process until it ends, even if the job ends before."""
    for path in filter(None, os.environ.get(HELD, "").split(os.pathsep)):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        _held[Path(path)] = descriptor
