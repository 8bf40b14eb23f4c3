"""Datasets of the evaluation: wrong parts or labels make numbers that cannot be compared with anybody's."""

import inspect

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from genview.config.evaluation import LocalDataset
from genview.errors import GenviewError
from genview.evaluation import catalogue, local, official, prompts
from genview.evaluation.datasets import Request
from genview.evaluation.splits import Part, check_labels, seeded_parts


def picture(path, shade):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 16), (shade % 256, (shade * 7) % 256, 40)).save(path)


def load(name, root, **options):
    return Request(name, options.pop("block", None), root=root, seed=7).load()


def test_the_table_has_the_published_datasets_with_their_metrics():
    wanted = "in1k in100 cifar10 cifar100 dtd flowers food101 sun397 aircraft pets caltech101 digits fashion_mnist"
    assert set(wanted.split()) <= set(catalogue.ENTRIES)
    per_class = {name for name, entry in catalogue.ENTRIES.items() if entry.metric == "mean_per_class"}
    assert per_class == {"aircraft", "flowers", "pets", "caltech101"}


@pytest.mark.parametrize("name", sorted(catalogue.ENTRIES))
def test_readers_take_the_options_of_the_table(name):
    entry = catalogue.ENTRIES[name]
    if entry.reader in ("digits", "fashion_mnist"):
        return
    reader = getattr(torchvision.datasets, "ImageNet" if entry.reader == "in100" else entry.reader)
    signature = inspect.signature(reader)
    for options in (entry.train + entry.validation + entry.test) or ({},):
        signature.bind(root="x", **{**entry.fixed, **options})
    assert ("download" in signature.parameters) == entry.downloadable


@pytest.mark.parametrize("name", sorted(set(catalogue.ENTRIES) - {"digits", "fashion_mnist"}))
def test_a_missing_dataset_is_named_with_its_folder_and_the_remedy(name, tmp_path):
    with pytest.raises(GenviewError) as caught:
        load(name, tmp_path)
    message = str(caught.value)
    assert name in message and str(tmp_path) in message and "put the files there" in message


