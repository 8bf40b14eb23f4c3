"""Where models run, and in which floating-point type: one choice for all stages."""

import logging

import torch

logger = logging.getLogger("genview")

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
"""By the names that configurations use."""


def default() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def precision(wanted: str, device: torch.device, what: str) -> str:
    """The precision that is used: on a CPU always ``fp32``, of which the log tells; half precision is slower there.

    Args:
        wanted: fp32, fp16 or bf16.
        device: where the model runs.
        what: the model, for the message.
    """
    if wanted != "fp32" and device.type == "cpu":
        logger.warning("%s: %s is slow on a CPU; fp32 is used", what, wanted)
        return "fp32"
    return wanted


def autocast_type(used: str) -> torch.dtype | None:
    """Type of autocast for a precision; None: no autocast."""
    return None if used == "fp32" else DTYPES[used]
