"""If these fail, captions lose their scores, get those of others, or are paid for twice."""

import csv
from pathlib import Path

import pyarrow as pa
import pytest
from chat_models import language_model, teach
from started import Started

from genview import parquet, tables
from genview.conditions import guidance_scale
from genview.config.guidance import Guidance
from genview.data import manifest as manifests
from genview.errors import GenviewError
from genview.guidance import lexical, rubric, scoring
from genview.guidance.answers import Answer
from genview.guidance.language_model import Scorer as LanguageScorer

STAMP = {"stage": "guidance_score", "study": "test", "parameters": "p", "code": "c"}


def write_manifest(path, captions, shards=2):
    count = len(captions)
    rows = {
        "key": [f"folder/{n:04}" for n in range(count)],
        "path": [f"folder/{n:04}.jpg" for n in range(count)],
        "offset": [0] * count,
        "length": [1] * count,
        "caption": captions,
        "label": [None] * count,
        "width": [1] * count,
        "height": [1] * count,
        "sha256": ["0"] * count,
        "foreground_share": pa.nulls(count, pa.float32()),
        "attributes": pa.nulls(count, pa.string()),
    }
    table = manifests.assemble(pa.table(rows), shards)
    parquet.write(table, tables.MANIFEST, path, shards=str(shards))
    return path


CAPTIONS = [
    "a dog",
    "a red car",
    None,
    "two red cars at night",
    "  ",
    "赤い車",
    "An orange cat on a wooden bench at night",
]


def score_all(folder, scorer, shards=2):
    paths = []
    for index in range(shards):
        paths.append(folder / "guidance" / f"{index}-of-{shards}.parquet")
        scoring.run(
            scorer, manifest=folder / "manifest.parquet", group=f"{index}-of-{shards}", output=paths[-1], stamp=STAMP
        )
    return paths


def scales_of(folder, guidance, scores=(), **options):
    output = folder / "guidance_scale.parquet"
    guidance_scale.run(
        guidance,
        manifest=folder / "manifest.parquet",
        scores=scores,
        output=output,
        seed=options.pop("seed", 1),
        stamp=STAMP,
        **options,
    )
    return parquet.read(output, tables.GUIDANCE_SCALE)


def by_caption(folder, table, column):
    captions = manifests.read(folder / "manifest.parquet")
    assert table["key"].equals(captions["key"])
    return dict(zip(captions["caption"].to_pylist(), table[column].to_pylist()))


def test_every_image_gets_a_scale_and_what_cannot_be_scored_is_flagged(tmp_path):
    write_manifest(tmp_path / "manifest.parquet", CAPTIONS)
    scores = score_all(tmp_path, lexical.Scorer(Guidance()))
    table = scales_of(tmp_path, Guidance(default_scale=5, maximum_unscored=0.2), scores)
    found = by_caption(tmp_path, table, "guidance_scale")
    assert [found[caption] for caption in CAPTIONS] == [8, 6, 5, 6, 5, 5, 4]
    flagged = by_caption(tmp_path, table, "is_default")
    assert [caption for caption in CAPTIONS if flagged[caption]] == [None, "  ", "赤い車"]
    raw = parquet.read_shards(scores, tables.GUIDANCE)
    assert raw["raw_answer"].null_count == len(CAPTIONS) - 3


def test_too_many_captions_without_a_score_stop_the_study_with_what_was_answered(tmp_path):
    write_manifest(tmp_path / "manifest.parquet", ["a dog", "a red car", "two cats", "a house", None], shards=1)
    scorer = Counting(lexical.Scorer(Guidance()))
    scorer.fails = {"two cats"}
    scores = score_all(tmp_path, scorer, shards=1)
    with pytest.raises(GenviewError, match=r"1 of 4 captions.*share of 0\.2 .*1 times the answer was: \?"):
        scales_of(tmp_path, Guidance(maximum_unscored=0.2), scores)
    assert scales_of(tmp_path, Guidance(maximum_unscored=0.25), scores)["is_default"].to_pylist().count(True) == 2


def test_shards_do_not_change_the_scales(tmp_path):
    captions = [f"a {colour} dog number {n}" for n in range(20) for colour in ("red", "large blue", "")]
    found = []
    for shards in (1, 3, 8):
        folder = tmp_path / str(shards)
        write_manifest(folder / "manifest.parquet", captions, shards)
        table = scales_of(folder, Guidance(), score_all(folder, lexical.Scorer(Guidance()), shards))
        found.append(dict(zip(table["key"].to_pylist(), table["guidance_scale"].to_pylist())))
    assert found[0] == found[1] == found[2]