def test_an_incomplete_dataset_is_named_and_a_corrupted_one_keeps_torchvisions_words(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    with pytest.raises(GenviewError, match=r"cifar10.*missing or incomplete: batches.meta, test_batch"):
        official.load("cifar10", root=tmp_path, download=False, seed=0)
    for name in ("batches.meta", "test_batch", *(f"data_batch_{number}" for number in range(1, 6))):
        (folder / name).write_bytes(b"cut short")
    with pytest.raises(GenviewError, match=r"cifar10.*incomplete.*Dataset not found or corrupted"):
        official.load("cifar10", root=tmp_path, download=False, seed=0)


def test_textures_use_the_official_three_parts(tmp_path):
    base = tmp_path / "dtd" / "dtd"
    (base / "labels").mkdir(parents=True)
    for number, part in enumerate(("train", "val", "test")):
        names = [f"{kind}/{kind}_{number}{i}.jpg" for kind in ("banded", "zigzagged") for i in range(2)]
        for shade, name in enumerate(names):
            picture(base / "images" / name, 40 * number + shade)
        (base / "labels" / f"{part}1.txt").write_text("\n".join(names) + "\n")
    data = load("dtd", tmp_path)
    assert (len(data.train), len(data.validation), len(data.test)) == (4, 4, 4)
    assert data.classes == ("banded", "zigzagged") and data.test.labels.tolist() == [0, 0, 1, 1]
    assert data.test.image(0).size == (20, 16)
    assert prompts.templates(data)[0].count("{c}") == 1


def test_pets_train_on_trainval_and_test_on_test(tmp_path):
    base = tmp_path / "oxford-iiit-pet"
    (base / "annotations").mkdir(parents=True)
    for part, count in (("trainval", 3), ("test", 2)):
        lines = []
        for breed, label in (("Abyssinian", 1), ("pug", 2)):
            for i in range(count):
                picture(base / "images" / f"{breed}_{part}{i}.jpg", i)
                lines.append(f"{breed}_{part}{i} {label} 1 1")
        (base / "annotations" / f"{part}.txt").write_text("\n".join(lines) + "\n")
    data = load("pets", tmp_path)
    assert (len(data.train), data.validation, len(data.test)) == (6, None, 4)
    assert data.metric == "mean_per_class" and set(data.train.labels) == {0, 1}


def test_scenes_of_sun_have_no_image_in_both_parts(tmp_path):
    base = tmp_path / "SUN397"
    base.mkdir()
    (base / "ClassName.txt").write_text("/a/abbey\n/z/zoo\n")
    for folder in ("a/abbey", "z/zoo"):
        for i in range(120):
            picture(base / folder / f"sun_{i}.jpg", i)
    data = load("sun397", tmp_path)
    assert len(data.train) == len(data.test) == 100 and "seed 7" in data.split_rule
    assert not set(data.train.rows) & set(data.test.rows)
    assert np.bincount(data.train.labels).tolist() == [50, 50]
    assert np.array_equal(load("sun397", tmp_path).train.rows, data.train.rows)


def test_caltech_trains_on_thirty_of_each_class(tmp_path):
    base = tmp_path / "caltech101" / "101_ObjectCategories"
    for kind, count in (("Faces", 40), ("ant", 33), ("BACKGROUND_Google", 5)):
        for i in range(1, count + 1):
            picture(base / kind / f"image_{i:04d}.jpg", i)
    (tmp_path / "caltech101" / "Annotations").mkdir()
    data = load("caltech101", tmp_path)
    assert data.classes == ("Faces", "ant") and len(data.train) == 60 and len(data.test) == 13


def test_a_hundred_classes_of_imagenet_are_renumbered(tmp_path):
    base = tmp_path / "imagenet"
    wanted = sorted((catalogue.Path(official.__file__).parent / "in100.txt").read_text().split())
    wnids = ["n00000001", *wanted, "n99999999"]
    torch.save(({wnid: (f"thing {wnid}", "other word") for wnid in wnids}, ["n00000001"]), _made(base) / "meta.bin")
    for part in ("train", "val"):
        for number, wnid in enumerate(wnids):
            picture(base / part / wnid / f"{part}.JPEG", number)
    data = load("in100", tmp_path)
    assert len(data.classes) == 100 and data.classes[0] == f"thing {wanted[0]}"
    assert data.test.labels.tolist() == list(range(100))
    assert len(load("in1k", tmp_path).classes) == 102


def _made(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_digits_come_with_a_stated_seeded_split():
    data = load("digits", "nowhere")
    assert len(data.train) + len(data.test) == 1797 and not set(data.train.rows) & set(data.test.rows)
    assert "seed 7" in data.split_rule and data.train.image(0).mode == "RGB"
    assert prompts.class_names(data)[3] == "3"


@pytest.mark.skipif(not catalogue.FASHION_MNIST_PACKAGE.is_dir(), reason="Debian's dataset-fashion-mnist is absent")
def test_fashion_mnist_of_debian():
    data = load("fashion_mnist", "nowhere")
    assert (len(data.train), len(data.test)) == (60_000, 10_000) and data.test.image(0).size == (28, 28)
    assert np.bincount(data.test.labels).tolist() == [1000] * 10


def test_fashion_mnist_that_is_cut_short_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "FASHION_MNIST_PACKAGE", tmp_path / "absent")
    folder = _made(tmp_path / "FashionMNIST" / "raw")
    (folder / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + bytes([0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 28]))
    with pytest.raises(GenviewError, match="cut short"):
        load("fashion_mnist", tmp_path)


def test_a_folder_of_classes_is_split_by_seed(tmp_path):
    for kind in ("cat", "dog"):
        for i in range(8):
            picture(tmp_path / kind / f"{i}.PNG", i)
    data = load("mine", "x", block=LocalDataset(kind="image_folder", path=str(tmp_path)))
    assert (len(data.train), len(data.test)) == (12, 4) and np.bincount(data.test.labels).tolist() == [2, 2]
    assert data.test.name_of(0).startswith("cat/")


def test_a_folder_with_parts_is_taken_as_it_is(tmp_path):
    for part, count in (("train", 5), ("val", 2), ("test", 3)):
        for kind in ("cat", "dog"):
            for i in range(count):
                picture(tmp_path / part / kind / f"{i}.jpg", i)
    data = load("mine", "x", block=LocalDataset(kind="image_folder", path=str(tmp_path)))
    assert (len(data.train), len(data.validation), len(data.test)) == (10, 4, 6)


def test_a_table_with_captions_and_parts(tmp_path):
    lines = ["image,label,split,prompt"]
    for i in range(6):
        picture(tmp_path / f"{i}.png", i)
        lines.append(f'{i}.png,{"odd" if i % 2 else "even"},{"train" if i < 4 else "test"},"a picture, number {i}"')
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    data = load("mine", "x", block=LocalDataset(kind="table", path=str(tmp_path / "t.csv")))
    assert data.classes == ("even", "odd") and data.test.captions == [
        ("a picture, number 4",),
        ("a picture, number 5",),
    ]
    (tmp_path / "t.csv").write_text("\n".join(lines).replace("train", "trian"))
    with pytest.raises(GenviewError, match="trian"):
        load("mine", "x", block=LocalDataset(kind="table", path=str(tmp_path / "t.csv")))


def test_scenes_are_fresh_and_their_colour_prompts_name_every_class():
    block = LocalDataset(kind="scenes", label="colour", train=12, test=6)
    data = load("mine", "x", block=block)
    assert len(data.train) == 12 and local.FIRST_TRAIN_SCENE > 10**8
    assert len(prompts.templates(data)) == 6 and all("{c}" in text for text in prompts.templates(data))
    assert len(set(data.test.captions)) == 6


def test_unknown_names_list_the_known_ones():
    with pytest.raises(GenviewError, match="cifar10, cifar100"):
        load("cifar11", "x")


def test_a_new_dataset_is_one_line():
    catalogue.register("digits_halved", catalogue.Entry("digits", test_share=0.5, prompts="mnist"))
    try:
        data = load("digits_halved", "x")
        assert abs(len(data.train) - len(data.test)) <= 10
    finally:
        del catalogue.ENTRIES["digits_halved"]


def test_labels_outside_the_classes_are_refused():
    with pytest.raises(GenviewError, match="label -1, but there are 3 classes"):
        check_labels(np.array([0, 2, -1]), 3, "flowers, train")


def test_seeded_parts_are_disjoint_and_keep_every_class():
    labels = np.repeat([0, 1, 2], [10, 3, 1])
    first, second = seeded_parts(labels, seed=1, second_share=0.25)
    assert not set(first) & set(second) and len(first) + len(second) == 14
    assert set(labels[first]) == {0, 1, 2} and set(labels[second]) == {0, 1}


def test_parts_can_be_sent_to_loader_processes():
    import pickle

    part = load("digits", "x").test
    again: Part = pickle.loads(pickle.dumps(part))
    assert again.image(3).tobytes() == part.image(3).tobytes()
