"""Batch normalisation over all processes' rows: torch's own on GPUs; on CPUs, where torch has none, this one."""

import torch
from torch import Tensor, nn

from genview.training.loop.distributed import gather_rows, world_size


class GatheredBatchNorm(nn.Module):
    """BatchNorm over all processes of any backend: their means and variances are gathered with gradients.

    Takes over the parameters and buffers of a torch module; every process must hold equally many rows.
    """

    def __init__(self, source: nn.BatchNorm1d | nn.BatchNorm2d):
        super().__init__()
        self.eps, self.momentum, self.training = source.eps, source.momentum, source.training
        self.weight, self.bias = source.weight, source.bias
        for name, buffer in source.named_buffers():
            self.register_buffer(name, buffer)

    def forward(self, rows: Tensor) -> Tensor:
        """[B, C, ...] normalised over all dimensions but C."""
        shape = (1, -1) + (1,) * (rows.ndim - 2)
        if self.training:
            dims = [0, *range(2, rows.ndim)]
            mean = gather_rows(rows.mean(dims)[None]).mean(0)
            variance = gather_rows((rows - mean.view(shape)).square().mean(dims)[None]).mean(0)
            if self.num_batches_tracked is not None:
                count = rows.numel() // rows.shape[1] * world_size()
                with torch.no_grad():
                    self.num_batches_tracked += 1
                    self.running_mean.lerp_(mean, self.momentum)
                    self.running_var.lerp_(variance * count / max(count - 1, 1), self.momentum)
        else:
            mean, variance = self.running_mean, self.running_var
        rows = (rows - mean.view(shape)) * (variance + self.eps).rsqrt().view(shape)
        return rows * self.weight.view(shape) + self.bias.view(shape)


def _replaced(module: nn.Module) -> nn.Module:
    # timm's BatchNormAct2d is a BatchNorm2d that also applies an activation, which must survive.
    if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) and module.affine:
        activation = [part for name, part in module.named_children() if name in ("drop", "act")]
        return nn.Sequential(GatheredBatchNorm(module), *activation) if activation else GatheredBatchNorm(module)
    for name, child in module.named_children():
        setattr(module, name, _replaced(child))
    return module


def synchronised(module: nn.Module, device: torch.device) -> nn.Module:
    """The module with every BatchNorm synchronised over processes; unchanged if there is one process.

    Call it after the weights exist and before a data-parallel wrapper does.
    """
    if world_size() == 1:
        return module
    return nn.SyncBatchNorm.convert_sync_batchnorm(module) if device.type == "cuda" else _replaced(module)


def has_batchnorm(module: nn.Module) -> bool:
    """Whether statistics of the batch enter the module's result."""
    kinds = (nn.modules.batchnorm._BatchNorm, GatheredBatchNorm)
    return any(isinstance(part, kinds) for part in module.modules())
