"""The autoencoder: a small AutoencoderKL whose latents have zero mean and unit variance."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL

from recipes.small_models.collection import Collection, unit_range
from recipes.small_models.loop import Options, Schedule, train

LATENT_CHANNELS = 4


def build() -> AutoencoderKL:
    """AutoencoderKL, 32 x 32 x 3 to 16 x 16 x 4, untrained."""
    model = AutoencoderKL(
        sample_size=32,
        block_out_channels=(16, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=LATENT_CHANNELS,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )
    # A posterior that starts with unit variance drowns the signal for the first hundreds of steps.
    with torch.no_grad():
        model.quant_conv.weight[LATENT_CHANNELS:] = 0
        model.quant_conv.bias[LATENT_CHANNELS:] = -5
    return model


def fit(data: Collection, options: Options, *, steps: int = 3400, batch: int = 8) -> tuple[AutoencoderKL, dict]:
    """Train: first half on quarter crops (as many pixels, more variety), then on whole images."""
    torch.manual_seed(options.seed)
    model = build().to(options.device)
    schedule = Schedule(steps, peak=2e-3, flat=0.3)

    def loss(generator: torch.Generator, step: int):
        if step < steps // 2:
            rows = torch.randint(len(data), (4 * batch,), generator=generator)
            top, left = torch.randint(0, 17, (2,), generator=generator).tolist()
            pixels = data.images[rows, :, top : top + 16, left : left + 16]
        else:
            pixels = data.images[torch.randint(len(data), (batch,), generator=generator)]
        target = unit_range(pixels).to(options.device)
        posterior = model.encode(target).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator).to(options.device)
        restored = model.decode(posterior.mean + posterior.std * noise).sample
        difference = restored - target
        pixel = difference.abs().mean()
        edges = difference.diff(dim=2).abs().mean() + difference.diff(dim=3).abs().mean()
        divergence = posterior.kl().mean() / target[0].numel()
        value = pixel + 0.5 * edges + 2e-4 * divergence
        return value, {"pixel": pixel, "mse": difference.square().mean()}

    report = train("autoencoder", model, loss, schedule, options, betas=(0.9, 0.99))
    standardise(model, unit_range(data.images[:2000]).to(options.device))
    return model, report


@torch.no_grad()
def standardise(model: AutoencoderKL, pixels: torch.Tensor) -> None:
    """Fold each latent channel's mean and deviation over `pixels` into the 1 x 1 convolutions around the latent."""
    latents = torch.cat([model.encode(part).latent_dist.mean for part in pixels.split(100)])
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    model.quant_conv.weight[:LATENT_CHANNELS] /= deviation[:, None, None, None]
    model.quant_conv.bias[:LATENT_CHANNELS] -= mean
    model.quant_conv.bias[:LATENT_CHANNELS] /= deviation
    # The rest of the convolution is the log-variance, which a scale of the latent shifts.
    model.quant_conv.bias[LATENT_CHANNELS:] -= 2 * deviation.log()
    weight = model.post_quant_conv.weight
    model.post_quant_conv.bias += (weight[:, :, 0, 0] * mean).sum(1)
    model.post_quant_conv.weight *= deviation[None, :, None, None]
