"""Kill a study with SIGKILL at random moments, resume it with the same command, and compare with an undisturbed run.

``python tests/kills.py --kills 100`` prints the tally; the test suite runs a smaller number.
"""

import argparse
import contextlib
import hashlib
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

from workspace import SNAKEMAKE, Workspace

# Logs, costs and pictures may differ from run to run; everything else is compared byte for byte.
NOT_COMPARED = ("/logs/", "/costs/", "/tensorboard/")
NOT_COMPARED_ENDINGS = (".html", ".png", ".svg", ".log")


def digests(results: Path) -> dict[str, str]:
    """SHA-256 of every artifact below a folder of results, by relative path."""
    found = {}
    for path in sorted(results.rglob("*")):
        name = path.relative_to(results).as_posix()
        compared = not any(part in f"/{name}" for part in NOT_COMPARED) and not name.endswith(NOT_COMPARED_ENDINGS)
        if path.is_file() and compared:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def leftovers(results: Path) -> list[str]:
    """Temporary files and folders of unfinished work."""
    return [str(p.relative_to(results)) for p in results.rglob("*") if p.name.endswith(".partial") or p.name == ".work"]


def running_rules(work: Workspace) -> list[str]:
    """Names of the scripts and modules of the study's processes that run at this moment."""
    names = []
    for directory in Path("/proc").iterdir():
        with contextlib.suppress(OSError, IndexError):
            if directory.name.isdigit() and os.readlink(directory / "cwd") == str(work.root):
                words = (directory / "cmdline").read_bytes().decode().split("\0")
                scripts = [Path(word).stem for word in words if word.endswith(".py")]
                modules = [words[place + 1] for place, word in enumerate(words) if word == "-m"]
                names += [name.split(".", 1)[-1] for name in scripts + modules if name != "snakemake"]
    return names or ["workflow"]


def kill_everything(work: Workspace, leader: int) -> None:
    """SIGKILL to the workflow and to every process that works in its directory."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
    for directory in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if directory.name.isdigit() and os.readlink(directory / "cwd") == str(work.root):
                os.kill(int(directory.name), signal.SIGKILL)


def run_with_kills(work: Workspace, arguments: list[str], kills: int, seed: int, longest: float = 25.0) -> Counter:
    """Run a study to its end through ``kills`` kills; returns what was running when each kill fell.

    Once the study is complete, it is started afresh from an empty folder until all kills have been spent.
    """
    chance = random.Random(seed)
    tally: Counter = Counter(kills=0)
    while True:
        # The lock of a killed workflow is removed as the README says; then the very same command.
        work.snakemake("--unlock", *arguments, check=False)
        process = subprocess.Popen(
            [str(SNAKEMAKE), *arguments],
            cwd=work.root,
            env=work.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        last = tally["kills"] >= kills
        try:
            process.wait(timeout=1800 if last else chance.uniform(1.0, longest))
        except subprocess.TimeoutExpired:
            tally.update(set(running_rules(work)))
            tally["kills"] += 1
            kill_everything(work, process.pid)
            process.wait()
            continue
        assert process.returncode == 0, "the study failed by itself"
        if last:
            return tally
        for name in ("results", ".snakemake"):
            shutil.rmtree(work.root / name)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--configuration", default="config/smoke.yaml")
    options = parser.parse_args()
    arguments = ["--configfile", options.configuration, "--cores", "2"]
    with tempfile.TemporaryDirectory() as directory:
        calm, killed = Workspace(Path(directory) / "calm"), Workspace(Path(directory) / "killed")
        calm.snakemake(*arguments, timeout=3600)
        start = time.monotonic()
        tally = run_with_kills(killed, arguments, options.kills, options.seed)
        minutes = (time.monotonic() - start) / 60
        expected, found = digests(calm.root / "results"), digests(killed.root / "results")
        different = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        print(f"{tally.pop('kills')} kills in {minutes:.1f} minutes; running when killed: {dict(tally)}")
        print(f"{len(expected)} artifacts compared, {len(different)} differ: {different}")
        print(f"left behind: {leftovers(killed.root / 'results')}")
        raise SystemExit(bool(different or leftovers(killed.root / "results")))


if __name__ == "__main__":
    main()
