"""What a person sees while a study runs: where it is, how long it takes, where the logs are, and every error."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from snakemake_logger_plugin_genview.jobs import Jobs
from snakemake_logger_plugin_genview.reasons import in_words

ROOT = Path(__file__).parent.parent
SNAKEFILE = """
rule all:
    input: "made/a", "made/b"

rule step:
    input: "code.py"
    output: "made/{name}"
    log: "logs/step/{name}.log"
    shell: "echo 'x: 3 of 10, 1.00 image/s, 00:03 spent, 00:07 left' > {log}; sleep 1.6; touch {output}"

rule broken:
    input: "code.py"
    output: "broken"
    log: "logs/broken.log"
    shell: "sleep 1.2; echo in the log > {log}; printf 'one\\ntwo\\nthree\\n' >&2; exit 1"
"""


class Screen:
    """What stays on a terminal's screen, for the few sequences that the display uses."""

    def __init__(self, text: str):
        self.lines, row, column = [""], 0, 0
        for part in re.findall(r"\x1b\[[\d;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
            if part == "\r":
                column = 0
            elif part == "\n":
                row, column = row + 1, 0
                self.lines += [""] * (row + 1 - len(self.lines))
            elif part == "\x1b[J":
                self.lines[row:] = [self.lines[row][:column]]
            elif part.startswith("\x1b["):
                row -= int(part[2:-1] or 1) if part.endswith("A") else 0
            else:
                old = self.lines[row].ljust(column)
                self.lines[row] = old[:column] + part + old[column + len(part) :]
                column += len(part)

    def __contains__(self, line: str) -> bool:
        return any(line in shown for shown in self.lines)


@pytest.fixture
def workflow(tmp_path) -> Path:
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "code.py").touch()
    return tmp_path


def words(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "snakemake", "--logger", "genview", "--show-failed-logs", "-c2", *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "", "NO_COLOR": ""}


def in_a_pipe(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(words(*arguments), cwd=folder, env=environment(), capture_output=True, text=True, timeout=120)


def in_a_terminal(folder: Path, *arguments: str) -> str:
    mine, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 30, 100, 0, 0))
    process = subprocess.Popen(words(*arguments), cwd=folder, env=environment(), stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(mine, 65536):
            shown += part
    except OSError:  # the other end was closed
        pass
    process.wait(timeout=60)
    return shown.decode()


def test_in_a_terminal_each_running_job_shows_its_progress_and_its_log(workflow):
    shown = in_a_terminal(workflow)
    assert "step a" in shown and "3 of 10, 1.00 image/s" in shown and "00:07 left" in shown
    assert "log: logs/step/a.log" in shown and "code.py" not in shown
    screen = Screen(shown)
    assert "[3 of 3] all" in screen and "[1 of 3] step" in screen
    assert "image/s" not in screen, "the picture of the running jobs must go when they end"


@pytest.mark.parametrize("run", [in_a_terminal, lambda *words: in_a_pipe(*words).stderr], ids=["terminal", "pipe"])
def test_nothing_of_a_failure_is_hidden(workflow, run):
    screen = Screen(run(workflow, "broken"))
    for line in ("Error in rule broken", "logs/broken.log", "in the log", "one", "two", "three"):
        assert line in screen, (line, screen.lines)


def test_in_a_pipe_each_job_is_one_line(workflow):
    done = in_a_pipe(workflow)
    assert done.returncode == 0 and "\x1b" not in done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("[")] == [
        *(f"[{n} of 3] step {name}, 0:00:02 (new)" for n, name in enumerate(re.findall(r"step (\w)", done.stderr), 1)),
        "[3 of 3] all",
    ]


def test_a_dry_run_is_a_table_and_a_reason_for_each_job(workflow):
    done = in_a_pipe(workflow, "-n")
    assert "step a: new" in done.stdout and "step b: new" in done.stdout
    assert done.stdout.count("Job stats:") == 1 and "dry-run" in done.stdout


