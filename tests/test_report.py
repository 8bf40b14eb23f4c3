"""The report must show what the artifacts say, to everyone, from one file."""

import base64
import html
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import miniature_study
import numpy as np
import pytest
from PIL import Image

from genview.report import aggregate, drawing, evaluation, foreground, origin, pictures, seeds, summary, wording
from genview.report.results import Results
from genview.report.summary import Measurement
from genview.results import StudyResults

ROOT = Path(__file__).parent.parent
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


def make(results: Path, images: int = 40, remove: tuple[str, ...] = (), **changes: object) -> Path:
    values = miniature_study.write(results, images, "miniature", **changes)
    folder = results / "miniature"
    for name in remove:
        shutil.rmtree(folder / name)
    miniature_study.report(values, folder)
    return folder


class Page(HTMLParser):
    """What a reader of the page's source would check by hand."""

    def __init__(self, text: str):
        super().__init__()
        self.identifiers: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.images: list[dict] = []
        self.drawings: list[dict] = []
        self.headings: list[int] = []
        self.references: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.identifiers += [values["id"]] if "id" in values else []
        self.links += [values["href"]] if tag == "a" else []
        self.references += [values["xlink:href"]] if tag == "use" else []
        self.sources += [values[name] for name in ("src", "srcset", "data") if name in values]
        self.sources += [values["href"]] if tag == "link" else []
        self.images += [values] if tag == "img" else []
        self.drawings += [values] if values.get("role") == "img" else []
        self.headings += [int(tag[1])] if re.fullmatch(r"h[1-6]", tag) else []


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def text(folder) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text) -> Page:
    return Page(text)


def test_the_page_needs_no_network(page, text):
    assert all(source.startswith("data:") for source in page.sources)
    assert not re.search(r"url\((?!#)|@import|<script", text)


def test_sections_come_in_the_order_of_the_study(text):
    places = [text.index(f'<section class="part" id="{name}"') for name in (
        "data", "foreground", "conditions", "views", "audit", "training", "evaluation", "duplicates", "origin"
    )]  # fmt: skip
    assert places == sorted(places)


def test_every_picture_says_what_it_shows(page):
    assert len(page.images) > 50 and all(image["alt"].strip() for image in page.images)
    assert len(page.drawings) >= 10 and all(len(drawing["aria-label"]) > 20 for drawing in page.drawings)


def test_every_figure_is_explained_in_words(text):
    assert text.count('<figure class="drawing">') == text.count("<figcaption>") >= 10


def test_a_level_is_drawn_with_levels_of_its_kind_only(folder):
    names = {file.name for file in (folder / "figures/audit").iterdir()}
    assert names == {"audit-clip-cosine-noise-level.svg"}


def test_headings_leave_out_no_level_and_every_link_leads_somewhere(page):
    assert page.headings[0] == 1 and page.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(page.headings, page.headings[1:]))
    targets = {link.removeprefix("#") for link in page.links} | {name.removeprefix("#") for name in page.references}
    assert targets <= set(page.identifiers)


def test_identifiers_are_unique(page):
    assert len(page.identifiers) == len(set(page.identifiers))


def test_text_from_outside_cannot_become_markup(text):
    assert "broken/&lt;b&gt;.jpg" in text and "broken/<b>.jpg" not in text


def test_pictures_are_the_images_of_the_study(page, folder):
    first = next(image for image in page.images if image["alt"].startswith("original: "))
    data = base64.b64decode(first["src"].split(",", 1)[1])
    path = folder / "shown.webp"
    path.write_bytes(data)
    shown = np.asarray(Image.open(path).convert("RGB"), int)
    from genview.data import scenes

    captions = {scenes.scene(index).caption: index for index in range(40)}
    drawn = scenes.scene(captions[first["alt"].removeprefix("original: ")]).image
    assert np.abs(shown - drawn).mean() < 8  # JPEG


def test_the_best_run_is_marked_only_where_its_interval_is_above_all_others(text):
    assert text.count('<span class="badge">') == 1
    row = text[text.index('<span class="badge">') - 200 : text.index('<span class="badge">')]
    assert "93.0" in row


@pytest.mark.parametrize(
    ("intervals", "marked"),
    [
        ([(0.5, 0.4, 0.6), (0.7, 0.65, 0.75)], 1),
        ([(0.5, 0.4, 0.6), (0.7, 0.59, 0.8)], None),
        ([(0.5, 0.4, 0.6), (0.9, None, None)], None),
        ([(0.9, 0.85, 0.95)], None),
        ([(0.9, 0.85, 0.95), (0.5, 0.4, 0.6), (0.9, 0.86, 0.94)], None),
    ],
)
def test_which_measurement_is_the_best(intervals, marked):
    rows = [Measurement("s", f"run{i}", "probes", "d", "top1", *values) for i, values in enumerate(intervals)]
    assert evaluation.best(rows) is (None if marked is None else rows[marked])


