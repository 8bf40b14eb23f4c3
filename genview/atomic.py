"""Files that are complete or absent: written under a temporary name on the same file system, then renamed.

A temporary name is the target's own name with the suffix ``.partial``; it is fixed, not random, so that a job
killed half-way leaves at most one such file and the next attempt overwrites and then renames it.
"""

import contextlib
import errno
import json
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from genview.errors import GenviewError

PARTIAL = ".partial"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _mode_of_new_files() -> int:
    """What the umask leaves of read and write for all; it can only be read by setting it, so it is asked once."""
    mask = os.umask(0o077)
    os.umask(mask)
    return 0o666 & ~mask


def _readable(path: Path) -> None:
    """Give a file the mode that the umask says: some libraries (safetensors) write for their owner alone."""
    mode = stat.S_IMODE(path.stat().st_mode)
    wanted = mode | _NEW_FILES
    if wanted != mode:
        path.chmod(wanted)


_NEW_FILES = _mode_of_new_files()


def _sync(path: Path) -> None:
    """Flush a file, or a directory's entries, to the disk: a rename must not overtake the data it publishes."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_REASONS = {
    errno.ENOSPC: "the disk is full; make space and run the same command again",
    errno.EDQUOT: "the disk quota is used up; make space and run the same command again",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
}


def refusal(error: BaseException | None) -> str | None:
    """Why the operating system refused to write, and the remedy; None if that is not what went wrong.

    Libraries written in other languages (safetensors, Arrow) raise errors of their own, which quote the system's.
    """
    while error is not None:
        for number, reason in _REASONS.items():
            quoted = number != errno.EACCES and os.strerror(number) in str(error)
            if quoted or (isinstance(error, OSError) and error.errno == number):
                return reason
        error = error.__cause__ or error.__context__
    return None


@contextlib.contextmanager
def explained(target: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write into a message that names the file and the remedy."""
    try:
        yield
    except GenviewError:
        raise
    except Exception as error:
        if reason := refusal(error):
            raise GenviewError(f"{target}: cannot be written: {reason}") from error
        raise


@contextlib.contextmanager
def writing(target: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``target``; on success it becomes ``target``, on failure it is removed.

    The caller creates a file or a directory at the yielded path. An existing target is replaced.

    Raises:
        GenviewError: the disk is full, the file system read-only, or permission denied.
    """
    target = Path(target)
    partial = target.with_name(target.name + PARTIAL)
    with explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove(partial)
        try:
            yield partial
            if partial.is_dir():
                for path in partial.rglob("*"):
                    if path.is_file():
                        _readable(path)
                        _sync(path)
                if target.is_dir():
                    _remove(target)
            else:
                _readable(partial)
                _sync(partial)
            os.replace(partial, target)
            _sync(target.parent)
        except BaseException:
            _remove(partial)
            raise


def write_text(target: str | Path, text: str) -> None:
    """Write UTF-8 text, complete or not at all."""
    with writing(target) as partial:
        partial.write_text(text, encoding="utf-8")


def write_bytes(target: str | Path, data: bytes) -> None:
    """Write bytes, complete or not at all."""
    with writing(target) as partial:
        partial.write_bytes(data)


def write_json(target: str | Path, value: Any) -> None:
    """Write JSON with sorted keys, so that equal values give equal bytes; NaN is refused.

    Raises:
        ValueError: ``value`` holds NaN or an infinity.
    """
    write_text(target, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")
