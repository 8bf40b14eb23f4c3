"""Every command that README, CONTRIBUTING and the pages of docs show is run here, or by the test that the table names.

A document that lies costs a newcomer an hour. A command that nobody has claimed fails the test.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image
from workspace import Workspace

from genview.data import scenes

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = "\n".join(page.read_text() for page in PAGES)
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
COMMAND = r"`((?:snakemake|python|make) [^`]+)`"


def commands() -> set[str]:
    """The lines of the blocks without a language, without their comments, and the commands within sentences."""
    lines = [line for language, block in BLOCKS if not language for line in block.splitlines()]
    shown = [re.sub(r"\s+# .*", "", line).strip() for line in lines]
    prose = re.sub(r"^```.*?^```", "", TEXT, flags=re.MULTILINE | re.DOTALL)
    return {line for line in [*shown, *re.findall(COMMAND, prose)] if line}


RUN, PLAN, PLAN_SMALL = "as it is", "dry-run", "dry-run of the smoke study"
MAKE, PARSED = "make -n", "parsed: it takes long"
CLAIMS = {
    "make study": MAKE,
    "make test": MAKE,
    "make test-fast": MAKE,
    "make test-pythons": MAKE,
    "make lock": MAKE,
    "make docs": "tests/test_readme.py::test_the_pages_build",
    ". .venv/bin/activate": "Makefile::$(VENV)/installed",
    "python -m genview check --config mine.yaml": RUN,
    "snakemake --configfile mine.yaml": PLAN,
    "snakemake -n": RUN,
    "snakemake results/default/probes/all_views/digits.json": PLAN,
    "snakemake pca": PLAN,
    "snakemake --forcerun manifest": PLAN,
    "snakemake --forcerun sample_features": PLAN,
    'python -m genview accept generate_views --reason "a message was reworded"': "tests/test_acceptance.py::test_a_de",
    "genview fetch --config config/photos.yaml --dry-run": "tests/test_fetch.py::test_one_command_fetches",
    "genview fetch --config config/photos.yaml": "tests/test_fetch.py::test_one_command_fetches",
    "python -m genview config": RUN,
    "python -m genview remake img 0000000 --to view.jpg": "tests/test_study.py::test_any_view_is_made_again",
    "python -m genview export published": "tests/test_study.py::test_any_view_is_made_again",
    "snakemake --forcerun guidance_score": PLAN,
    "snakemake --configfile config/cc3m.yaml -n": PLAN_SMALL,
    "python benchmarks/methods.py": PARSED,
    "python benchmarks/diva.py": PARSED,
    "python benchmarks/on_gpu.py": PARSED,
    "python -m genview.foreground --help": "tests/test_stages_alone.py::test_every_stage_says",
    "python -m genview config --reference > config/README.md": "tests/test_anywhere.py::test_the_settings_page_is",
    "python -m genview compare results/default results/mine": "tests/test_command_line.py::test_compare_shows_settings",
    "snakemake --rulegraph mermaid-js": "tests/test_readme.py::test_the_mermaid_picture",
    "python -m recipes.pictures": "tests/test_study.py::test_the_pictures_of_the_readme",
    "snakemake --unlock": "tests/test_study.py::test_killed_at_random_moments",
    "snakemake --profile slurm --configfile config/cc3m.yaml -n": PLAN_SMALL,
    "snakemake --profile slurm --configfile config/cc3m.yaml": "tests/test_slurm.py::test_the_whole_study_runs_as_jobs",
    "python benchmarks/small_models.py": PARSED,
    "python benchmarks/real_sizes.py": PARSED,
    "python benchmarks/ablation.py": PARSED,
    "python benchmarks/loader.py": PARSED,
    "python benchmarks/scale.py": PARSED,
    "python benchmarks/planning.py": PARSED,
    "python tests/sources.py": "tests/test_sources.py::test_a_collection_is_taken_whole",
    "python tests/kills.py --kills 100": "tests/test_study.py::test_killed_at_random_moments",
}
"""Command -> how it is run here, or the file and the beginning of the name of what runs it elsewhere."""


def test_every_command_is_claimed_and_no_claim_is_of_a_command_that_is_gone():
    assert commands() == CLAIMS.keys()


@pytest.mark.parametrize("claim", sorted(claim for claim in CLAIMS.values() if "::" in claim))
def test_what_is_said_to_run_a_command_elsewhere_is_there(claim):
    file, name = claim.split("::")
    assert re.search(rf"^(def )?{re.escape(name)}", (ROOT / file).read_text(), flags=re.MULTILINE)


def test_the_pages_build_without_a_broken_link(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shown = {name: (tmp_path / name / "index.html").read_text() for name in ("settings", "tables")}
    assert "confirm_hours" in shown["settings"] and "foreground_ratio" in shown["tables"]


def test_links_of_the_readme_lead_somewhere():
    for link in re.findall(r"\]\((?!https?:|#)([^)]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / link.split("#")[0]).exists(), link


@pytest.mark.slow
def test_the_mermaid_picture_shows_the_rules_that_there_are(edges_of_the_default_study):
    (picture,) = (block for language, block in BLOCKS if language == "mermaid")
    drawn = set(re.findall(r"(\w+) --> (\w+)", picture))
    assert drawn == reduced(edges_of_the_default_study)


def reduced(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Arrows that no chain of other arrows implies."""
    after: dict[str, set[str]] = {}
    for one, other in edges:
        after.setdefault(one, set()).add(other)

    def reached(start: str) -> set[str]:
        found = set()
        pending = list(after.get(start, ()))
        while pending:
            name = pending.pop()
            if name not in found:
                found.add(name)
                pending.extend(after.get(name, ()))
        return found

    return {
        (one, other)
        for one, other in edges
        if not any(other in reached(between) for between in after[one] if between != other)
    }


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Workspace:
    """A copy of the repository, with the study of one's own that the README describes."""
    work = Workspace(tmp_path_factory.mktemp("readme"))
    (mine,) = (block for language, block in BLOCKS if language == "yaml" and "study: mine" in block)
    (work.root / "mine.yaml").write_text(mine)
    photos = work.root / Path(yaml.safe_load(mine)["dataset"]["path"])
    photos.parent.mkdir()
    drawn = [scenes.scene(index, seed=3, size=48) for index in range(64)]
    for index, scene in enumerate(drawn):
        Image.fromarray(scene.image).save(photos.parent / f"{index}.png")
    rows = [f"{index}.png,{scene.caption},{scenes.CLASSES[scene.class_index]}" for index, scene in enumerate(drawn)]
    photos.write_text("\n".join(["image,prompt,label", *rows]) + "\n")
    return work


