"""Why a run stops before its end: a cluster's warning, or a loss that is not finite. All processes stop together."""

import torch
import torch.distributed as dist

from genview.errors import GenviewError
from genview.training.loop.distributed import world_size


class Verdict:
    """Collects the reasons to stop of all processes, with one small message per step and no wait for the GPU.

    The verdict on a step is read one step later, when it has long been computed; ``settle`` reads it at once, which
    is done before every checkpoint, so that none is saved after a loss that was not finite.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._asked = False
        self._pending: tuple[int, list[str], torch.Tensor] | None = None

    def ask(self, _signal: int) -> None:
        """Ask this process, and with it all, to stop after the step under way (an action for `process.on_warning`)."""
        self._asked = True

    def record(self, step: int, keys: list[str], loss: torch.Tensor) -> bool:
        """Note a step's loss, a scalar; returns whether any process was asked to stop before the *last* recorded step.

        Raises:
            GenviewError: the loss of the step before was not finite, in any process.
        """
        stop = self.settle()
        flags = torch.stack([~torch.isfinite(loss.detach()), torch.tensor(self._asked, device=loss.device)]).float()
        if world_size() > 1:
            dist.all_reduce(flags, dist.ReduceOp.MAX)
        self._pending = (step, keys, flags)
        return stop

    def settle(self) -> bool:
        """Read the verdict on the last recorded step; returns whether any process was asked to stop.

        Raises:
            GenviewError: its loss was not finite, in any process; names the step and the batch's keys.
        """
        if self._pending is None:
            return False
        step, keys, flags = self._pending
        self._pending = None
        not_finite, stop = flags.tolist()
        if not_finite:
            every = [keys]
            if world_size() > 1:
                every = [[] for _ in range(world_size())]
                dist.all_gather_object(every, keys)
            names = ", ".join(key for part in every for key in part)
            raise GenviewError(
                f"step {step}: the loss is not finite; nothing was saved after it, and the last checkpoint is good. "
                f"Lower optimizer.base_learning_rate, set optimizer.gradient_clip, or look at its images: {names}"
            )
        return bool(stop)
