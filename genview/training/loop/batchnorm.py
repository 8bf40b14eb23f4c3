"""Batch normalisation over all processes' rows: torch's own on GPUs; on CPUs, where torch has none, this one."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genview.training.loop.distributed import gather_rows, world_size


class _BatchNorm(nn.Module):
    """Takes over parameters and buffers of a torch module, under their names, and what timm's modules do after it."""

    def __init__(self, source: nn.BatchNorm1d | nn.BatchNorm2d):
        super().__init__()
        self.eps, self.momentum, self.training = source.eps, source.momentum, source.training
        self.register_parameter("weight", source.weight)
        self.register_parameter("bias", source.bias)
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(source, name))
        # timm's BatchNormAct2d is a BatchNorm2d that also applies an activation, which must survive.
        for name, part in source.named_children():
            if name in ("drop", "act"):
                self.add_module(name, part)

    def _finished(self, rows: Tensor) -> Tensor:
        for part in self.children():
            rows = part(rows)
        return rows


class GatheredBatchNorm(_BatchNorm):
    """BatchNorm over all processes of any backend: their means and variances are gathered with gradients.

    Every process must hold equally many rows.
    """

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
        result = (rows - mean.view(shape)) * (variance + self.eps).rsqrt().view(shape)
        if self.weight is not None:
            result = result * self.weight.view(shape) + self.bias.view(shape)
        return self._finished(result)


class PartedBatchNorm(_BatchNorm):
    """BatchNorm whose statistics are those of parts of this process's rows, as if each part were on a GPU of its own.

    Parts are rows that follow each other. Running statistics follow the parts' mean.
    """

    def __init__(self, source: nn.BatchNorm1d | nn.BatchNorm2d, parts: int):
        super().__init__(source)
        self.parts = parts

    def forward(self, rows: Tensor) -> Tensor:
        """[B, C, ...] normalised over all dimensions but C, in each part."""
        if not self.training:
            known = (self.running_mean, self.running_var, self.weight, self.bias)
            return self._finished(F.batch_norm(rows, *known, eps=self.eps))
        if len(rows) % self.parts:
            raise ValueError(f"{len(rows)} rows cannot be cut in {self.parts} equal parts")
        channels = rows.shape[1]
        means, variances = self.running_mean.repeat(self.parts), self.running_var.repeat(self.parts)
        # Channels of the parts side by side: one pass of torch's own BatchNorm over all of them.
        cut = rows.unflatten(0, (self.parts, -1)).transpose(0, 1)
        apart = cut.reshape(len(rows) // self.parts, self.parts * channels, *rows.shape[2:])
        scale, shift = (None if one is None else one.repeat(self.parts) for one in (self.weight, self.bias))
        result = F.batch_norm(apart, means, variances, scale, shift, True, self.momentum, self.eps)
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.copy_(means.view(self.parts, channels).mean(0))
            self.running_var.copy_(variances.view(self.parts, channels).mean(0))
        whole = result.view_as(cut).transpose(0, 1).reshape(rows.shape)
        return self._finished(whole)


def _replaced(module: nn.Module, replacement: Callable[[nn.Module], nn.Module]) -> nn.Module:
    if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
        return replacement(module)
    for name, child in module.named_children():
        setattr(module, name, _replaced(child, replacement))
    return module


def in_parts(module: nn.Module, parts: int) -> nn.Module:
    """The module with every BatchNorm in parts of this process's rows; unchanged if that is one."""
    return module if parts == 1 else _replaced(module, lambda source: PartedBatchNorm(source, parts))


def synchronised(module: nn.Module, device: torch.device) -> nn.Module:
    """The module with every BatchNorm synchronised over processes; unchanged if there is one process.

    Call it after the weights exist and before a data-parallel wrapper does.
    """
    if world_size() == 1:
        return module
    return (
        nn.SyncBatchNorm.convert_sync_batchnorm(module)
        if device.type == "cuda"
        else _replaced(module, GatheredBatchNorm)
    )


def has_batchnorm(module: nn.Module) -> bool:
    """Whether statistics of the batch enter the module's result."""
    kinds = (nn.modules.batchnorm._BatchNorm, _BatchNorm)
    return any(isinstance(part, kinds) for part in module.modules())
