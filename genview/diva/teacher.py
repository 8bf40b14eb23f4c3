"""The frozen diffusion model of DIVA: latents once per image, noise added, and its error for a visual context.

B images of S x S pixels, latents [B, c, s, s], context [B, n, C].
"""

from dataclasses import dataclass

import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn

from genview.config.diva import DiffusionModel
from genview.config.views import ViewSet
from genview.diva.loss import noise_prediction_loss, target
from genview.errors import GenviewError
from genview.generation import pipelines


@dataclass(frozen=True)
class Draw:
    """One draw of noise for B images: timesteps int64 [B], noise float32 [B, c, s, s]."""

    timesteps: Tensor
    noise: Tensor


class Teacher:
    """A Stable Diffusion model of which nothing is trained; gradients flow through its UNet into the context.

    Attributes:
        prior: hidden states of the constant prompt, float32 [L, C].
        weights: digest of all its files.
        size: side of the images that its autoencoder takes, in pixels.
    """

    def __init__(self, settings: DiffusionModel, prompt: str, device: torch.device):
        """Load it, and encode the prompt; the text encoder is not needed afterwards.

        Raises:
            GenviewError: the model is not available, is not a Stable Diffusion pipeline, or predicts something unknown.
        """
        view = ViewSet(
            mode="txt",
            model=settings.model,
            revision=settings.revision,
            variant=settings.variant,
            sha256=settings.sha256,
            precision=settings.precision,
            image_size=settings.image_size,
        )
        loaded = pipelines.load(view, device)
        pipeline = loaded.pipeline
        self.device, self.weights, self.model = device, loaded.weights, loaded.model
        self.size = loaded.size
        self.vae, self.unet = pipeline.vae, pipeline.unet
        # Samplers of few steps keep tables of their own; the noise of the training follows from the betas.
        self.scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
        if self.scheduler.config.prediction_type not in ("epsilon", "v_prediction"):
            raise GenviewError(
                f"{loaded.model}: its scheduler predicts {self.scheduler.config.prediction_type!r}; DIVA needs "
                "'epsilon' or 'v_prediction'"
            )
        if self.unet.config.class_embed_type is not None:
            raise GenviewError(
                f"{loaded.model}: its UNet also takes an image embedding (Stable unCLIP); DIVA needs a model that is "
                "conditioned by its context alone"
            )
        self.prior = _hidden_states(pipeline, prompt)
        if settings.gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
            self.unet.train()  # the library recomputes in training mode only; its UNets have no active dropout
        _refuse_dropout(self.unet, loaded.model)

    @torch.no_grad()
    def latents(self, pixels: Tensor) -> Tensor:
        """Mean of the autoencoder's posterior times its scale, float32 [B, c, s, s].

        Args:
            pixels: [B, 3, S, S] in [0, 1]; the autoencoder takes [-1, 1].
        """
        pixels = (pixels.to(self.device, self.vae.dtype) * 2 - 1).clamp(-1, 1)
        mean = self.vae.encode(pixels).latent_dist.mean.float()
        return (mean - (self.vae.config.shift_factor or 0)) * self.vae.config.scaling_factor

    def draw(self, shape: torch.Size, seeds: list[int]) -> Draw:
        """Timesteps, uniform over the whole schedule, and Gaussian noise: each image's from its own seed, on the CPU.

        Args:
            shape: of the latents [B, c, s, s].
            seeds: B, of (run, epoch, key, draw).
        """
        steps = self.scheduler.config.num_train_timesteps
        timesteps, noise = [], []
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            timesteps.append(torch.randint(steps, (), generator=generator))
            noise.append(torch.randn(shape[1:], generator=generator))
        return Draw(torch.stack(timesteps).to(self.device), torch.stack(noise).to(self.device))

    def error(self, latents: Tensor, context: Tensor, draw: Draw) -> Tensor:
        """Scalar loss of the UNet's prediction for noised latents under a context; differentiable in the context."""
        noised = self.scheduler.add_noise(latents, draw.noise, draw.timesteps)
        predicted = self.unet(
            noised.to(self.unet.dtype), draw.timesteps, encoder_hidden_states=context.to(self.unet.dtype)
        ).sample
        wanted = target(self.scheduler, latents, draw.noise, draw.timesteps)
        return noise_prediction_loss(predicted.float(), wanted)


@torch.no_grad()
def _hidden_states(pipeline, prompt: str) -> Tensor:
    """Last hidden states of the text encoder for the prompt, padded to its length: float32 [L, C]."""
    ids = pipeline.tokenizer(
        prompt, padding="max_length", max_length=pipeline.tokenizer.model_max_length, truncation=True
    ).input_ids
    encoder = pipeline.text_encoder
    return encoder(torch.tensor([ids], device=encoder.device))[0][0].float()


def _refuse_dropout(unet: nn.Module, name: str) -> None:
    if any(isinstance(module, nn.Dropout) and module.p > 0 for module in unet.modules()):
        raise GenviewError(f"{name}: its UNet has dropout; as a frozen teacher it must not be random")
