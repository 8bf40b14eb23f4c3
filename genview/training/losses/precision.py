"""Losses in full precision, whatever the model ran in."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

Function = TypeVar("Function", bound=Callable[..., Any])

HALF = (torch.float16, torch.bfloat16)


def _raised(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.dtype in HALF else value
    if isinstance(value, (list, tuple)):
        return type(value)(map(_raised, value))
    if isinstance(value, dict):
        return {key: _raised(inner) for key, inner in value.items()}
    return value


def full_precision(function: Function) -> Function:
    """The function with half-precision arguments raised to float32 and autocast turned off inside it."""

    @functools.wraps(function)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        kinds = {device for device in ("cpu", "cuda") if torch.is_autocast_enabled(device)}
        if not kinds:
            return function(*map(_raised, arguments), **_raised(named))
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            return function(*map(_raised, arguments), **_raised(named))

    return wrapped  # type: ignore[return-value]  # of the same signature


def mean_over_samples(terms: Tensor, weights: Tensor | None) -> Tensor:
    """Mean of [B] terms, each multiplied by its sample's weight, which gets no gradient.

    Raises:
        ValueError: there is not one weight for each sample.
    """
    if weights is None:
        return terms.mean()
    if weights.shape != terms.shape:
        raise ValueError(f"weights have shape {tuple(weights.shape)}; expected {tuple(terms.shape)}")
    return (weights.detach().to(terms.dtype) * terms).mean()
