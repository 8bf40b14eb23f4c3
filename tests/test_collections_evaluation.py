"""Evaluation sets as people have them: parts, several captions, packed and half unpacked, before a training."""

import json
import os
import subprocess
import sys

import pytest
from collections_of_others import picture, pictures, table, tar

from genview import preflight
from genview.config import load
from genview.config.evaluation import LocalDataset
from genview.errors import GenviewError
from genview.evaluation import complete, local, retrieval
from genview.evaluation.datasets import Request
from genview.models import load as models


def classes(root, *parts, each=4):
    """Class folders of cats and dogs in each part."""
    for number, part in enumerate(parts):
        for index in range(2 * each):
            name = f"{part}/{'cat' if index % 2 else 'dog'}/{index}.png"
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(picture(100 * number + index))
    return root


def opened(path, purpose="probe", **block):
    kind = "image_folder" if path.is_dir() else "table"
    return local.load("own", LocalDataset(kind=kind, path=str(path), **block), seed=1, purpose=purpose)


def sizes(dataset):
    return len(dataset.train), len(dataset.validation or ()), len(dataset.test)


def problems(task, names, **block):
    """What the check before the start says of datasets for evaluation."""
    values = {"evaluation": {**block, task: {"datasets": names}}}
    return [problem.text for problem in preflight.problems(load.parse(values)) if problem.stage == "evaluation"]


def test_hidden_files_and_folders_are_no_classes_and_no_images(tmp_path):
    root = classes(tmp_path / "set", "train", "test")
    pictures(root, "train/.cache/cat/9.png", "train/cat/._1.png", "test/.DS_Store/1.png", "train/dog/.old/7.png")
    found = opened(root)
    assert found.classes == ("cat", "dog") and sizes(found) == (8, 0, 8)
    pictures(root, "train/cat/9.heic.txt")
    assert opened(root).classes == ("cat", "dog")


@pytest.mark.parametrize("validation", ["val", "Valid", "validation"])
def test_without_a_test_part_the_validation_part_stands_for_it(tmp_path, validation):
    root = classes(tmp_path / "set", "train", validation)
    found = opened(root)
    assert sizes(found) == (8, 0, 8) and "validation part is the test part" in found.split_rule
    rows = [(f"set/{part}/{label}.png", label, part) for part in ("train", "val") for label in "ab"]
    pictures(tmp_path, *(path for path, *_ in rows))
    found = opened(table(tmp_path / "t.csv", [("image", "label", "split"), *rows]))
    assert sizes(found) == (2, 0, 2) and "validation part is the test part" in found.split_rule


def test_zeroshot_uses_all_of_a_set_that_has_a_test_part_alone_and_a_probe_divides_it(tmp_path):
    root = classes(tmp_path / "set", "test")
    assert sizes(opened(root, "zeroshot")) == (0, 0, 8)
    found = opened(root)
    assert sizes(found) == (6, 0, 2) and "only a part test is given" in found.split_rule


@pytest.fixture
def captioned(tmp_path):
    """Six pictures with five captions each, in a table without labels and parts."""
    names = [f"{index}.png" for index in range(6)]
    pictures(tmp_path, *names)
    rows = [(name, f"{name} from side {side}") for side in range(5) for name in names]
    return table(tmp_path / "t.csv", [("filepath", "title"), *rows])


def test_a_retrieval_set_needs_captions_alone_and_counts_each_image_once(captioned, tmp_path):
    request = Request("own", LocalDataset(kind="table", path=str(captioned)), seed=1)
    retrieval.run(
        request,
        model=models.small_directory("small/clip"),
        recall_at=(1, 6),
        batch_size=4,
        workers=0,
        output=tmp_path / "r.json",
        stamp={"stage": "test"},
    )
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["split"] == {"images": 6, "captions": 30}
    rows = {row["metric"]: row for row in found["results"]}
    assert rows["image_recall_at_6"]["value"] == 1 and rows["image_recall_at_1"]["count"] == 30
    assert rows["text_recall_at_1"]["count"] == 6
    with pytest.raises(GenviewError, match="no column 'label'"):
        opened(captioned)


def test_rows_that_disagree_about_an_image_are_named(tmp_path):
    pictures(tmp_path, "0.png", "1.png")
    for rows, words in (
        ([("0.png", "a", "x"), ("0.png", "b", "y")], "row 2: lists 0.png with another label or split than row 1"),
        ([("0.png", "a", "x"), ("1.png", "b", "y"), ("./0.png", "a", "x")], "row 3: lists 0.png again, as row 1"),
        ([("0.png", "a", "x"), ("1.png", "b", "-1")], r"row 2: empty label \(or -1"),
    ):
        with pytest.raises(GenviewError, match=words):
            opened(table(tmp_path / "t.csv", [("image", "prompt", "label"), *rows]))
    rows = [("0.png", "x", "train"), ("1.png", "y", "")]
    with pytest.raises(GenviewError, match="row 2: no split, while other rows have one"):
        opened(table(tmp_path / "t.csv", [("image", "label", "split"), *rows]))


