"""Honest re-runs: an edit re-runs exactly what it affects, and nothing else ever does (design: caching).

A lab loses GPU-weeks if a stage runs again for nothing, and its paper if a stage does not run again when it should.
Nothing is computed here: all outputs are noted as made, something is edited, and a dry-run says what would run.
"""

import os
import shutil

import pytest
from workspace import Workspace

pytestmark = pytest.mark.slow

EVALUATED = {"probe_features": 6, "probe": 6, "score_zeroshot": 4, "score_retrieval": 2}
ONE_RUN = {"probe_features": 3, "probe": 3, "score_zeroshot": 2, "score_retrieval": 1}
ENCODING = {"sample_features", "component", "token_scores"}
EVERYTHING = {"manifest", "guidance_score", "generate_views", "train", "report", *ENCODING, *EVALUATED}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Workspace:
    work = Workspace(tmp_path_factory.mktemp("reruns"))
    work.pretend_done()
    assert work.planned() == {}, "a finished study would run again"
    return work


@pytest.fixture
def edited(finished):
    """Edit files of the finished study; contents and times are put back afterwards."""
    kept = {}

    def edit(path: str, old: str, new: str) -> dict[str, int]:
        file = finished.root / path
        kept.setdefault(file, (file.read_bytes(), file.stat()))
        if old:
            finished.edit(path, old, new)
        else:
            finished.append(path, new)
        return finished.planned()

    yield edit
    for file, (content, status) in kept.items():
        file.write_bytes(content)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


ONE_SET = {"generate_views": 2, "audit": 1, "train": 1, **ONE_RUN, "report": 1}
SETTINGS = [
    ("  probe:\n    datasets", "  probe:\n    iterations: 77\n    datasets", {"probe": 6, "report": 1}),
    ("    mode: img\n    steps: 10", "    mode: img\n    steps: 9", ONE_SET),
    ("      switch_epoch: 12", "      switch_epoch: 11", {"train": 1, **ONE_RUN, "report": 1}),
    ("views:\n  img:", "audit: {images: 50}\nviews:\n  img:", {"audit": 3, "report": 1}),
]


@pytest.mark.parametrize(("old", "new", "expected"), SETTINGS, ids=["probe", "one view set", "one run", "audit"])
def test_a_setting_re_runs_exactly_the_rules_that_read_it_and_what_follows(edited, old, new, expected):
    assert edited("config/config.yaml", old, new) == expected


ORIENTED = {"orient_pca", "foreground_ratio"}
WITHOUT_ENCODING = [
    ("pca: {foreground_share: 0.5}", ORIENTED),
    ("pca: {threshold: 0.1}", ORIENTED),
    ("pca: {polarity: flipped}", ORIENTED),
    ("pca: {pictures: 4}", ORIENTED),
    ("noise_level: {strategy: constant, constant: 200}", set()),
    ("noise_level: {levels: [0, 50, 100]}", set()),
]


@pytest.mark.parametrize(("line", "expected"), WITHOUT_ENCODING, ids=[line for line, _ in WITHOUT_ENCODING])
def test_threshold_polarity_strategy_and_levels_encode_nothing_again(edited, line, expected):
    """To encode millions of images again for a new threshold would cost days."""
    planned = edited("config/config.yaml", "study: default", f"study: default\n{line}").keys()
    assert {"noise_level", "conditions"} <= planned and not planned & (ENCODING | {"manifest", "guidance_score"})
    assert planned & ORIENTED == expected


@pytest.mark.parametrize(
    ("old", "new"),
    [("study: default", "study: default\npca: {sample: 500}"), ("small/clip\n", "small/clip\n    image_size: 48\n")],
    ids=["another sample", "another image size"],
)
def test_another_sample_or_image_size_does_encode(edited, old, new):
    assert edited("config/config.yaml", old, new).keys() >= {"sample_features", "token_scores", *ORIENTED}


MODULES = [
    ("genview/training/losses/contrastive.py", {"train": 2, **EVALUATED, "report": 1}),
    ("genview/report/template.html", {"report": 1}),
    ("genview/evaluation/duplicates.py", {"find_duplicates": 3, "report": 1}),
    ("genview/audit/audit.py", {"audit": 3, "report": 1}),
    ("workflow/scripts/probe.py", {"probe": 6, "report": 1}),
]


@pytest.mark.parametrize(("path", "expected"), MODULES, ids=[path for path, _ in MODULES])
def test_a_module_re_runs_exactly_the_rules_that_import_it_and_what_follows(edited, path, expected):
    mark = "<!-- edited -->" if path.endswith("html") else "EDITED = 1"
    assert edited(path, "", f"\n{mark}\n") == expected


def test_code_at_the_bottom_of_the_house_re_runs_everything(edited):
    assert edited("genview/tables.py", "", "\nEDITED = 1\n").keys() >= EVERYTHING


