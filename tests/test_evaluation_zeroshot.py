"""Zero-shot classification and retrieval: the same numbers as clip_benchmark's, from the workflow and by itself."""

import json

import pytest
import torch
from clip_benchmark.metrics import zeroshot_classification, zeroshot_retrieval
from sklearn.metrics import balanced_accuracy_score
from started import Started

from genview.config.evaluation import LocalDataset
from genview.errors import GenviewError
from genview.evaluation import benchmark, frozen, prompts, retrieval, zeroshot
from genview.evaluation.datasets import Request
from genview.models import load as models

REQUEST = Request("scenes", LocalDataset(kind="scenes", train=12, test=150), seed=2)
COMMON = {"batch_size": 64, "workers": 0, "stamp": {"stage": "test"}}


@pytest.fixture(scope="module")
def model():
    return models.small_directory("small/clip")


@pytest.fixture(scope="module")
def classified(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("zeroshot") / "r.json"
    zeroshot.run(REQUEST, model=model, output=path, **COMMON)
    return json.loads(path.read_text())


def values(result):
    return {row["metric"]: row["value"] for row in result["results"]}


def test_classification_gives_clip_benchmarks_numbers(model, classified):
    encoder = frozen.load(model, layer="embedding", text=True)
    dataset = REQUEST.load()
    items = zeroshot.Labelled(dataset.test, encoder.transform, prompts.class_names(dataset))
    classifier = zeroshot_classification.zero_shot_classifier(
        encoder.model, encoder.tokenizer, items.classes, prompts.templates(dataset), "cpu", amp=False
    )
    loader = torch.utils.data.DataLoader(items, batch_size=32)
    logits, target = zeroshot_classification.run_classification(encoder.model, classifier, loader, "cpu", amp=False)
    predictions = logits.argmax(1)
    found = values(classified)
    assert found["top1"] == pytest.approx(float((predictions == target).float().mean()))
    assert found["mean_per_class"] == pytest.approx(balanced_accuracy_score(target, predictions))
    assert found["top1"] > 0.85
    assert classified["templates"] == ["a {c}"] and classified["split"] == {"test": 150}


def test_retrieval_gives_clip_benchmarks_numbers(model, tmp_path):
    retrieval.run(REQUEST, model=model, recall_at=(1, 5, 10), output=tmp_path / "r.json", **COMMON)
    found = json.loads((tmp_path / "r.json").read_text())
    assert [row["metric"] for row in found["results"]] == [
        f"{what}_recall_at_{k}" for what in ("image", "text") for k in (1, 5, 10)
    ]
    encoder = frozen.load(model, layer="embedding", text=True)
    dataset = REQUEST.load()
    items = retrieval.Captioned(dataset.test, encoder.transform)
    loader = torch.utils.data.DataLoader(items, batch_size=32, collate_fn=retrieval.image_captions_collate_fn)
    theirs = zeroshot_retrieval.evaluate(encoder.model, loader, encoder.tokenizer, "cpu", False, [1, 5, 10])
    for row in found["results"]:
        what, k = row["metric"].split("_")[0], row["metric"].split("_")[-1]
        assert row["value"] == pytest.approx(theirs[f"{what}_retrieval_recall@{k}"], abs=0.01)
        assert row["low"] <= row["value"] <= row["high"] and row["count"] == 150
    assert values(found)["image_recall_at_1"] > 0.5


def test_a_rank_beyond_the_number_of_images_is_refused(model, tmp_path):
    small = Request("scenes", LocalDataset(kind="scenes", train=12, test=6), seed=2)
    with pytest.raises(GenviewError, match="recall at 10 needs as many images, there are 6"):
        retrieval.run(small, model=model, recall_at=(1, 10), output=tmp_path / "r.json", **COMMON)


def test_captions_are_needed(tmp_path):
    dataset = Request("digits", seed=2).load()
    with pytest.raises(GenviewError, match="no test image has a caption"):
        retrieval.captioned_part(dataset.test, "digits")


def test_a_model_without_a_tokenizer_is_refused(model, tmp_path):
    for name in (frozen.CONFIGURATION, frozen.WEIGHTS):
        (tmp_path / name).write_bytes((model / name).read_bytes())
    with pytest.raises(GenviewError, match="no tokenizer"):
        zeroshot.run(REQUEST, model=tmp_path, output=tmp_path / "r.json", **COMMON)


def test_nothing_is_downloaded_unasked(model, tmp_path):
    request = Request("flickr30k", root=tmp_path)
    with pytest.raises(GenviewError, match=r"flickr30k.*no such folder"):
        retrieval.run(request, model=model, recall_at=(1,), output=tmp_path / "r.json", **COMMON)


def test_clip_benchmarks_class_names_fit_the_table():
    names = prompts._shipped("classnames")
    assert len(names["flowers"]) == 102 and len(names["imagenet1k"]) == 1000 and len(names["pets"]) == 37
    assert names["caltech101"][0] == "background" and len(names["caltech101"]) == 102


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    benchmark.export(REQUEST, folder / "labels")
    benchmark.export(REQUEST, folder / "captions", retrieval=True)
    return folder


RETRIEVAL = ("--task", "zeroshot_retrieval", "--recall_k", "1", "5", "--no_amp", "--num_workers", "0", "--quiet")


@pytest.mark.slow
def test_clip_benchmarks_own_command_line_loads_our_models_and_datasets(model, exported, tmp_path):
    results = []
    for module, words in (
        ("clip_benchmark.cli", ("--model", f"local-dir:{model}")),
        ("genview.evaluation.benchmark", ("--model_type", "genview", "--model", model)),
    ):
        output = tmp_path / f"{len(results)}.json"
        place = ("--dataset", "wds/scenes", "--dataset_root", exported / "captions", "--output", output)
        command = Started(module, "eval", *words, "--pretrained", "", *place, *RETRIEVAL, errors=tmp_path / "errors")
        assert command.wait() == 0, command.errors[-2000:]
        results.append(json.loads(output.read_text())["metrics"])
    assert results[0] == results[1] and results[0]["image_retrieval_recall@5"] > 0.8


@pytest.mark.slow
def test_clip_benchmarks_own_classification_agrees_with_the_workflow(model, exported, tmp_path, classified):
    words = ("--model", f"local-dir:{model}", "--pretrained", "", "--dataset", "wds/scenes", "--no_amp", "--quiet")
    place = ("--dataset_root", exported / "labels", "--output", tmp_path / "r.json", "--num_workers", "0")
    command = Started("clip_benchmark.cli", "eval", *words, *place, errors=tmp_path / "errors")
    assert command.wait() == 0, command.errors[-2000:]
    metrics = json.loads((tmp_path / "r.json").read_text())["metrics"]
    assert metrics["acc1"] == pytest.approx(values(classified)["top1"])