def test_runs_that_differ_in_their_seed_alone_are_averaged(tmp_path):
    runs = {"a-0": {"seed": 0}, "a-1": {"seed": 1}, "b-0": {"seed": 0, "epochs": 3}}
    assert seeds.seeds_apart(runs) == {"a": ["a-0", "a-1"]}
    values = miniature_study.write(tmp_path, 4, runs={"originals": {"seed": 0}, "all_views": {"seed": 1}})
    section = evaluation.section(StudyResults(tmp_path / "miniature", values))
    table = next(block for block in section.blocks if getattr(block, "title", "") == "Over seeds")
    assert table.rows[0][1].text == wording.percent((0.81 + 0.93) / 2)
    assert table.rows[0][1].note == "± 8.5, 2 seeds"


def test_two_tasks_with_one_metric_on_one_dataset_are_two_comparisons():
    rows = [
        Measurement("s", run, task, "digits", "top1", value, value - 0.01, value + 0.01)
        for task, values in (("probes", (0.9, 0.5)), ("zeroshot", (0.3, 0.8)))
        for run, value in zip(("a", "b"), values)
    ]
    said = evaluation.headline(rows)
    assert "2 comparisons" in said and "a is clearly the best in 1 and b is clearly the best in 1" in said
    assert "zero-shot on digits" in said and "80.0" in said and "30.0" in said


def test_a_study_tested_on_its_own_images_is_not_said_to_leak(tmp_path):
    values = miniature_study.write(tmp_path, 4)
    file = tmp_path / "miniature/evaluation/duplicates/digits.json"
    assert (
        "2 test images are pixel for pixel" in evaluation.duplicates(StudyResults(tmp_path / "miniature", values)).lead
    )
    file.write_text(json.dumps({**json.loads(file.read_text()), "note": "the test images are the study's own"}))
    assert "pixel for pixel" not in evaluation.duplicates(StudyResults(tmp_path / "miniature", values)).lead


def test_a_weak_orientation_is_said_at_the_head_of_the_page(tmp_path):
    values = miniature_study.write(tmp_path, 4)
    file = tmp_path / "miniature/foreground/small/pca.json"
    record = json.loads(file.read_text())
    assert "correlation" in foreground.section(StudyResults(tmp_path / "miniature", values)).summary
    file.write_text(json.dumps({**record, "orientation": {**record["orientation"], "weak": True}}))
    assert "in doubt" in foreground.section(StudyResults(tmp_path / "miniature", values)).summary


def test_chance_is_what_guessing_reaches():
    assert aggregate.chance({"classes": 10}, "knn_top1") == 0.1
    assert aggregate.chance({"classes": ["a", "b"]}, "top5") == 1
    assert aggregate.chance({"split": {"images": 1000}}, "text_recall_at_10") == 0.01
    assert aggregate.chance({}, "top1") is None


def test_the_summary_has_one_row_per_run_and_metric_and_reads_back(folder):
    rows = summary.read(folder / "summary.csv")
    assert len(rows) == 8
    assert len({(row.run, row.task, row.dataset, row.metric) for row in rows}) == 8
    probe = next(row for row in rows if row.run == "all_views" and row.metric == "top1" and row.task == "probes")
    assert (probe.value, probe.low, probe.high, probe.count) == pytest.approx((0.93, 0.91, 0.95, 1000))
    assert [row.low for row in rows if row.task == "zeroshot"] == [None, None]


def test_the_figures_are_files_of_their_own_too(folder, text):
    files = sorted((folder / "figures").rglob("*.svg"))
    assert len(files) == text.count('<figure class="drawing">')
    for file in files:
        content = file.read_text()
        assert content.startswith("<?xml") and "var(--" not in content


def test_two_reports_of_the_same_artifacts_have_equal_figures(folder, tmp_path):
    again = make(tmp_path)
    for file in sorted((folder / "figures").rglob("*.svg")):
        assert file.read_bytes() == (again / "figures" / file.relative_to(folder / "figures")).read_bytes()
    assert (folder / "summary.csv").read_bytes() == (again / "summary.csv").read_bytes()


def test_sections_without_artifacts_are_left_out(tmp_path):
    lacking = ("views", "runs", "probes", "zeroshot", "retrieval", "evaluation", "costs", "foreground")
    text = (make(tmp_path, remove=lacking) / "report.html").read_text()
    shown = re.findall(r'<section class="part" id="([a-z]+)"', text)
    assert shown == ["data", "conditions", "origin"]


def test_a_study_of_one_image_has_a_report(tmp_path):
    text = (make(tmp_path, images=1) / "report.html").read_text()
    assert 'id="foreground"' in text and 'id="views"' in text


def test_the_page_stays_small(folder):
    assert (folder / "report.html").stat().st_size < 3e6