def test_an_error_before_the_first_job_is_shown(workflow):
    done = in_a_pipe(workflow, "no/such/file")
    assert done.returncode and "no/such/file" in done.stderr


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("Missing output files: a, b; Input files updated by another job: c", "new"),
        ("Input files updated by another job: c", "after earlier jobs"),
        ("Updated input files: genview/tables.py", "changed: genview/tables.py"),
        ("Updated input files: a, b, c, d, e", "changed: a, b, c and 2 more"),
        ("Set of input files has changed since last execution", "other inputs"),
        ("Something new of Snakemake: x", "Something new of Snakemake: x"),
    ],
)
def test_reasons_are_a_few_words_and_none_is_lost(reason, expected):
    assert in_words(reason) == expected


CHANGED, OTHER = "Updated input files: code, {now}; ", "Set of input files has changed since last execution"
SAID = "settings changed, run.epochs from 2 to 3"


@pytest.mark.parametrize(
    ("times", "reason", "expected"),
    [
        (
            {"then": 1, "output": 2, "now": 3},
            CHANGED + OTHER,
            f"changed: code, {SAID}",
        ),
        ({"now": 1, "then": 2, "output": 3}, OTHER, SAID),
        ({"then": 1, "output": 2, "looked at": 3, "now": 4}, OTHER, SAID),
        ({"then": 1, "now": 2, "output": 3}, OTHER, "other inputs"),
        ({"then": 1, "now": 2}, "Missing output files: output", "new"),
    ],
    ids=["changed", "changed back", "others were looked at", "of long ago", "new"],
)
def test_changed_settings_are_told_by_name_and_value(tmp_path, times, reason, expected):
    folder = tmp_path / "settings/train"
    folder.mkdir(parents=True)
    contents = {"then": {"run": {"epochs": 2, "loss": "a"}}, "now": {"run": {"epochs": 3, "loss": "a"}}}
    for name, time in times.items():
        file = tmp_path / "output" if name == "output" else folder / f"{name}.json"
        file.write_text(json.dumps(contents.get(name, {})))
        os.utime(file, (time, time))
    now = str(folder / "now.json")
    assert in_words(reason.format(now=now), ["code", now], [str(tmp_path / "output")]) == expected


def test_changed_code_is_told_by_its_file(tmp_path):
    folder, output = tmp_path / "code/train", tmp_path / "output"
    folder.mkdir(parents=True)
    files = {"then": {"loop.py": "a", "losses.py": "b"}, "now": {"loop.py": "a", "losses.py": "c" * 64}}
    for time, (name, digests) in enumerate(files.items()):
        record = folder / f"{name}.json"
        record.write_text(json.dumps(digests))
        os.utime(record, (time, time))
    output.touch()
    os.utime(output, (0, 0))
    reason = f"Updated input files: {record}"
    assert in_words(reason, [str(record)], [str(output)]) == "code changed, losses.py"


def test_the_time_left_counts_what_is_known_and_names_what_is_not():
    progress = Jobs()
    progress.plan({"quick": 3, "slow": 1, "all": 1, "total": 5})
    job = {"output": ["x"], "wildcards": {}, "log": [], "reason": "", "input": []}
    progress.start({**job, "rule_name": "quick", "jobid": 1})
    progress.started -= 10
    progress.running[1].started -= 10
    progress.finish(1)
    assert progress.left() == "at least 0:00:20 left (not timed yet: slow)"


def test_the_picture_fits_the_terminal(tmp_path):
    log = tmp_path / "log"
    log.write_text("2026-01-01 10:00:00,123 INFO " + "long " * 90 + "\n")
    progress = Jobs()
    for number in range(50):
        values = {"output": ["x"], "wildcards": {"n": number}, "log": [log], "reason": "", "input": []}
        progress.start({**values, "rule_name": "rule", "jobid": number})
    lines = progress.picture(20)
    assert len(lines) < 20 and "and 42 more jobs" in lines[-1].plain
