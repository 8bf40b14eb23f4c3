"""Chance as a function of names: (seed, epoch, key, purpose) give a number, whatever was drawn before."""

import hashlib
from collections.abc import Iterable


def bits(*names: object) -> int:
    """63 bits that depend on the names alone."""
    text = "\0".join(map(str, names))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def uniform(*names: object) -> float:
    """A number in [0, 1) that depends on the names alone."""
    return bits(*names) / 2.0**63


def shuffled(items: Iterable, *names: object) -> list:
    """The items in an order that depends on the names and on the items' own words."""
    return sorted(items, key=lambda item: bits(*names, item))
