"""Chance without order: each draw is a function of its purpose, a seed and names, and of nothing that was drawn before.

So an image, a sample or a step gets the same whatever the batch, the shard, the worker, the number of processes or the
restart. The first name says what the draw is for; two purposes share no number.
"""

import hashlib
import heapq
import json
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Name = str | int | float | None


def seed(purpose: str, *names: Name) -> int:
    """A whole number in [0, 2**64), as the generators of torch and NumPy take it.

    Args:
        purpose: what the draw is for.
        names: the study's or the run's seed, and what the draw belongs to: key, epoch, step, index.
    """
    return int.from_bytes(hashlib.sha256(json.dumps((purpose, *names)).encode()).digest()[:8], "big")


def uniform(purpose: str, *names: Name) -> float:
    """A number in [0, 1), uniformly."""
    return (seed(purpose, *names) >> 11) / 2.0**53


def choice(options: Sequence[Item], purpose: str, *names: Name) -> Item:
    """One of the options, uniformly."""
    return options[seed(purpose, *names) % len(options)]


def shuffled(items: Iterable[Item], purpose: str, *names: Name) -> list[Item]:
    """The items in a random order that depends on each item's name, and not on its place.

    The first n are a sample without replacement; a larger one begins with the smaller.
    """
    return sorted(items, key=lambda item: seed(purpose, *names, item))  # type: ignore[arg-type]  # items are names; their type is kept


def sample(
    items: Iterable[Item], count: int, purpose: str, *names: Name, name: Callable[[Item], Name] | None = None
) -> list[Item]:
    """The first items of `shuffled`, in its order; the others are not held in memory.

    Args:
        items: what is drawn from.
        count: how many at most.
        purpose: what the draw is for.
        names: the study's or the run's seed, and what the draw belongs to.
        name: of an item; default: the item itself.
    """
    return heapq.nsmallest(count, items, key=lambda item: seed(purpose, *names, name(item) if name else item))  # type: ignore[arg-type]  # items are names, or have one