def test_constant_and_random_need_no_scores(tmp_path):
    write_manifest(tmp_path / "manifest.parquet", CAPTIONS)
    assert set(scales_of(tmp_path, Guidance(strategy="constant", constant=7))["guidance_scale"].to_pylist()) == {7}
    once = scales_of(tmp_path, Guidance(strategy="random"))
    assert once.equals(scales_of(tmp_path, Guidance(strategy="random")))
    assert not once.equals(scales_of(tmp_path, Guidance(strategy="random"), seed=2))
    assert set(once["guidance_scale"].to_pylist()) <= {2, 4, 6, 8}


def test_a_published_file_stands_in_for_the_stage(tmp_path, caplog):
    write_manifest(tmp_path / "manifest.parquet", CAPTIONS)
    given = tmp_path / "guidance_scale.csv"
    rows = [("folder/0001.jpg", "x", 2), ("folder/0000.jpg", "a dog", 9.5), ("folder/0003.jpg", "x", "3,")]
    rows += [("elsewhere/7.jpg", "x", 4)]
    with open(given, "w", newline="") as file:
        csv.writer(file).writerows([("image", "prompt", "guidance_scale"), *rows])
    table = scales_of(tmp_path, Guidance(given=str(given), default_scale=6), root=tmp_path)
    values = dict(zip(table["key"].to_pylist(), table["guidance_scale"].to_pylist()))
    assert (values["folder/0000"], values["folder/0001"], values["folder/0003"]) == (9.5, 2, 6)
    defaults = dict(zip(table["key"].to_pylist(), table["is_default"].to_pylist()))
    assert sum(defaults.values()) == len(CAPTIONS) - 2 and defaults["folder/0003"]
    assert "does not list 4" in caplog.text and "1 images that are not in the manifest" in caplog.text


def test_a_published_file_of_other_images_is_refused(tmp_path):
    write_manifest(tmp_path / "manifest.parquet", CAPTIONS)
    given = tmp_path / "guidance_scale.csv"
    given.write_text("image,prompt,guidance_scale\nother.jpg,x,4\n")
    with pytest.raises(GenviewError, match="lists no image"):
        scales_of(tmp_path, Guidance(given=str(given)))


def test_scores_of_another_manifest_are_refused(tmp_path):
    write_manifest(tmp_path / "manifest.parquet", CAPTIONS)
    scores = score_all(tmp_path, lexical.Scorer(Guidance()))
    write_manifest(tmp_path / "manifest.parquet", [*CAPTIONS, "one more"])
    with pytest.raises(GenviewError, match="1 images have none"):
        scales_of(tmp_path, Guidance(), scores)


def test_shards_made_by_different_settings_are_refused(tmp_path):
    write_manifest(tmp_path / "manifest.parquet", CAPTIONS)
    scores = score_all(tmp_path, lexical.Scorer(Guidance()))
    scoring.run(
        lexical.Scorer(Guidance()),
        manifest=tmp_path / "manifest.parquet",
        group="1-of-2",
        output=scores[1],
        stamp={**STAMP, "parameters": "other"},
    )
    with pytest.raises(GenviewError, match="not made alike"):
        scales_of(tmp_path, Guidance(), scores)


def test_an_empty_shard_and_one_image(tmp_path):
    write_manifest(tmp_path / "manifest.parquet", ["a red dog"], shards=3)
    table = scales_of(tmp_path, Guidance(), score_all(tmp_path, lexical.Scorer(Guidance()), shards=3))
    assert table["guidance_scale"].to_pylist() == [6]


class Counting:
    """A scorer that notes what it is asked, and may stop or fail on purpose."""

    is_costly = True

    def __init__(self, inner, batch_size=2):
        self.inner, self.batch_size, self.asked = inner, batch_size, []
        self.stop_after = None
        self.fails = set()

    def score(self, captions, images=None):
        if self.stop_after is not None and len(self.asked) >= self.stop_after:
            raise GenviewError("the server is gone")
        self.asked += captions
        made = self.inner.score(captions)
        return [Answer(None, raw_answer="?") if c in self.fails else a for c, a in zip(captions, made)]


