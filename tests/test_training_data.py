"""A sample that holds other images than the configuration says would be trained on without a word."""

import io
import pickle
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from training_study import assemble, study, write_manifest, write_shards, write_views

from genview import parquet, tables
from genview.config.augmentation import Augmentation, RunData
from genview.data import scenes
from genview.data.reader import Reader
from genview.errors import GenviewError
from genview.training.data import composition
from genview.training.data.augment import Augment
from genview.training.data.composition import ORIGINAL, compose
from genview.training.data.develop import Developer
from genview.training.data.index import Index, write
from genview.training.data.samples import Form, Order, Samples, loader

KEYS = [f"key-{index}" for index in range(200)]
THREE = {"img": 1.0, "txt": 1.0, "imgtxt": 1.0}
PLAIN = {"flip": 0, "jitter": 0, "grey": 0, "blur": 0, "resample": 0, "minimum_area": 1.0}


def composed(epoch=0, seed=7, keys=KEYS, **data):
    settings = RunData(**data)
    return {key: compose(settings, seed, epoch, key) for key in keys}


def sources(samples):
    return {key: Counter(part.source for part in slices) for key, slices in samples.items()}


def by_augmentation(samples):
    return {key: {(part.source, part.seed) for part in slices} for key, slices in samples.items()}


def test_the_default_sample_is_the_original_and_one_image_of_each_set():
    assert all(count == Counter([None, "img", "txt", "imgtxt"]) for count in sources(composed(views=THREE)).values())


def test_choices_depend_on_seed_epoch_and_key_alone():
    data = {"views": {"img": 0.5, "txt": 0.5}, "choose": 1}
    assert composed(**data) == composed(**data)
    assert composed(**data)["key-3"] == composed(keys=["key-3"], **data)["key-3"]
    assert composed(**data) != composed(epoch=1, **data)
    assert composed(**data) != composed(seed=8, **data)


def test_order_of_views_is_shuffled_evenly():
    first = Counter(slices[0].source for slices in composed(views=THREE).values())
    assert set(first) == {None, *THREE} and min(first.values()) > 25


def test_probability_of_a_set_replaces_its_image_by_an_original_in_that_share_of_samples():
    half = composed(views={"img": 0.5, "txt": 1.0})
    hits = sum("img" in count for count in sources(half).values())
    assert 75 < hits < 125
    assert all(sum(count.values()) == 3 for count in sources(half).values())
    # Nothing else moves: the other slots keep image and augmentation.
    full = composed(views={"img": 1.0, "txt": 1.0})
    for key in KEYS:
        assert {p for p in half[key] if p.source == "txt"} == {p for p in full[key] if p.source == "txt"}
    none = composed(views={"img": 0.0})
    assert all(count == Counter({None: 2}) for count in sources(none).values())


def test_so_many_sets_are_drawn_and_the_fixed_ones_are_always_there():
    drawn = sources(composed(views=THREE, choose=2, always=("txt",)))
    assert all(sum(count.values()) == 3 and count["txt"] == 1 and count[None] == 1 for count in drawn.values())
    others = Counter(name for count in drawn.values() for name in count if name in ("img", "imgtxt"))
    assert 70 < others["img"] < 130 and others["img"] + others["imgtxt"] == len(KEYS)


def test_the_original_can_be_left_out():
    assert all(None not in count for count in sources(composed(views=THREE, include_original=False)).values())


def test_crops_multiply_the_views_of_the_same_images():
    one, two = composed(views=THREE), composed(views=THREE, crops=2)
    assert composition.views_per_sample(RunData(views=THREE, crops=2)) == 8
    for key in KEYS[:20]:
        assert len(two[key]) == 8 and len({part.seed for part in two[key]}) == 8
        assert by_augmentation(one)[key] < by_augmentation(two)[key]
        assert {(p.source, p.draw) for p in one[key]} == {(p.source, p.draw) for p in two[key]}


