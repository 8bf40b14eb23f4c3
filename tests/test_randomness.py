"""Chance that hangs on order, batch or process would make every restart, and every other shard, another study."""

import subprocess
import sys
from collections import Counter

from hypothesis import given
from hypothesis import strategies as some

from genview import randomness

names = some.lists(some.one_of(some.text(max_size=8), some.integers(-(2**40), 2**40)), max_size=4)


@given(some.text(max_size=8), names, some.text(max_size=8), names)
def test_other_names_are_another_draw_however_they_are_joined(purpose, own, other_purpose, others):
    same = (purpose, *own) == (other_purpose, *others)
    assert (randomness.seed(purpose, *own) == randomness.seed(other_purpose, *others)) == same


@given(some.lists(some.text(max_size=6), max_size=12, unique=True), some.integers(0, 12), some.integers())
def test_a_shuffle_forgets_the_order_and_a_larger_sample_begins_with_the_smaller(items, count, seed):
    shuffled = randomness.shuffled(items, "sample", seed)
    assert sorted(shuffled) == sorted(items) and randomness.shuffled(items[::-1], "sample", seed) == shuffled
    fewer = [item for item in items if item in shuffled[:count]]
    assert randomness.shuffled(fewer, "sample", seed) == shuffled[:count]


def test_draws_are_uniform():
    drawn = [randomness.uniform("test", number) for number in range(20_000)]
    assert min(drawn) >= 0 and max(drawn) < 1
    counts = Counter(int(10 * value) for value in drawn)
    assert all(1830 < counts[tenth] < 2170 for tenth in range(10))  # 2,000 each, deviation 42
    chosen = Counter(randomness.choice("abc", "test", number) for number in range(9_000))
    assert all(2820 < chosen[letter] < 3180 for letter in "abc")  # 3,000 each, deviation 45


def test_another_process_draws_the_same():
    code = "from genview import randomness; print(randomness.seed('image', 42, 'img', 'a/☃', 0))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(said) == randomness.seed("image", 42, "img", "a/☃", 0)
