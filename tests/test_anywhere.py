"""GenView away from its checkout: installed from a wheel, in any folder, and as a part of another workflow."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from workspace import REPOSITORY

from genview import __main__ as command_line
from genview import home
from genview.commands import run, table
from genview.config import reference

CALLER = """
module genview:
    snakefile: "SNAKEFILE"
    config: {**config, "results": "elsewhere", "study": "part"}

use rule * from genview

rule own:
    input: rules.manifest.output.manifest
    output: "own.txt"
    shell: "touch {output}"

onstart:
    genview.check_before_start(workflow.dag)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The wheel, unpacked where nothing of the checkout is."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=REPOSITORY, capture_output=True)
    for name in listed.stdout.decode().splitlines():
        if not name.startswith(("tests/", "benchmarks/", "docs/")) and (REPOSITORY / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, source / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, source], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", folder / "site", wheel], check=True)
    return folder / "site"


def typed(site: Path, folder: Path, *words: str) -> subprocess.CompletedProcess:
    """What a user gets who types `genview ...` in a folder of his own."""
    others = [sysconfig.get_path("purelib")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *others])}
    return subprocess.run(
        [sys.executable, "-P", "-m", "genview", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
def test_a_study_is_planned_and_run_in_an_empty_folder_wherever_the_package_lies(installed, tmp_path):
    # A file of the user's that is named like a library must not be taken for it.
    (tmp_path / "yaml.py").write_text("raise SystemExit('the user\\'s own file was imported')\n")
    target = "results/smoke/data/manifest.parquet"
    planned = typed(installed, tmp_path, "run", "-n", "--configfile", "config/smoke.yaml")
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert "generate_views" in planned.stdout + planned.stderr
    made = typed(installed, tmp_path, "run", target, "--cores", "1", "--configfile", "config/smoke.yaml")
    assert made.returncode == 0, made.stdout + made.stderr
    assert (tmp_path / target).is_file()
    # The installation moves, as with an upgrade of Python: nothing is made anew.
    moved = installed.rename(installed.with_name("moved"))
    try:
        again = typed(moved, tmp_path, "run", "-n", target, "--configfile", "config/smoke.yaml")
    finally:
        moved.rename(installed)
    assert "Nothing to be done" in again.stdout + again.stderr, again.stdout + again.stderr


@pytest.mark.slow
def test_the_wheel_holds_the_workflow_and_checks_any_study_that_ships(installed, tmp_path):
    for folder in ("workflow", "config", "profiles", "envs"):
        for path in (REPOSITORY / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert (installed / "genview/shipped" / path.relative_to(REPOSITORY)).is_file(), path
    checked = typed(installed, tmp_path, "check", "--config", "config/smoke.yaml")
    assert checked.returncode == 0 and "can run" in checked.stdout, checked.stderr
    assert typed(installed, tmp_path, "check", "--config", "nothing.yaml").returncode == 1
    assert typed(installed, tmp_path, "chekc").returncode == 2


@pytest.mark.slow
def test_another_workflow_uses_this_one_with_its_own_configuration_and_results(tmp_path):
    (tmp_path / "Snakefile").write_text(CALLER.replace("SNAKEFILE", str(REPOSITORY / "workflow/Snakefile")))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}

    def snakemake(*words: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "snakemake", *words, "--cores", "1", "--rerun-triggers", "mtime", "input"]
        extends = ["--config", "extends=config/smoke.yaml"]
        done = subprocess.run([*command, *extends], cwd=tmp_path, env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    status, said = snakemake("all", "-n")
    assert status == 0 and "generate_views" in said, said[-3000:]
    status, said = snakemake("own")
    assert status == 0 and (tmp_path / "own.txt").is_file(), said[-3000:]
    assert (tmp_path / "elsewhere/part/data/manifest.parquet").is_file() and not (tmp_path / "results").exists()
    wanting = CALLER.replace('"study": "part"', '"study": "none", "dataset": {"source": "folder", "path": "nowhere"}')
    (tmp_path / "Snakefile").write_text(wanting.replace("SNAKEFILE", str(REPOSITORY / "workflow/Snakefile")))
    status, said = snakemake("manifest")
    assert status and "cannot run" in said and "nowhere" in said, "the checks before the first job do not run"


def test_shipped_profiles_and_studies_are_found_by_name_unless_the_folder_has_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = run.command(["views", "--profile", "slurm", "--configfile", "config/cc3m.yaml", "-n"])
    assert str(home.file("profiles/slurm")) in words and str(home.file("config/cc3m.yaml")) in words
    assert words.index("views") < words.index("--snakefile")
    assert str(home.file("profiles/default")) == words[words.index("--workflow-profile") + 1]
    (tmp_path / "slurm").mkdir()
    own = run.command(["--profile=slurm", "--workflow-profile", "none", "--configfile", "mine.yaml"])
    assert "--profile=slurm" in own and own.count("--workflow-profile") == 1 and "mine.yaml" in own


@pytest.mark.parametrize("name", table.COMMANDS)
def test_every_command_shows_an_example_and_the_exit_codes(name, capsys):
    with pytest.raises(SystemExit) as ended:
        command_line.main([name, "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0 and "example:\n  genview " in text and "exit status:" in text


def test_the_settings_page_is_that_of_the_settings():
    page = (REPOSITORY / "config/README.md").read_text()
    assert page == reference.text(), "write it anew: python -m genview config --reference > config/README.md"
    for word in ("gpus_per_node", "foreground_share", "noise_level", "maximum_rejects"):
        assert word in page
