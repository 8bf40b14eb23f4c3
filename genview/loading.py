"""Images for a model: read by processes beside it, copied to its device while the batch before is computed on.

A batch is a tensor, a list, tuple or dictionary of tensors and other things, or an object with a method ``map`` that
applies a function to each of its tensors.
"""

import atexit
import shutil
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate, get_worker_info

from genview import process
from genview.errors import GenviewError

SHARED_MEMORY = "/dev/shm"

Batch = TypeVar("Batch")


class Shared:
    """A function that makes a batch of items, and puts it in shared memory where a loader's process calls it.

    Otherwise it is put there behind the function's back, and where there is no room for it the loader waits for ever.
    """

    def __init__(self, collate: Callable[[Any], Any]):
        self._collate = collate

    def __call__(self, items: Any) -> Any:
        """The batch of some items."""
        batch = self._collate(items)
        return _map(batch, Tensor.share_memory_) if get_worker_info() else batch


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
        collate_fn=Shared(options.pop("collate_fn", default_collate)),
        **options,
    )


def read(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The batches of a loader.

    Raises:
        GenviewError: a batch is a text, which says why there is none; too little shared memory.
    """
    iterator = iter(batches)
    atexit.unregister(process.end_children)
    atexit.register(process.end_children)  # what is registered last comes first: before the loader waits for them
    try:
        for batch in iterator:
            if isinstance(batch, str):  # an exception of another process would lose its type and message
                raise GenviewError(batch)
            yield batch
    except RuntimeError as error:
        if "shared memory" not in str(error) and "Bus error" not in str(error):
            raise
        room = shutil.disk_usage(SHARED_MEMORY)
        raise GenviewError(
            f"the processes that read images hand them over in shared memory, of which there is too little: "
            f"{SHARED_MEMORY} has {room.total / 1e6:.0f} MB, {room.free / 1e6:.0f} of them free. Give a container more "
            "(docker run --ipc=host), or the job fewer such processes (`cores`; a run's `data.workers`) or a smaller "
            "batch_size"
        ) from error


def ahead(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Batches of a loader on a device; on a GPU the next one is copied on a stream of its own while one is used.

    Raises:
        GenviewError: as `read`.
    """
    if device.type != "cuda":
        yield from read(batches)
        return
    stream, copied = torch.cuda.Stream(device), None
    for batch in read(batches):
        with torch.cuda.stream(stream):
            following = _map(batch, lambda tensor: tensor.to(device, non_blocking=True)), stream.record_event()
        if copied is not None:
            yield _arrived(*copied, device)
        copied = following
    if copied is not None:
        yield _arrived(*copied, device)


def _arrived(batch: Batch, copied: torch.cuda.Event, device: torch.device) -> Batch:
    current = torch.cuda.current_stream(device)
    current.wait_event(copied)

    def keep(tensor: Tensor) -> Tensor:
        tensor.record_stream(current)  # its memory is not given away while the computation needs it
        return tensor

    return _map(batch, keep)


def _map(batch: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The batch with all of its tensors changed."""
    if isinstance(batch, Tensor):
        return change(batch)
    if isinstance(batch, dict):
        return {name: _map(part, change) for name, part in batch.items()}
    if isinstance(batch, list | tuple):
        return type(batch)(_map(part, change) for part in batch)
    return batch.map(change) if hasattr(batch, "map") else batch