def packed(root, kind="retrieval", parts=("test",), **files):
    """A folder in clip_benchmark's WebDataset form: eight images in two tars for each part."""
    for part in parts:
        for number in range(2):
            members = {}
            for index in range(4):
                members[f"s{index}.png"] = picture(10 * number + index + len(part))
                label = (
                    {"s.cls": str(index % 2)} if kind != "retrieval" else {"s.txt": f"first {index}\nsecond {index}"}
                )
                members |= {name.replace("s.", f"s{index}."): text for name, text in label.items()}
            tar(root / part / f"{number}.tar", members)
        (root / part / "nshards.txt").write_text("2\n")
    (root / "dataset_type.txt").write_text(f"{kind}\n")
    for name, text in files.items():
        (root / f"{name}.txt").write_text(text)
    return root


def test_packed_sets_are_opened_for_what_they_hold(tmp_path):
    packed(tmp_path / "captions")
    packed(tmp_path / "labels", "classification", ("train", "test"), classnames="a_b/c\ndog\n")
    found = Request("wds/captions", root=tmp_path).load("retrieval")
    assert sizes(found) == (0, 0, 8) and found.test.captions[1] == ("first 1", "second 1")
    found = Request("wds/labels", root=tmp_path).load()
    assert sizes(found) == (8, 0, 8) and found.classes == ("a_b/c", "dog")
    assert found.test.labels.tolist() == [0, 1, 0, 1] * 2
    asked = {"root": str(tmp_path), "download": False}
    assert problems("retrieval", ["wds/captions"], **asked) == []
    assert problems("zeroshot", ["wds/labels"], **asked) == problems("probe", ["wds/labels"], **asked) == []
    assert "has labels, not captions" in problems("retrieval", ["wds/labels"], **asked)[0]
    assert "is a set for retrieval" in problems("zeroshot", ["wds/captions"], **asked)[0]
    (tmp_path / "labels/test/1.tar").unlink()
    assert "1 of 2 tars are missing: test/1.tar" in problems("zeroshot", ["wds/labels"], **asked)[0]


def test_nothing_is_fetched_where_a_list_of_captions_is_missing(tmp_path, monkeypatch):
    called = tmp_path / "called"
    for program in ("wget", "curl", "kaggle", "gdown"):
        path = tmp_path / "bin" / program
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\necho {program} >> {called}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    sets = {"flickr30k": "flickr30k_test_karpathy.txt", "flickr8k": "karpathy", "mscoco_captions": "coco_test_karpathy"}
    for name, missing in sets.items():
        pictures(tmp_path / name, "1.jpg")
        (said,) = problems("retrieval", [name], root=str(tmp_path))
        assert missing in said and "evaluation.download" in said
        with pytest.raises(GenviewError, match=missing):
            Request(name, root=tmp_path).load("retrieval")
    (tmp_path / "flickr30k/flickr30k_test_karpathy.txt").write_text("image,caption\n1.jpg,a\n1.jpg,b\n2.jpg,c\n")
    assert "1 of 2 images are missing, such as 2.jpg" in problems("retrieval", ["flickr30k"], root=str(tmp_path))[0]
    pictures(tmp_path / "flickr30k", "1.jpg", "2.jpg")
    found = Request("flickr30k", root=tmp_path).load("retrieval")
    assert [found.test.captions[row] for row in range(2)] == [("a", "b"), ("c",)]
    assert not called.exists()


@pytest.mark.parametrize(
    ("name", "there", "missing"),
    [
        ("in1k", ("imagenet/train/n1/a.JPEG", "imagenet/val/n1/b.JPEG"), "devkit"),
        (
            "in100",
            ("imagenet/meta.bin", "imagenet/train/n1/a.JPEG", "imagenet/train/.old/a.JPEG"),
            "the folder val|.old",
        ),
        ("flowers", ("flowers-102/jpg/image_00001.jpg",), "imagelabels.mat, setid.mat"),
        (
            "pets",
            ("oxford-iiit-pet/images/a_1.jpg", "oxford-iiit-pet/annotations/trainval.txt"),
            "annotations/test.txt",
        ),
        ("dtd", ("dtd/dtd/images/a/1.jpg", "dtd/dtd/labels/train1.txt"), "labels/val1.txt"),
        ("cifar100", ("cifar-100-python/train",), "meta, test"),
    ],
)
def test_a_half_unpacked_official_set_is_found_by_the_check_by_name(tmp_path, name, there, missing):
    pictures(tmp_path, *there)
    (said,) = problems("probe", [name], root=str(tmp_path))
    assert name in said and any(part in said for part in missing.split("|"))