def test_another_number_of_shards_makes_new_shards_and_mixes_with_no_old_ones(edited):
    planned = edited("config/config.yaml", "  shards: 2", "  shards: 3")
    assert planned["token_scores"] == 3 and planned["generate_views"] == 9 and planned["guidance_score"] == 3


def test_two_studies_in_one_results_folder_do_not_touch_each_other(finished):
    other = finished.planned("--configfile", "config/smoke.yaml")
    assert other.keys() >= EVERYTHING, "the other study takes artifacts of the first for its own"
    assert finished.planned() == {}


@pytest.fixture
def without_notes(finished):
    """Snakemake's own notes are gone, as after `rm -r .snakemake`, or were never made, as of a job that outlives it."""
    notes = finished.root / ".snakemake"
    shutil.move(notes, notes.with_name("kept"))
    yield
    shutil.rmtree(notes, ignore_errors=True)
    shutil.move(notes.with_name("kept"), notes)


@pytest.mark.usefixtures("without_notes")
def test_the_loss_of_snakemakes_own_notes_re_runs_nothing_but_what_changed(finished, edited):
    assert finished.planned() == {}
    code = edited("genview/evaluation/duplicates.py", "", "\nEDITED = 1\n")
    assert code == {"find_duplicates": 3, "report": 1}
    setting = edited("config/config.yaml", "  probe:\n    datasets", "  probe:\n    iterations: 78\n    datasets")
    assert setting == {"find_duplicates": 3, "probe": 6, "report": 1}


def test_looking_at_another_setting_and_going_back_re_runs_nothing(finished):
    assert finished.planned("--config", "seed=7").keys() >= EVERYTHING - {"token_scores"}
    assert finished.planned() == {}


def test_looking_at_another_branch_and_going_back_re_runs_nothing(finished):
    file = finished.root / "genview/training/losses/contrastive.py"
    code = file.read_bytes()
    finished.append("genview/training/losses/contrastive.py", "OF_ANOTHER_BRANCH = 1\n")
    assert finished.planned()["train"] == 2
    file.write_bytes(code)  # as git does, with a new time
    assert finished.planned() == {}


def test_touching_code_re_runs_nothing(tmp_path):
    work = Workspace(tmp_path / "touched")
    arguments = ("manifest", "--configfile", "config/smoke.yaml")
    work.snakemake(*arguments)
    for path in [*work.root.glob("genview/**/*.py"), *work.root.glob("workflow/**/*")]:
        os.utime(path)
    assert work.planned(*arguments) == {}


def test_words_about_the_code_re_run_nothing(edited):
    """600 GPU-hours of views must not hang on a comment."""
    assert edited("genview/data/images.py", "", "\n# edited\n") == {}
    assert edited("genview/tables.py", '"""Every table', '"""In other words, every table') == {}
    assert edited("workflow/scripts/views.py", "", "\n# edited\n") == {}


def test_data_files_and_started_modules_are_code(edited):
    assert "generate_views" not in edited("genview/evaluation/in100.txt", "", "n00000000\n")
    assert edited("genview/encoders/architectures/tiny.json", "", "\n").keys() >= {"train"}
    assert edited("genview/training/__main__.py", "", "\nEDITED = 1\n").keys() >= {"train"}
    assert edited("genview/data/reader.py", "", "\nEDITED = 1\n").keys() >= {"noise_level", "guidance_scale"}


def test_what_changes_no_result_re_runs_nothing(edited):
    assert edited("config/config.yaml", "  batch_size: 32\n", "  batch_size: 32\n  checkpoints: {keep: 5}\n") == {}
    assert edited("config/config.yaml", "small/clip\n", "small/clip\n    batch_size: 3\n") == {}


@pytest.mark.parametrize("kind", ["setting", "code"])
def test_back_from_b_to_a_without_notes_makes_a_anew(tmp_path, kind):
    """A, B, A without `.snakemake`: A's record is older than B's artifact, which must not pass for A's."""
    work = Workspace(tmp_path / "aba")
    arguments = ("manifest", "--configfile", "config/smoke.yaml", "--config")
    place = f"results={tmp_path / 'results'}"
    image = work.root / "genview/data/images.py"
    original = image.read_bytes()

    def run(which: str) -> dict[str, int]:
        image.write_bytes(original + (b"B = 1\n" if (which, kind) == ("B", "code") else b""))
        seed = f"seed={7 if (which, kind) == ('B', 'setting') else 42}"
        planned = work.planned(*arguments, place, seed)
        work.snakemake(*arguments, place, seed)
        assert work.planned(*arguments, place, seed) == {}
        shutil.rmtree(work.root / ".snakemake")
        return planned

    assert run("A") == {"manifest": 1}
    assert run("B") == {"manifest": 1}
    assert work.planned(*arguments, place, "seed=7" if kind == "setting" else "seed=42") == {} or kind == "code"
    assert run("A") == {"manifest": 1}, "B's artifact passes for A's"
    assert run("A") == {}
