"""Kill a study with SIGKILL at random moments, resume it with the same command, and compare with an undisturbed run.

Most kills hit all of the study's processes at once, as a power cut does; some hit the workflow alone, as the kernel
does when memory runs out: the jobs must then end by themselves, or the same command would start them a second time.

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

from workspace import Workspace

# Logs, costs and pictures may differ from run to run; everything else is compared byte for byte.
NOT_COMPARED = ("/logs/", "/costs/", "/tensorboard/")
NOT_COMPARED_ENDINGS = (".html", ".png", ".svg", ".log")

WORKFLOW = ["workflow"]
"""What runs where no job does."""


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
    return sorted(set(names)) or WORKFLOW


def kill(work: Workspace, leader: int, alone: bool) -> None:
    """SIGKILL to the workflow and, unless ``alone``, to every process that works in its directory."""
    if alone:
        os.kill(leader, signal.SIGKILL)
        return
    os.killpg(leader, signal.SIGKILL)
    for directory in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if directory.name.isdigit() and os.readlink(directory / "cwd") == str(work.root):
                os.kill(int(directory.name), signal.SIGKILL)


def finished_jobs(work: Workspace) -> int:
    """Jobs of the study that are done: each leaves a file of what it cost."""
    return sum(1 for _ in work.root.glob("results/*/costs/**/*.tsv"))


def unlock(work: Workspace, arguments: list[str], properly: bool) -> None:
    """Remove the lock of a killed workflow as the README says; or, quicker, what that command removes."""
    if properly:
        work.snakemake("--unlock", *arguments)
    else:
        shutil.rmtree(work.root / ".snakemake/locks", ignore_errors=True)


def wait_for_the_moment(work: Workspace, process: subprocess.Popen, jobs: int, chance: random.Random) -> bool:
    """Sleep until ``jobs`` jobs are done and one runs, and some moments more; False if the study ended by itself.

    Now and then the moment is an early one, in which the workflow still reads what there is.
    """
    if chance.random() < 0.1:
        time.sleep(chance.uniform(0.2, 2.0))
        return process.poll() is None
    while finished_jobs(work) < jobs or running_rules(work) == WORKFLOW:
        time.sleep(0.2)
        if process.poll() is not None:
            return False
    time.sleep(chance.uniform(0.0, 3.0))
    return process.poll() is None


def run_with_kills(
    work: Workspace, arguments: list[str], kills: int, seed: int, jobs: int, in_one_study: int = 34
) -> Counter:
    """Run a study to its end through ``kills`` kills; returns what was running when each kill fell.

    The kills are spread evenly over the study's jobs, each at a random moment. A study takes no more than
    ``in_one_study`` of them; then it is started afresh from an empty folder, until all have been spent.

    Args:
        work: where the study runs.
        arguments: of snakemake.
        kills: how many.
        seed: of the moments.
        jobs: how many jobs the study has.
        in_one_study: kills at most in one pass through the study.
    """
    chance = random.Random(seed)
    tally: Counter = Counter(kills=0)
    while True:
        wanted = min(in_one_study, kills - tally["kills"])
        fallen = 0
        while True:
            with open(work.root / "said.log", "w") as said:
                process = work.start(*arguments, output=said.fileno(), start_new_session=True)
            if fallen == wanted:
                process.wait(timeout=1800)
            elif wait_for_the_moment(work, process, jobs * fallen // wanted, chance):
                tally.update(set(running_rules(work)))
                tally["kills"] += 1
                alone = chance.random() < 0.25
                tally["of the workflow alone"] += alone
                kill(work, process.pid, alone)
                process.wait()
                unlock(work, arguments, properly=fallen == 0)
                fallen += 1
                continue
            assert process.returncode == 0, (
                f"the study failed by itself:\n{(work.root / 'said.log').read_text()[-6000:]}"
            )
            break
        if tally["kills"] >= kills:
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
        start = time.monotonic()
        calm.snakemake(*arguments, timeout=3600)
        print(
            f"an undisturbed study: {finished_jobs(calm)} jobs, {(time.monotonic() - start) / 60:.1f} minutes",
            flush=True,
        )
        start = time.monotonic()
        tally = run_with_kills(killed, arguments, options.kills, options.seed, finished_jobs(calm))
        minutes = (time.monotonic() - start) / 60
        expected, found = digests(calm.root / "results"), digests(killed.root / "results")
        different = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        left = leftovers(killed.root / "results")
        print(
            f"{tally.pop('kills')} kills, {tally.pop('of the workflow alone')} of the workflow alone, in {minutes:.1f} "
            "minutes; running when killed (often two at a time):"
        )
        for name, count in tally.most_common():
            print(f"{count:6}  {name}")
        print(f"{len(expected)} artifacts compared with an undisturbed study's, {len(different)} differ {different}")
        print(f"left behind: {left or 'nothing'}")
        raise SystemExit(bool(different or left))


if __name__ == "__main__":
    main()