def test_pictures_that_an_official_list_names_and_that_are_not_there_are_found(tmp_path):
    labels = tmp_path / "dtd/dtd/labels"
    pictures(tmp_path / "dtd/dtd/images", "a/1.jpg")
    labels.mkdir()
    for part in ("train", "val", "test"):
        (labels / f"{part}1.txt").write_text(f"a/1.jpg\na/{part}.jpg\n")
    assert complete.missing("dtd", tmp_path) == (
        "missing or incomplete: images/a/train.jpg, images/a/val.jpg, images/a/test.jpg"
    )
    pictures(tmp_path / "dtd/dtd/images", "a/train.jpg", "a/val.jpg", "a/test.jpg")
    assert complete.missing("dtd", tmp_path) is None


def test_the_check_finds_in_ones_own_set_what_would_stop_its_evaluation(tmp_path):
    root = classes(tmp_path / "set", "train", "test")
    block = {"datasets": {"own": {"kind": "image_folder", "path": str(root)}}}
    assert problems("probe", ["own"], **block) == []
    (root / "test/cat/copied.png").write_bytes((root / "train/cat/1.png").read_bytes())
    (said,) = problems("probe", ["own"], **block)
    assert "1 of 9 test images are training images too" in said and "test/cat/copied.png is" in said
    assert "train/cat/1.png" in said
    (root / "test/cat/copied.png").write_bytes(b"<html>")
    (said,) = problems("finetune", ["own"], **block)
    assert "1 of 9" not in said and "copied.png: not an image" in said
    (said,) = problems("retrieval", ["own"], **block)[:1]
    assert "recall at 10 needs as many images with a caption, there are 0" in said


def test_the_studys_own_labels_are_looked_for_before_it_starts(tmp_path):
    pictures(tmp_path, "0.png", "1.png")
    path = table(tmp_path / "t.csv", [("image", "prompt"), ("0.png", "a"), ("1.png", "b")])
    values = {
        "dataset": {"source": "table", "path": str(path)},
        "evaluation": {"datasets": {"own": {"kind": "own_labels"}}, "probe": {"datasets": ["own"]}},
    }
    found = [problem.text for problem in preflight.problems(load.parse(values)) if problem.stage == "evaluation"]
    assert len(found) == 1 and "needs labels, but" in found[0] and "no column of labels" in found[0]


# Paths and modes


def test_home_folders_and_variables_are_put_in_everywhere(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DATA", str(tmp_path / "data"))
    (tmp_path / "base.yaml").write_text("pca: {vector: ~/v.npy}\n")
    study = load.parse(
        {
            "extends": "~/base.yaml",
            "results": "${DATA}/results",
            "dataset": {"source": "table", "path": "$DATA/t.csv", "image_root": "~/i", "exclude": "~/x"},
            "noise_level": {"given": "~/n.csv"},
            "guidance": {"given": "$DATA/g.csv"},
            "evaluation": {"root": "~", "datasets": {"a": {"kind": "table", "path": "~/a.csv"}}},
        }
    )
    home = str(tmp_path)
    assert study.results == f"{home}/data/results" and study.pca.vector == f"{home}/v.npy"
    assert (study.dataset.path, study.dataset.image_root) == (f"{home}/data/t.csv", f"{home}/i")
    assert (study.noise_level.given, study.guidance.given) == (f"{home}/n.csv", f"{home}/data/g.csv")
    assert (study.evaluation.root, study.evaluation.datasets["a"].path) == (home, f"{home}/a.csv")
    with pytest.raises(GenviewError, match=r"results.*environment variable NOWHERE is not set"):
        load.parse({"results": "$NOWHERE/results"})


@pytest.mark.parametrize(("mask", "mode"), [("022", 0o644), ("007", 0o660)])
def test_artifacts_have_the_mode_that_the_umask_says(tmp_path, mask, mode):
    words = (
        "import numpy, sys; from safetensors.numpy import save_file; from genview import atomic\n"
        "with atomic.writing(sys.argv[1] + '/a.safetensors') as path: save_file({'a': numpy.zeros(3)}, path)\n"
        "with atomic.writing(sys.argv[1] + '/d') as path: path.mkdir(); save_file({'a': numpy.zeros(3)}, path / 'b')\n"
        "atomic.write_text(sys.argv[1] + '/t', 'x')"
    )
    program = f"umask {mask}; exec '{sys.executable}' -c \"$0\" '{tmp_path}'"
    subprocess.run(["bash", "-c", program, words], check=True, timeout=120)
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("a.safetensors", "d/b", "t")} == {mode}
