"""Batches copied to a device while the batch before is computed on."""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, Self, TypeVar

import torch


class Copied(Protocol):
    """A tensor, or what holds tensors and answers for them as one does."""

    def to(self, device: torch.device, *, non_blocking: bool) -> Self:
        """The same on a device; page-locked memory is copied without waiting."""

    def record_stream(self, stream: Any) -> None:
        """Its memory is not given away before what a stream does with it is done."""


Batch = TypeVar("Batch", bound=Copied)


def ahead(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Batches on a device; on a GPU the next one is copied on a stream of its own while the one before is used."""
    if device.type != "cuda":
        yield from batches
        return
    stream, copied = torch.cuda.Stream(device), None
    for batch in batches:
        with torch.cuda.stream(stream):
            following = batch.to(device, non_blocking=True), stream.record_event()
        if copied is not None:
            yield _arrived(*copied, device)
        copied = following
    if copied is not None:
        yield _arrived(*copied, device)


def _arrived(batch: Batch, copied: torch.cuda.Event, device: torch.device) -> Batch:
    current = torch.cuda.current_stream(device)
    current.wait_event(copied)
    batch.record_stream(current)
    return batch