def test_originals_are_repeated_to_the_fewest_views_and_augmented_anew():
    for minimum, crops, views in [(2, 1, 2), (4, 1, 4), (3, 2, 4), (1, 1, 1)]:
        data = RunData(minimum_views=minimum, crops=crops)
        assert composition.views_per_sample(data) == views
        slices = compose(data, 7, 0, "key")
        assert len(slices) == views == len({part.seed for part in slices}) and {p.source for p in slices} == {ORIGINAL}


def test_a_set_more_leaves_the_others_as_they_were():
    without, with_set = composed(views={"img": 1.0}), composed(views={"img": 1.0, "txt": 1.0})
    for key in KEYS:
        assert by_augmentation(without)[key] < by_augmentation(with_set)[key]


# Augmentation


@pytest.fixture(scope="module")
def picture():
    return Image.fromarray(scenes.scene(3, seed=1, size=64).image)


def view(picture, seed=5, size=48, **changes):
    return views(picture, seed, size, **changes)[0]


def views(picture, seed=5, size=48, *, mean=(0.0,) * 3, std=(1.0,) * 3, **changes):
    """The view and the clean crop."""
    augment = Augment(Augmentation(**{**PLAIN, **changes}), size)
    return Developer(augment.steps, mean, std, clean=True)(*augment(picture, seed))


def test_augmentation_is_a_function_of_its_seed_and_leaves_the_global_generator_alone(picture):
    changes = {"flip": 0.5, "jitter": 0.8, "grey": 0.2, "blur": 0.5, "minimum_area": 0.08}
    before = torch.random.get_rng_state()
    first = view(picture, **changes)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(99)
    assert torch.equal(first, view(picture, **changes))
    assert not torch.equal(first, view(picture, seed=6, **changes))


def test_each_augmentation_does_what_it_says(picture):
    plain = view(picture)
    assert torch.equal(view(picture, flip=1.0), plain.flip(2))
    grey = view(picture, grey=1.0)
    assert torch.equal(grey[0], grey[1]) and torch.equal(grey[1], grey[2])
    blurred, roughness = view(picture, blur=1.0), lambda image: image.diff(dim=2).abs().mean()
    assert roughness(blurred) < roughness(plain)
    jittered = view(picture, jitter=1.0)
    assert (jittered - plain).abs().max() > 0.05
    coarse = view(picture, resample=1.0, resample_sizes=(8,), resample_to=64)
    sharpest = [image.diff(dim=2).abs().max() for image in (coarse, plain)]
    assert sharpest[0] < 0.8 * sharpest[1]
    assert not torch.equal(view(picture, minimum_area=0.08), plain)
    assert view(picture, size=32).shape == (3, 32, 32)


def test_changing_one_augmentation_leaves_what_the_others_draw(picture):
    flip = {"flip": 0.5, "minimum_area": 0.3}
    for seed in range(6):
        crop = view(picture, seed=seed, **flip)
        grey = view(picture, seed=seed, grey=1.0, **flip)
        weights = torch.tensor([0.2989, 0.587, 0.114])[:, None, None]
        assert (grey[0] - (crop * weights).sum(0)).abs().max() < 0.01
        both = view(picture, seed=seed, jitter=1.0, grey=1.0, **flip)
        assert torch.equal(both[0], both[1])


def test_normalisation_is_the_one_given(picture):
    expected = (view(picture) - torch.tensor([0.5, 0.4, 0.3])[:, None, None]) / torch.tensor([0.2, 0.3, 0.4])[
        :, None, None
    ]
    torch.testing.assert_close(views(picture, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))[0], expected)


def test_the_clean_view_is_the_same_crop_before_its_colours_were_changed(picture):
    seen, clean = views(picture, jitter=1.0, flip=0.5, minimum_area=0.2)
    assert torch.equal(clean, view(picture, flip=0.5, minimum_area=0.2)) and not torch.equal(seen, clean)


# References


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    rows = write_manifest(folder / "data", 12)
    keys = rows["key"].to_pylist()
    drawn = {key: scenes.scene(100 + index, seed=12).image for index, key in enumerate(keys)}
    first, second = ({key: drawn[key] for key in part} for part in (keys[:6], keys[6:11]))
    shards = [write_views(folder / "img", part, shard=f"{i}-of-2") for i, part in enumerate((first, second))]
    return folder, rows, shards, drawn


