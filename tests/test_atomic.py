"""A file is complete or absent: half a file taken for a whole one is a study's worst error."""

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from genview import atomic
from genview.errors import GenviewError


def test_a_file_appears_complete(tmp_path):
    target = tmp_path / "deep/er/t.txt"
    with atomic.writing(target) as partial:
        partial.write_text("half")
        assert not target.exists()
        partial.write_text("whole")
    assert target.read_text() == "whole" and os.listdir(target.parent) == ["t.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_after_a_failure_the_old_file_stands_and_nothing_else(tmp_path, error):
    atomic.write_text(tmp_path / "t.txt", "old")
    with pytest.raises(error), atomic.writing(tmp_path / "t.txt") as partial:
        partial.write_text("new")
        raise error
    assert (tmp_path / "t.txt").read_text() == "old" and os.listdir(tmp_path) == ["t.txt"]


def test_a_folder_replaces_a_folder(tmp_path):
    for content in ("old", "new"):
        with atomic.writing(tmp_path / "d") as partial:
            partial.mkdir()
            (partial / content).write_text(content)
    assert os.listdir(tmp_path / "d") == ["new"] and os.listdir(tmp_path) == ["d"]


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "the disk is full"), (errno.EDQUOT, "quota"), (errno.EROFS, "read-only"), (errno.EACCES, "denied")],
)
def test_the_system_s_refusal_names_the_file_and_the_remedy(tmp_path, number, words):
    with (
        pytest.raises(GenviewError, match=rf"t\.txt: cannot be written: .*{words}"),
        atomic.writing(tmp_path / "t.txt"),
    ):
        raise OSError(number, os.strerror(number))


def test_a_really_full_disk_is_a_message():
    with (
        pytest.raises(GenviewError, match="the disk is full"),
        atomic.writing("/dev/shm/genview-full-test"),
        open("/dev/full", "wb") as file,
    ):
        file.write(b"x")


def test_json_is_equal_for_equal_values_and_knows_no_nan(tmp_path):
    atomic.write_json(tmp_path / "a.json", {"b": 1, "a": "é"})
    atomic.write_json(tmp_path / "b.json", {"a": "é", "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": "é", "b": 1}
    with pytest.raises(ValueError):
        atomic.write_json(tmp_path / "c.json", float("nan"))
    assert not (tmp_path / "c.json").exists()


def test_killed_at_any_moment_the_file_is_old_or_new_and_whole(tmp_path):
    code = """
        import sys
        from genview import atomic
        for i in range(10**9):
            with atomic.writing(sys.argv[1]) as partial:
                with open(partial, "wb") as file:
                    for _ in range(50):
                        file.write(bytes([i % 256]) * 4096)
    """
    target = tmp_path / "t.bin"
    for moment in (0.0, 0.011, 0.023, 0.037):
        process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), str(target)])
        while not target.exists():
            time.sleep(0.005)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.wait()
        data = target.read_bytes()
        assert len(data) == 50 * 4096 and len(set(data)) == 1
        assert set(os.listdir(tmp_path)) <= {"t.bin", "t.bin.partial"}
    atomic.write_text(target, "next")  # what a killed job left is in nobody's way
    assert os.listdir(tmp_path) == ["t.bin"] and target.read_text() == "next"
