"""Images for a model: read by processes beside it, copied to its device while the batch before is computed on."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

Batch = TypeVar("Batch")


def loader(dataset: Dataset[Any], batch_size: int, workers: int, **options: Any) -> DataLoader[Any]:
    """A loader that keeps the order unless told otherwise.

    Its processes are forked: one that starts anew would import the workflow's script, which is the job itself.

    Args:
        dataset: what is read.
        batch_size: items at once.
        workers: processes; 0: read in this one.
        options: others of the loader.
    """
    useful = min(workers, -(-len(dataset) // batch_size))  # type: ignore[arg-type]  # ours have a length
    return DataLoader(
        dataset,
        batch_size=batch_size,
        num_workers=useful,
        pin_memory=torch.cuda.is_available(),
        multiprocessing_context="fork" if useful else None,
        **options,
    )


def ahead(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Batches on a device; on a GPU the next one is copied on a stream of its own while the one before is used.

    A batch is a tensor, a list, tuple or dictionary of tensors and other things, or an object that has a tensor's
    ``to`` and ``record_stream``.
    """
    if device.type != "cuda":
        yield from batches
        return
    stream, copied = torch.cuda.Stream(device), None
    for batch in batches:
        with torch.cuda.stream(stream):
            following = _map(batch, lambda part: part.to(device, non_blocking=True)), stream.record_event()
        if copied is not None:
            yield _arrived(*copied, device)
        copied = following
    if copied is not None:
        yield _arrived(*copied, device)


def _arrived(batch: Batch, copied: torch.cuda.Event, device: torch.device) -> Batch:
    current = torch.cuda.current_stream(device)
    current.wait_event(copied)

    def keep(part: Any) -> Any:
        part.record_stream(current)  # its memory is not given away while the computation needs it
        return part

    return _map(batch, keep)


def _map(batch: Any, change: Callable[[Any], Any]) -> Any:
    """The batch with everything changed that lies on a device."""
    if hasattr(batch, "record_stream"):
        return change(batch)
    if isinstance(batch, dict):
        return {name: _map(part, change) for name, part in batch.items()}
    if isinstance(batch, list | tuple):
        return type(batch)(_map(part, change) for part in batch)
    return batch
