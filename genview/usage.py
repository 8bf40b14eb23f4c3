"""What a job made of its time and its device: the share spent waiting for images, the share of the device's peak.

Both are about the loops that read images, not about loading a model. They are said in the job's log, and kept with what
the job took (`genview.costs`), where the report finds them.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")
log = logging.getLogger(__name__)

PEAKS: dict[str, tuple[float, float]] = {
    "B200": (2250, 80),
    "H200": (989, 67),
    "H100 PCIe": (756, 51),
    "H100 NVL": (835, 60),
    "H100": (989, 67),
    "A100": (312, 19.5),
    "L40S": (362, 91.6),
    "L40": (181, 90.5),
    "L4": (121, 30.3),
    "A40": (150, 37.4),
    "A10": (125, 31.2),
    "V100": (125, 15.7),
    "T4": (65, 8.1),
    "RTX 6000 Ada": (364, 91.1),
    "RTX A6000": (155, 38.7),
    "RTX 4090": (165, 82.6),
    "RTX 3090": (71, 35.6),
}
"""Peak of dense matrix products in 10^12 floating-point operations a second, in half and in single precision, by a part
of the device's name; the first that fits counts. From NVIDIA's data sheets, sums in single precision."""


def peak(device: "torch.device", half: bool) -> float | None:
    """Floating-point operations a second that a device can do; None: it is not known."""
    import torch

    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    if "MIG" in name:  # a slice of the device
        return None
    return next((1e12 * values[0 if half else 1] for part, values in PEAKS.items() if part in name), None)


def operations(
    work: Callable[..., Any], *shapes: tuple[int, ...], device: "torch.device | str" = "cpu"
) -> float | None:
    """Floating-point operations of a call's matrix products and convolutions, found without doing any of them.

    Args:
        work: the call.
        shapes: of its float32 arguments.
        device: of these.

    Returns:
        None where the call does something that cannot be counted: no job may fail of that.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    try:
        with (
            torch.compiler.set_stance("force_eager"),  # a compiled module would be compiled for tensors without values
            FakeTensorMode(allow_non_fake_inputs=True),
            FlopCounterMode(display=False) as counter,
            torch.no_grad(),
        ):
            work(*(torch.zeros(shape, device=device) for shape in shapes))
        return float(counter.get_total_flops())
    except Exception as error:
        log.debug("operations are not counted: %s", error)
        return None


class Usage:
    """Counts of the loops of one job.

    Attributes:
        seconds: of the loops that read images; waited: those in which the next images were not there yet.
        done: floating-point operations; possible: those that the device could have done in the same time.
    """

    def __init__(self) -> None:
        self.seconds = self.waited = self.done = self.possible = 0.0

    def shares(self) -> dict[str, float]:
        """``waiting_share`` and, where the peak is known, ``peak_share``, in [0, 1]; empty where nothing was read."""
        if not self.seconds:
            return {}
        found = {"waiting_share": round(self.waited / self.seconds, 4)}
        return found | ({"peak_share": round(self.done / self.possible, 4)} if self.possible else {})


_job = Usage()


def begin() -> None:
    """A job begins in this process: its loops are counted anew."""
    global _job
    _job = Usage()


def shares() -> dict[str, float]:
    """Of this process's job (`Usage.shares`)."""
    return _job.shares()


def in_words(found: dict[str, float]) -> str:
    """Shares for a person; empty where there are none."""
    if not found:
        return ""
    peak = f"{found['peak_share']:.0%}" if "peak_share" in found else "unknown"
    return f"{found['waiting_share']:.0%} of the time waiting for images; share of the device's peak: {peak}"


def reading(
    batches: Iterable[Item],
    of_an_image: float | None = None,
    peak: float | None = None,
    count: Callable[..., int] = len,
) -> Iterator[Item]:
    """The batches of a loader, whose time is counted until the loop asks for the one after the last.

    Args:
        batches: of the loader.
        of_an_image: floating-point operations that the loop does for each image.
        peak: operations a second that the device can do.
        count: images of a batch.
    """
    source, began = iter(batches), time.perf_counter()
    while True:
        asked = time.perf_counter()
        item = next(source, None)
        _job.waited += time.perf_counter() - asked
        if item is None:
            break
        yield item
        if of_an_image and peak:
            _job.done += of_an_image * count(item)
    seconds = time.perf_counter() - began
    _job.seconds += seconds
    if of_an_image and peak:
        _job.possible += peak * seconds