def index_of(files):
    folder, _, shards, _ = files
    path, sets = folder / "index.arrow", {"img": shards}
    write(path, folder / "data/manifest.parquet", sets)
    return Index(path, sets)


def samples_of(files, *, views=None, **changes):
    folder = files[0]
    found = index_of(files)
    plain = {} if "slots" in changes else {"augmentation": PLAIN}
    data = RunData(**{"views": {"img": 1.0} if views is None else views, **plain, **changes})
    form = Form(32, (0.0,) * 3, (1.0,) * 3)
    return Samples(found.rows, Reader(folder / "data"), found.views, data, form, seed=3)


def seen(item):
    """The pixels of each view of a sample."""
    return torch.stack([pixels for pixels, _ in item["views"]])


def test_views_are_read_where_their_index_says(files):
    _, rows, _, drawn = files
    index = index_of(files).views["img"]
    assert index.missing == 1 and index.first_missing(3) == [11]
    for row, key in enumerate(rows["key"].to_pylist()[:11]):
        data = io.BytesIO()
        Image.fromarray(drawn[key]).save(data, "JPEG", quality=95)
        assert np.array_equal(np.asarray(index.image(row, 4)), np.asarray(Image.open(data)))
    assert index.image(11, 0) is None


def test_where_a_view_is_missing_the_original_stands_in_and_is_counted(files):
    samples = samples_of(files)
    whole, lacking = samples[(0, 10)], samples[(0, 11)]
    assert (whole["fallbacks"], lacking["fallbacks"]) == (0, 1)
    assert not torch.equal(seen(whole)[0], seen(whole)[1])
    assert torch.equal(seen(lacking)[0], seen(lacking)[1])
    assert samples.collate([whole, lacking]).fallbacks == 1


def test_views_of_images_that_are_not_in_the_study_are_refused(files, tmp_path):
    folder, _, shards, _ = files
    manifest = folder / "data/manifest.parquet"
    for wrong, words in ((shards[::-1], "not in this shard of the manifest"), (shards[:1], "1 shards, but")):
        with pytest.raises(GenviewError, match=words):
            write(tmp_path / "index.arrow", manifest, {"img": wrong})
    assert not list(tmp_path.iterdir())


def test_an_index_takes_no_memory_of_its_own(files):
    found, before = index_of(files), pa.total_allocated_bytes()
    samples = samples_of(files)
    assert samples[(0, 3)]["key"] == found.rows["key"][3].as_py()
    assert pa.total_allocated_bytes() - before < 4096, "rows were copied out of the mapped file"


def test_a_batch_is_view_major(files):
    samples = samples_of(files)
    items = [samples[(2, row)] for row in (4, 0, 7)]
    batch = samples.collate(items)
    assert batch.groups[0].pixels.shape == (2, 3, 3, 32, 32)
    for column, item in enumerate(items):
        assert torch.equal(batch.groups[0].pixels[:, column], seen(item))
    assert batch.keys == [item["key"] for item in items]


def test_loader_processes_read_what_one_process_reads(files):
    samples, order = samples_of(files, crops=2), Order(12, 3, 1, 1, seed=5)
    read = [
        list(loader(samples, order, rank=0, first_step=1, last_step=6, workers=workers, on_gpu=False))
        for workers in (0, 2)
    ]
    assert len(read[0]) == len(read[1]) == 5
    for one, other in zip(*read):
        assert one.keys == other.keys and torch.equal(one.views, other.views)


def test_a_dataset_can_be_sent_to_another_process(files):
    samples = samples_of(files)
    first = seen(samples[(0, 3)])
    assert torch.equal(seen(pickle.loads(pickle.dumps(samples))[(0, 3)]), first)


# Order