def in_shell(work: Workspace, command: str) -> str:
    """Run a line as typed; returns what it printed."""
    done = subprocess.run(
        ["bash", "-c", command], cwd=work.root, env=work.environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def edges_of_the_default_study(work) -> set[tuple[str, str]]:
    text = in_shell(work, "snakemake --rulegraph mermaid-js")
    names = dict(re.findall(r"^\t(id\d+)\[(\w+)\]", text, flags=re.MULTILINE))
    arrows = re.findall(r"^\t(id\d+) --> (id\d+)", text, flags=re.MULTILINE)
    return {(names[one], names[other]) for one, other in arrows if names[other] != "all"}


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for command, how in CLAIMS.items() if how in (RUN, PLAN, PLAN_SMALL)])
def test_a_command_works_as_typed(work, command):
    how = CLAIMS[command]
    if how == PLAN_SMALL:
        command = command.replace("config/cc3m.yaml", "config/smoke.yaml")
    if how != RUN:
        command = command.removesuffix(" -n") + " -n --quiet host"
    printed = in_shell(work, command)
    if how != RUN:
        assert "This was a dry-run" in printed


@pytest.mark.slow
def test_ones_own_images_are_taken_in(work):
    in_shell(work, "snakemake manifest --configfile mine.yaml")
    assert (work.root / "results/mine/data/manifest.parquet").is_file()


@pytest.mark.parametrize("command", [command for command, how in CLAIMS.items() if how in (MAKE, PARSED)])
def test_a_command_that_would_take_long_exists(command):
    how = CLAIMS[command]
    words = shlex.split(command)
    if how == MAKE:
        words = ["make", "-n", *words[1:]]
    else:
        words = [sys.executable, "-c", "import ast, sys; ast.parse(open(sys.argv[1]).read())", words[1]]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
