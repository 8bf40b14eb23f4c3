"""Every command that a docstring or a page of docs/ shows is run here, or by the test that the table names; a new one
that nobody has claimed fails the first test. README and CONTRIBUTING have a table of their own (``test_readme``).
"""

import ast
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_readme import CLAIMS as README
from workspace import Workspace

ROOT = Path(__file__).parent.parent
FOLDERS = ("genview", "recipes", "benchmarks", "workflow", "snakemake_logger_plugin_genview")
PROGRAM = r"(?:python|snakemake|make|clip_benchmark|genview)"

OPTIONS = "its options are those of the program, which takes long"
SHELL = "here, on small data"
CLAIMS = {
    'clip_benchmark eval --model local-dir:<folder> --pretrained ""': (
        "tests/test_evaluation_zeroshot.py::test_clip_benchmarks_own_command_line"
    ),
    "python -m genview.evaluation.benchmark export --config config/config.yaml --dataset scene_class "
    "--output scenes": SHELL,
    "python -m genview.evaluation.benchmark eval --model_type genview --model results/default/runs/all_views/model "
    '--pretrained "" --dataset wds/scenes --dataset_root scenes --output result.json': SHELL,
    "genview config": "tests/test_command_line.py::",
    "genview run": "tests/test_anywhere.py::test_a_study_is_planned_and_run_in_an_empty_folder",
    "genview COMMAND": "tests/test_anywhere.py::test_every_command_shows_an_example",
    "genview --help": "tests/test_anywhere.py::test_every_command_shows_an_example",
    "snakemake --help": "tests/test_anywhere.py::test_every_command_shows_an_example",
    "python -m genview compare": "tests/test_command_line.py::test_compare_shows_settings",
    "python -m genview.audit --config mine.yaml --view imgtxt --manifest data/manifest.parquet --views views "
    "--to audit": ("tests/test_stages_alone.py::test_each_stage_makes"),
    "python -m genview.conditions --config mine.yaml --manifest data/manifest.parquet --ratio "
    "foreground/foreground_ratio.parquet --scores guidance/*.parquet --to conditions": (
        "tests/test_stages_alone.py::test_each_stage_makes"
    ),
    "python -m genview.data --config mine.yaml --to data": ("tests/test_stages_alone.py::test_each_stage_makes"),
    "python -m genview.evaluation probe --config mine.yaml --model model --dataset digits --to evaluation": (
        "tests/test_stages_alone.py::test_a_model_is_evaluated"
    ),
    "python -m genview.foreground --config mine.yaml --manifest data/manifest.parquet --to foreground": (
        "tests/test_stages_alone.py::test_each_stage_makes"
    ),
    "python -m genview.generation --config mine.yaml --view imgtxt --manifest data/manifest.parquet "
    "--conditions conditions/conditions.parquet --to views": ("tests/test_stages_alone.py::test_each_stage_makes"),
    "python -m genview.guidance --config mine.yaml --manifest data/manifest.parquet --to guidance": (
        "tests/test_stages_alone.py::test_each_stage_makes"
    ),
    "python -m genview.training --job job.json": "tests/test_training_stop.py::",
    "python -m genview.training.agent": "tests/test_slurm.py::",
    "python -m recipes.small_models --help": OPTIONS,
    "python -m recipes.small_models PART --output FOLDER": "tests/test_small_models.py::",
    "snakemake --logger genview": "tests/test_terminal.py::",
}
"""Command -> how it is run here, or the file and the beginning of the name of what runs it elsewhere."""


def documented(text: str) -> Iterator[str]:
    """Commands of a docstring: indented lines, and those within sentences."""
    text = re.sub(r"\s*\\\n\s*", " ", text)
    for found in re.findall(rf"^ {{4}}({PROGRAM} .+)$|``?({PROGRAM} [^`]+)``?", text, flags=re.MULTILINE):
        yield " ".join(re.sub(r"\s+#\s.*", "", "".join(found)).split())


def docstrings() -> Iterator[tuple[str, str]]:
    """File and docstring of every module, class and function."""
    for path in (path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (text := ast.get_docstring(node)):
                yield path.relative_to(ROOT).as_posix(), text


def commands() -> dict[str, str]:
    """Commands and the file that shows each."""
    found = {command: file for file, text in docstrings() for command in documented(text)}
    for page in sorted((ROOT / "docs").glob("**/*.md")):
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
            lines = re.sub(r"\s*\\\n\s*", " ", block).splitlines()
            shown = (re.sub(r"\s+#\s.*", "", line).removeprefix("$ ").strip() for line in lines)
            found |= {line: page.name for line in shown if re.match(PROGRAM + " ", line)}
    return found


BENCHMARKS = {command for command in commands() if command.startswith("python benchmarks/")}


def test_every_command_is_claimed_and_no_claim_is_of_a_command_that_is_gone():
    unclaimed = {
        command: file for command, file in commands().items() if command not in {*CLAIMS, *README, *BENCHMARKS}
    }
    assert not unclaimed, "say in this file's table how each is run"
    assert CLAIMS.keys() <= commands().keys()


@pytest.mark.parametrize("claim", sorted({claim for claim in CLAIMS.values() if "::" in claim}))
def test_what_is_said_to_run_a_command_elsewhere_is_there(claim):
    file, name = claim.split("::")
    assert re.search(rf"^def {name}", (ROOT / file).read_text(), flags=re.MULTILINE)


def program(words: list[str]) -> Path:
    """The file that a command runs."""
    if words[1] != "-m":
        return ROOT / words[1]
    module = ROOT / words[2].replace(".", "/")
    return module / "__main__.py" if module.is_dir() else module.with_suffix(".py")


@pytest.mark.parametrize("command", sorted({*BENCHMARKS, *(name for name, how in CLAIMS.items() if how == OPTIONS)}))
def test_a_command_that_takes_long_has_the_options_that_are_shown(command):
    words = shlex.split(command)
    tree = ast.parse(program(words).read_text(encoding="utf-8"))
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    taken = {
        argument.value
        for call in calls
        if getattr(call.func, "attr", "") == "add_argument"
        for argument in call.args
        if isinstance(argument, ast.Constant)
    }
    assert {word for word in words if word.startswith("--")} <= {*taken, "--help"}


@pytest.mark.slow
def test_a_dataset_is_exported_and_a_model_evaluated_as_the_docstring_shows(tmp_path):
    """The two lines as typed; the small study and the shipped model stand for the trained ones."""
    work = Workspace(tmp_path / "work")
    model = ROOT / "genview/models/small/clip"
    for command in (name for name, how in CLAIMS.items() if how == SHELL):
        line = command.replace("config/config.yaml", "config/smoke.yaml").replace("python ", f"{sys.executable} ", 1)
        line = line.replace("results/default/runs/all_views/model", str(model))
        more = " --num_workers 0 --no_amp --quiet" if " eval " in line else ""
        done = subprocess.run(
            ["bash", "-c", line + more],
            cwd=work.root,
            env=work.environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-2000:]
    assert (work.root / "scenes/test/0.tar").is_file() and (work.root / "scenes/classnames.txt").is_file()
    assert json.loads((work.root / "result.json").read_text())["metrics"]["acc1"] > 0.7
