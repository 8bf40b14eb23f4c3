"""Chance without order: every draw is a function of the study's seed and the image's own name."""

import hashlib
import json
from collections.abc import Sequence
from typing import TypeVar

import torch

Option = TypeVar("Option")


def _bits(*parts: str | int) -> int:
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:8], "big")


def image_seed(study_seed: int, mode: str, key: str, sample: int) -> int:
    """Seed of one image's own generator, in [0, 2**64).

    The noise level, the guidance scale and the name of the view set play no part: view sets of one mode share their
    noise, so that adaptive, constant and random conditions are compared pair by pair.
    """
    return _bits("image", study_seed, mode, key, sample)


def generator(seed: int) -> torch.Generator:
    """A generator on the CPU, whose numbers are the same for every device, batch and worker."""
    return torch.Generator("cpu").manual_seed(seed)


def choice(options: Sequence[Option], study_seed: int, purpose: str, key: str) -> Option:
    """One of the options, uniformly, by the key alone."""
    return options[_bits("choice", study_seed, purpose, key) % len(options)]


def draw(keys: Sequence[str], count: int, study_seed: int, purpose: str) -> list[str]:
    """``count`` of the keys (or all), drawn by their names alone, in the order of the draw."""
    return sorted(keys, key=lambda key: _bits("draw", study_seed, purpose, key))[:count]