def test_an_epoch_reads_each_image_once_and_the_next_in_another_order():
    order = Order(rows=103, batch_size=5, accumulate=2, world_size=2, seed=1)
    assert (order.samples_per_step, order.steps_per_epoch) == (20, 5)
    epochs = [
        [index for rank in range(2) for batch in order.batches(rank, epoch * 5, epoch * 5 + 5) for index in batch]
        for epoch in range(2)
    ]
    for epoch, indexes in enumerate(epochs):
        rows = [row for _, row in indexes]
        assert {number for number, _ in indexes} == {epoch} and len(set(rows)) == len(rows) == 100
    assert [row for _, row in epochs[0]] != [row for _, row in epochs[1]]


def test_reading_can_begin_at_any_step():
    order = Order(rows=50, batch_size=4, accumulate=3, world_size=1, seed=1)
    whole = list(order.batches(0, 0, 12))
    for step in range(12):
        assert list(order.batches(0, step, 12)) == whole[step * 3 :]


def test_processes_and_parts_split_the_rows_that_one_process_reads_in_a_step():
    alone = list(Order(64, 8, 1, 1, seed=1).batches(0, 0, 16))
    halves = [list(Order(64, 4, 1, 2, seed=1).batches(rank, 0, 16)) for rank in range(2)]
    assert [first + second for first, second in zip(*halves)] == alone
    parts = list(Order(64, 4, 2, 1, seed=1).batches(0, 0, 16))
    assert [parts[i] + parts[i + 1] for i in range(0, 32, 2)] == alone


def test_more_samples_in_a_step_than_images_are_refused():
    with pytest.raises(GenviewError, match="only 7 images"):
        Order(rows=7, batch_size=8, accumulate=1, world_size=1, seed=1)


def test_text_terms_without_captions_are_refused_before_training(tmp_path):
    job = study(tmp_path, count=10, quality=False)
    rows = parquet.read(job.manifest, tables.MANIFEST)
    captions = rows["caption"].to_pylist()
    captions[2] = None
    field = rows.schema.field("caption")
    rows = rows.set_column(rows.schema.get_field_index("caption"), field, pa.array(captions, pa.string()))
    parquet.write(rows, tables.MANIFEST, job.manifest, shards="2")
    with pytest.raises(GenviewError, match=r"1 of 10 images have no caption"):
        assemble(job)


def test_missing_views_can_be_refused(tmp_path):
    job = study(tmp_path, count=10, quality=False, data={"missing": "refuse"})
    assemble(job)
    drawn = {key: scenes.scene(1, seed=2).image for key in ("scene-0001", "scene-0002")}
    write_shards(tmp_path / "views" / "drawn", drawn, parquet.read(job.manifest, tables.MANIFEST))
    with pytest.raises(GenviewError, match=r"8 images are missing"):
        assemble(job)


def test_crops_of_images_decoded_small_are_those_of_whole_images(tmp_path):
    rows, columns = np.mgrid[0:1200, 0:1600]
    pixels = np.stack([columns * 255 // 1600, rows * 255 // 1200, (rows + columns) // 11], -1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "0.jpg", quality=95)
    table = pa.table({"key": ["0"], "path": ["0.jpg"], "offset": [0], "length": [(tmp_path / "0.jpg").stat().st_size],
                      "caption": [None]})  # fmt: skip
    decoded = []

    class Noting(Reader):
        def image(self, *reference, **options):
            decoded.append(super().image(*reference, **options))
            return decoded[-1]

    augmentation = {**PLAIN, "minimum_area": 0.2, "image_size": 64}
    seen = {}
    for fast in (None, True):
        data = RunData(fast_decode=fast, augmentation=augmentation, minimum_views=2)
        samples = Samples(table, Noting(tmp_path), {}, data, Form(64, (0, 0, 0), (1, 1, 1)), seed=1)
        seen[fast] = [samples[epoch, 0]["views"] for epoch in range(8)]
    assert all(image.size == (1600, 1200) for image in decoded[:8])
    assert all(image.width < 1600 for image in decoded[8:]), "crops of 64 pixels need no whole photograph"
    for one, other in zip(seen[None], seen[True]):
        for (crop, numbers), (small, same) in zip(one, other):
            assert torch.equal(numbers, same) and (crop.float() - small.float()).abs().mean() < 2.5
