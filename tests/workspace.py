"""A copy of the repository in which tests run the workflow, edit code and configuration, and kill things."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
COPIED = (
    "Snakefile",
    "workflow",
    "profiles",
    "slurm",
    "config",
    "envs",
    "genview",
    "recipes",
    "snakemake_logger_plugin_genview",
    "pyproject.toml",
    "requirements.lock",
)
SNAKEMAKE = Path(sys.executable).with_name("snakemake")


class Workspace:
    """A working copy and the commands a user would type in it."""

    def __init__(self, root: Path):
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        for name in COPIED:
            source = REPOSITORY / name
            if source.is_symlink():
                (root / name).symlink_to(os.readlink(source))
            elif source.is_dir():
                shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
            else:
                shutil.copy2(source, root / name)
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(root),
            "PATH": f"{SNAKEMAKE.parent}:{os.environ['PATH']}",
        }

    def snakemake(
        self, *arguments: str, check: bool = True, timeout: int = 900, **extra: str
    ) -> subprocess.CompletedProcess:
        """Run snakemake as typed at the root of the repository."""
        done = subprocess.run(
            [str(SNAKEMAKE), *arguments],
            cwd=self.root,
            env={**self.environment, **extra},
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check and done.returncode:
            raise AssertionError(
                f"snakemake {' '.join(arguments)} failed:\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
            )
        return done

    def python(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        """Run python as typed at the root of the repository."""
        done = subprocess.run(
            [sys.executable, *arguments], cwd=self.root, env=self.environment, capture_output=True, text=True
        )
        assert not check or not done.returncode, done.stderr[-3000:]
        return done

    def start(self, *arguments: str, output: int = subprocess.PIPE, **options: Any) -> subprocess.Popen:
        """Start snakemake; what it prints goes to `output`, by default the process's standard output."""
        return subprocess.Popen(
            [str(SNAKEMAKE), *arguments],
            cwd=self.root,
            env=self.environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            **options,
        )

    def planned(self, *arguments: str) -> dict[str, int]:
        """What a dry-run would run: rule -> number of jobs (without ``all`` and the other targets by name)."""
        text = self.snakemake(*arguments, "-n", "--quiet", "host")
        text = text.stdout + text.stderr
        table = re.search(r"^job\s+count\n[-\s]+\n(.*?)^total", text, flags=re.MULTILINE | re.DOTALL)
        if not table:
            assert "Nothing to be done" in text, text[-3000:]
            return {}
        rows = (line.split() for line in table.group(1).splitlines() if line.strip())
        return {rule: int(count) for rule, count in rows if rule not in TARGETS}

    def outputs(self, *arguments: str) -> list[str]:
        """All files that the study would make."""
        text = self.snakemake("--detailed-summary", *arguments).stdout
        return [line.split("\t")[0] for line in text.splitlines()[1:] if "\t" in line]

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace text in a file of the working copy."""
        file = self.root / path
        text = file.read_text()
        assert old in text, f"{path} does not contain {old!r}"
        file.write_text(text.replace(old, new))

    def append(self, path: str, text: str) -> None:
        """Add a line to a file of the working copy: the smallest edit of code there is."""
        with open(self.root / path, "a") as file:
            file.write(text)

    def pretend_done(self) -> None:
        """Make every output as an empty file and have Snakemake take note of it, without running anything."""
        for name in self.outputs():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix:
                path.touch()
            else:
                path.mkdir(exist_ok=True)
        self.snakemake("--touch", "--forceall")


TARGETS = {"all"}
