"""The house's own rules: layers, light parsing, pinned versions. Broken, re-runs turn dishonest or installs differ."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "genview"
STAGES = ["data", "foreground", "guidance", "conditions", "generation", "audit", "training", "evaluation", "report"]
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; the import closure reads absolute ones"
            names.update([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])
    return names


def test_no_stage_imports_a_later_one_and_none_imports_the_workflow():
    for path in MODULES:
        names = imported(path)
        assert not any(name.split(".")[0] == "snakemake" for name in names), path
        stage = path.relative_to(PACKAGE).parts[0]
        if stage in STAGES:
            later = {f"genview.{name}" for name in STAGES[STAGES.index(stage) + 1 :]}
            wrong = {name for name in names if ".".join(name.split(".")[:2]) in later}
            assert not wrong, f"{path} imports {wrong}"


def test_the_workflow_and_the_checks_start_without_torch():
    light = "genview.config.load, genview.provenance, genview.parquet, genview.stage, genview.data.keys"
    code = f"import {light}, sys; assert 'torch' not in sys.modules and 'diffusers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)


def test_the_lock_pins_every_dependency_to_a_version_that_is_allowed_and_installed():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    lines = (REPOSITORY / "requirements.lock").read_text().splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    pinned = {canonicalize_name(name): number for name, number in pairs}
    assert not any("/" in line for line in lines), "the lock holds names and versions, no addresses"
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    for requirement in map(Requirement, wanted):
        if requirement.name != "genview":
            assert pinned[canonicalize_name(requirement.name)] in requirement.specifier, requirement
            assert version(requirement.name) == pinned[canonicalize_name(requirement.name)], requirement


def test_the_environment_installs_the_lock_and_the_package_on_the_python_of_the_project():
    environment = yaml.safe_load((REPOSITORY / "envs/genview.yaml").read_text())
    python, _, packages = environment["dependencies"]
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert python.removeprefix("python =") + ".0" in Requirement(f"python{project['requires-python']}").specifier
    assert packages["pip"] == ["-r ../requirements.lock", "-e .."]
    assert (REPOSITORY / "envs" / "../requirements.lock").is_file()


def test_nothing_in_the_repository_names_a_machine_or_runs_foreign_code():
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True).stdout.split()
    assert "genview/stage.py" in listed or not (REPOSITORY / ".git").exists()
    for name in listed:
        if (
            name.endswith((".py", ".smk", ".yaml", ".md", ".toml", "Snakefile", "Makefile"))
            and name != "tests/test_house.py"
        ):
            text = (REPOSITORY / name).read_text()
            for word in ("/work/", "/root/", "allow_pickle=True", "trust_remote_code=True"):
                assert word not in text, f"{name}: {word}"
            assert "import pickle" not in text or name.startswith("tests/"), name
            assert "torch.load(" not in text or "weights_only=True" in text, name


def rules() -> dict[str, dict[str, str]]:
    """What the rules with a script say of themselves, by the script's name; two rules may bear one name (`if`)."""
    found = {}
    for path in (REPOSITORY / "workflow" / "rules").glob("*.smk"):
        for name, body in re.findall(r"^ *rule (\w+):\n(.*?)(?=^ *rule |\Z)", path.read_text(), re.M | re.S):
            if script := re.search(r'"\.\./scripts/(\w+)\.py"', body):
                log = re.search(r'log:\n\s+(?:text=)?f"\{LOGS\}/(.*)\.log"', body)
                cost = re.search(r'benchmark:\n\s+f"\{COSTS\}/(.*)\.tsv"', body)
                found[script[1]] = {"rule": name, "log": log and log[1], "cost": cost and cost[1]}
    return found


def test_a_stage_has_one_word_in_rule_script_stamp_and_log():
    """A reader who has found one of them finds the others by the same word."""
    targets = re.findall(r"^rule (\w+):", (REPOSITORY / "workflow" / "rules" / "targets.smk").read_text(), re.M)
    seen = rules()
    assert len(seen) == len(list((REPOSITORY / "workflow" / "scripts").glob("*.py")))
    for script, rule in seen.items():
        word = re.search(
            r'stage\.job\(snakemake, "(\w+)"\)', (REPOSITORY / f"workflow/scripts/{script}.py").read_text()
        )[1]
        assert script == word or script.endswith(f"_{word}"), f"{script}.py: its stamp says {word}"
        assert rule["rule"] == word or (rule["rule"].endswith(f"_{word}") and word in targets), rule
        assert rule["cost"] in (None, rule["log"], str(Path(rule["log"]).parent)), rule


def test_public_functions_of_tensors_say_their_shapes():
    """Shapes stand in docstrings, in brackets: [B, T, D], [n], [...] for any; or the word scalar."""
    silent = []
    for path in sorted((REPOSITORY / "genview").rglob("*.py")):
        tree = ast.parse(path.read_text())
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
        holders: list[ast.Module | ast.ClassDef] = [tree, *classes]
        for holder in holders:
            said_of_class = ast.get_docstring(holder) or "" if isinstance(holder, ast.ClassDef) else ""
            for function in holder.body:
                if not isinstance(function, ast.FunctionDef) or function.name.startswith("_"):
                    continue
                arguments = [*function.args.args, *function.args.kwonlyargs]
                kinds = [argument.annotation for argument in arguments] + [function.returns]
                if any(kind and re.search(r"\b(Tensor|ndarray)\b", ast.unparse(kind)) for kind in kinds):
                    said = (ast.get_docstring(function) or "") + said_of_class
                    if not re.search(r"\[[^\]]*\]|\bscalars?\b|\bany shape\b", said, re.IGNORECASE):
                        silent.append(f"{path.relative_to(REPOSITORY)}:{function.lineno} {function.name}")
    assert not silent