def test_oriented_scores_decide_the_masks(tmp_path):
    """Scores are stored before the component is oriented; the report must turn them like the stages do."""
    import safetensors.numpy

    values = miniature_study.write(tmp_path, 6)
    file = tmp_path / "miniature/foreground/small/pca.safetensors"
    before = Results(tmp_path / "miniature", values).scores_of(["000001"])["000001"]
    tensors = safetensors.numpy.load_file(file)
    safetensors.numpy.save_file({**tensors, "sign": np.array(-1, np.int64)}, file)
    after = Results(tmp_path / "miniature", values)
    np.testing.assert_array_equal(after.scores_of(["000001"])["000001"], -before)
    (keys, batch), *_ = after.score_batches(100)
    np.testing.assert_array_equal(batch[keys.index("000002")], after.scores_of(["000002"])["000002"])


def test_a_mask_greys_exactly_the_background():
    image = Image.new("RGB", (8, 8), (250, 10, 10))
    mask = np.zeros((2, 2), bool)
    mask[0, 1] = True
    shown = np.asarray(pictures.masked(image, mask))
    assert (shown[:4, 4:] == (250, 10, 10)).all()
    assert (shown[4:, :, 0] == shown[4:, :, 1]).all()


def test_colours_of_a_figure_follow_the_page():
    with drawing.figure() as (figure, axes):
        axes.plot([0, 1], [0, 1], **drawing.series(1))
        text = drawing.svg(figure, "a")
    assert "var(--series-2, #c8590a)" in text and "#010112" not in text
    assert "#c8590a" in drawing.standalone(text) and "var(" not in drawing.standalone(text)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (wording.plural(1, "image"), "1 image"),
        (wording.plural(2, "query"), "2 queries"),
        (wording.count(1234567), "1\u202f234\u202f567"),
        (wording.percent(0.1234), "12.3\u202f%"),
        (wording.size(1_500_000), "1.5\u202fMB"),
        (wording.seconds(90), "1.5\u202fmin"),
        (wording.listing(["a", "b", "c"]), "a, b and c"),
    ],
)
def test_numbers_are_written_for_readers(written, expected):
    assert written == expected


MEASURE = """
addEventListener('load', () => {
  const page = document.querySelector('iframe').contentDocument, inner = document.querySelector('iframe').clientWidth;
  const outside = element => element.getBoundingClientRect().right > inner + 1;
  const wide = [...page.querySelectorAll('main *')].filter(e => !e.closest('.table, pre, svg') && outside(e));
  document.title = JSON.stringify({
    width: inner,
    over: page.documentElement.scrollWidth - inner,
    wide: wide.length,
    images: page.images.length,
    broken: [...page.images].filter(image => !image.complete || !image.naturalWidth).length,
  });
});
"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: apt-get install chromium)")
@pytest.mark.parametrize("width", [360, 820, 1440])
def test_a_browser_shows_the_page_without_sideways_scrolling_or_errors(folder, tmp_path, width):
    # A window cannot be narrower than 500 pixels; a frame can. Nothing in it may load later than the page does, so that
    # the frame is measured when the outer page has loaded, however busy the machine.
    page = (folder / "report.html").read_text().replace('loading="lazy"', "")
    frame = tmp_path / "frame.html"
    inside = f'<iframe srcdoc="{html.escape(page)}" width={width} height=900 style="border: 0"></iframe>'
    frame.write_text(f"<!doctype html><title></title><script>{MEASURE}</script>{inside}")
    words = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1600,1000"]
    words += [f"--user-data-dir={tmp_path}/profile", "--dump-dom", frame.as_uri()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    answer = re.search(r"<title>(\{.*?\})</title>", done.stdout)
    assert answer, done.stderr[-2000:] or done.stdout[:2000]
    found = json.loads(answer.group(1))
    assert found["width"] == width
    assert found["over"] <= 0 and found["wide"] == 0 and found["broken"] == 0 and found["images"] > 50, found


@pytest.mark.slow
def test_the_report_is_made_without_torch(tmp_path):
    program = (
        "import sys; sys.path.insert(0, 'tests'); from pathlib import Path; import test_report;"
        f"test_report.make(Path({str(tmp_path)!r}), 4); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_what_lies_there_from_other_settings_is_not_shown(tmp_path):
    """Two shards made anew as three, a test set dropped, a model trained anew since: old files stay on the disk."""
    values = miniature_study.write(tmp_path, 40)
    folder = tmp_path / "miniature"
    shown = Results(folder, values)
    views, scores, measured = list(shown.view_index("img", ["key"])), shown.score_shards(), summary.measurements(shown)
    for file in [*folder.glob("views/img/0-of-2.*"), *folder.glob("foreground/*/scores/0-of-2.parquet")]:
        for name in ("0-of-3", "2-of-3"):
            shutil.copy(file, file.with_name(f"{name}{file.suffix}"))
    for file in [*folder.glob("probes/*/digits.json"), folder / "evaluation/duplicates/digits.json"]:
        shutil.copy(file, file.with_name("dropped.json"))
    shown = Results(folder, values)
    assert list(shown.view_index("img", ["key"])) == views and shown.score_shards() == scores
    assert summary.measurements(shown) == measured and list(shown.duplicates()) == ["digits"]
    said = str(origin.section(StudyResults(folder, values)).blocks)
    assert "views/img/0-of-2.parquet" in said and "-of-3" not in said