def test_a_stopped_job_asks_only_for_what_is_missing(tmp_path):
    captions = [f"a {'red ' * (n % 3)}dog in house {n}" for n in range(10)]
    write_manifest(tmp_path / "manifest.parquet", captions, shards=1)
    scorer = Counting(lexical.Scorer(Guidance()))
    (undisturbed,) = score_all(tmp_path / "", scorer, shards=1)
    expected = undisturbed.read_bytes()
    undisturbed.unlink()
    scorer.asked, scorer.stop_after = [], 4
    with pytest.raises(GenviewError, match="gone"):
        score_all(tmp_path, scorer, shards=1)
    assert not undisturbed.exists()
    first, scorer.asked, scorer.stop_after = scorer.asked, [], None
    score_all(tmp_path, scorer, shards=1)
    assert len(first) == 4 and sorted(first + scorer.asked) == sorted(captions)
    assert undisturbed.read_bytes() == expected
    assert [path.name for path in undisturbed.parent.iterdir()] == [undisturbed.name], "side files must go"


def test_failed_rows_alone_are_asked_again(tmp_path):
    captions = ["a dog", "a red car", "two cats", "a house"]
    write_manifest(tmp_path / "manifest.parquet", [*captions, None], shards=1)
    scorer = Counting(lexical.Scorer(Guidance()))
    scorer.fails = {"two cats"}
    (path,) = score_all(tmp_path, scorer, shards=1)
    assert parquet.read(path, tables.GUIDANCE)["score"].null_count == 2
    scorer.asked, scorer.fails = [], set()
    path.unlink()  # as the workflow does when the rule is forced
    score_all(tmp_path, scorer, shards=1)
    assert scorer.asked == ["two cats"]
    assert parquet.read(path, tables.GUIDANCE)["score"].null_count == 1


def test_answers_under_other_settings_are_not_used(tmp_path):
    write_manifest(tmp_path / "manifest.parquet", ["a dog", "a red car", "two cats"], shards=1)
    scorer = Counting(lexical.Scorer(Guidance()))
    scorer.stop_after = 2
    with pytest.raises(GenviewError):
        score_all(tmp_path, scorer, shards=1)
    scorer.asked, scorer.stop_after = [], None
    scoring.run(
        scorer,
        manifest=tmp_path / "manifest.parquet",
        group="0-of-1",
        output=tmp_path / "guidance" / "0-of-1.parquet",
        stamp={**STAMP, "code": "newer"},
    )
    assert len(scorer.asked) == 3


@pytest.mark.slow
def test_a_job_killed_at_any_moment_ends_with_the_same_scores(tmp_path):
    """Killed twice for real, in the middle; the table equals the undisturbed one byte for byte."""
    captions = [f"a dog {n}" for n in range(40)]
    folder = teach(language_model(tmp_path / "model"), [(rubric.question(c), "[score: 2]") for c in captions[::20]])
    manifest = write_manifest(tmp_path / "manifest.parquet", captions, shards=1)
    guidance = Guidance(
        backend="language_model",
        model=str(folder),
        batch_size=4,
        procedure="generate",
        maximum_new_tokens=400,
        attempts=1,
    )
    expected = tmp_path / "expected" / "0-of-1.parquet"
    scoring.run(LanguageScorer(guidance), manifest=manifest, group="0-of-1", output=expected, stamp={"stage": "x"})
    output = tmp_path / "killed" / "0-of-1.parquet"
    journal = output.with_suffix(".answers.jsonl")
    before = 0
    for _ in range(2):
        words = (guidance.model_dump_json(), manifest, output)
        job = Started("score_captions", *words, errors=tmp_path / "errors.txt")
        job.wait_until(lambda size=before + 300: journal.exists() and journal.stat().st_size > size)
        job.kill()
        assert not output.exists(), "it must die before it is done"
        assert journal.stat().st_size > before, "it must have got on since the last time"
        before = journal.stat().st_size
    scoring.run(LanguageScorer(guidance), manifest=manifest, group="0-of-1", output=output, stamp={"stage": "x"})
    assert output.read_bytes() == expected.read_bytes()
    scored = parquet.read(output, tables.GUIDANCE)["score"]
    assert sorted(Path(output).parent.iterdir()) == ([output] if not scored.null_count else [journal, output])
