"""Keys name files and decide shards: a wrong one overwrites, leaks or loses an image."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genview.data import keys
from genview.errors import GenviewError


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("a/b.jpg", "a/b"),
        ("a/b.JPEG", "a/b"),
        ("n01/x.TiFf", "n01/x"),
        ("1.2.png", "1.2"),
        ("no-extension", "no-extension"),
        ("1.2", "1.2"),
        ("a/.png", "a/.png"),
        (".jpg", ".jpg"),
    ],
)
def test_key_is_the_path_without_an_image_extension(path, key):
    assert keys.key_of(path) == key


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("", "empty"),
        ("/etc/passwd", "absolute"),
        ("C:\\images\\a", "absolute"),
        ("../a", "'..'"),
        ("a/../../b", "'..'"),
        ("a\\..\\b", "'..'"),
        ("a\0b", "NUL"),
        ("a//b", "empty part"),
        ("./a", "part '.'"),
        ("a/" + "x" * 241, "longer"),
        ("\udcff", "Unicode"),
    ],
)
def test_a_key_that_cannot_name_a_file_is_refused(key, words):
    assert words in keys.problem(key)


@pytest.mark.parametrize("key", ["a", "a/b", "1.2", "n01440764/n01440764_10026", "ä/日本", "a..b", "a b"])
def test_ordinary_keys_are_accepted(key):
    assert keys.problem(key) is None


NAMES = st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=200)


@settings(deadline=None)
@given(NAMES, st.integers(1, 20), st.randoms(use_true_random=False))
def test_shards_are_balanced_and_do_not_depend_on_the_order(names, shards, random):
    names = [name.encode("utf-8", "ignore").decode() for name in names]
    names = list(dict.fromkeys(names))
    first = dict(zip(names, keys.shard_of(names, shards)))
    shuffled = random.sample(names, len(names))
    assert dict(zip(shuffled, keys.shard_of(shuffled, shards))) == first
    sizes = np.bincount(np.array(list(first.values()), int), minlength=shards)
    assert len(sizes) == shards and sizes.max() - sizes.min() <= 1


def test_shards_of_a_chunked_column_are_those_of_the_list():
    names = [f"k{i}" for i in range(1000)]
    column = pa.chunked_array([names[:10], names[10:700], names[700:]])
    assert (keys.shard_of(column, 7) == keys.shard_of(names, 7)).all()


def test_an_added_image_moves_at_most_one_key_per_cut():
    names = [f"k{i}" for i in range(2000)]
    before = keys.shard_of(names, 8)
    after = keys.shard_of([*names, "new"], 8)[:-1]
    assert (before != after).sum() <= 7


def test_more_shards_than_images_leaves_some_empty():
    assert sorted(keys.shard_of(["a", "b", "c"], 8)) == [0, 2, 5]


@pytest.mark.parametrize("name", ["2-of-2", "a-of-2", "0", "0-of-0", "-1-of-2"])
def test_a_name_that_is_no_shard_is_refused(name):
    with pytest.raises(GenviewError, match="names no shard"):
        keys.parse_shard(name)
