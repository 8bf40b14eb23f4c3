"""The denoiser of all three modes: it sees a noised image embedding, a caption, both or none."""

from __future__ import annotations

from typing import NamedTuple

import open_clip
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.models.embeddings import get_timestep_embedding
from torch.nn import functional

from recipes.small_models import clip
from recipes.small_models.collection import Collection, unit_range
from recipes.small_models.loop import Options, Schedule, train
from recipes.small_models.tokenizer import WordTokenizer

NOISE = {"num_train_timesteps": 1000, "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
# The last step must be pure noise: at 16 x 16 the mean colour is legible in the 0.5 % of signal that the usual schedule
# leaves there, so that a denoiser learns to read colours and not captions (Lin et al. 2023, section 3).
PURE_NOISE = NOISE | {"rescale_betas_zero_snr": True}


class Lesson(NamedTuple):
    """How samples are noised and stripped of their conditions in one part of the training."""

    noise: dict
    time_exponent: float
    """Timesteps are drawn as u^exponent: below 1, the noisy steps, where the caption decides, come more often."""
    image_dropout: float
    caption_dropout: float


# Shape is learnt on the usual schedule; from pure noise alone it was not (captions' classes drawn in .38 of 1,000
# prompts, after as many steps). What pure noise looks like is learnt next, mostly from captions alone and at a falling
# learning rate: while an image embedding tells the colour in every second sample, captions' colours stay unread.
FIRST = Lesson(NOISE, 1.0, 0.5, 0.3)
LAST = Lesson(PURE_NOISE, 0.5, 0.7, 0.2)
FIRST_SHARE = 0.65
"""Part of the steps that are the first lesson's."""
CLEAN_SHARE = 0.34
"""Part of the image embeddings that keep noise level 0; the rest is uniform below `HIGHEST_LEVEL`."""
HIGHEST_LEVEL = 500
# Short captions more often than for the encoder: a prompt of one or two words must be enough.
UNET_SCORES = (0.15, 0.45, 0.22, 0.18)


def build() -> UNet2DConditionModel:
    """UNet2DConditionModel with 2.6 M parameters, attention at 4 x 4 only, untrained."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 64, 96),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        cross_attention_dim=64,
        attention_head_dim=(2, 2, 3),
        norm_num_groups=16,
        use_linear_projection=True,
        resnet_time_scale_shift="scale_shift",
        class_embed_type="projection",
        projection_class_embeddings_input_dim=2 * clip.EMBEDDING,
    )


@torch.no_grad()
def latents(autoencoder: AutoencoderKL, data: Collection, device: str) -> torch.Tensor:
    """Latent means of all scenes, float16 [N, 4, 16, 16]."""
    parts = data.images.split(64)
    return torch.cat([autoencoder.encode(unit_range(p).to(device)).latent_dist.mean.half().cpu() for p in parts])


@torch.no_grad()
def embeddings(encoder: open_clip.CLIP, data: Collection, device: str) -> torch.Tensor:
    """Image embeddings as the pipeline makes them (projected, not normalised), float32 [N, EMBEDDING]."""
    return torch.cat([encoder.encode_image(clip.preprocess(part).to(device)).cpu() for part in data.images.split(256)])


@torch.no_grad()
def caption_states(encoder: open_clip.CLIP, ids: torch.Tensor) -> torch.Tensor:
    """Last hidden states of the text tower [N, CONTEXT_LENGTH, 64], as transformers' CLIPTextModel returns them."""
    hidden = encoder.token_embedding(ids) + encoder.positional_embedding
    return encoder.ln_final(encoder.transformer(hidden, attn_mask=encoder.attn_mask))


def fit(
    data: Collection,
    image_latents: torch.Tensor,
    encoder: open_clip.CLIP,
    options: Options,
    *,
    steps: int = 18_500,
    batch: int = 24,
) -> tuple[UNet2DConditionModel, dict]:
    """Train with v-prediction; image vector and caption are dropped independently, as the pipelines need it."""
    torch.manual_seed(options.seed)
    unet = build().to(options.device)
    encoder = encoder.to(options.device).eval()
    lessons = [(lesson, DDPMScheduler(**lesson.noise, prediction_type="v_prediction")) for lesson in (FIRST, LAST)]
    noising = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")
    vectors = embeddings(encoder, data, options.device)
    mean, deviation = vectors.mean(0), vectors.std(0)
    vectors = (vectors - mean) / deviation
    captions = clip.caption_ids(data, options.seed + 1, UNET_SCORES)
    empty = WordTokenizer()([""])[0].short()

    def loss(generator: torch.Generator, step: int):
        lesson, scheduler = lessons[step >= FIRST_SHARE * steps]
        rows = torch.randint(len(data), (batch,), generator=generator)
        clean = image_latents[rows].float()
        noise = torch.randn(clean.shape, generator=generator)
        # One timestep from each of `batch` equal parts of their distribution: less variance than independent draws.
        parts = (torch.arange(batch) + torch.rand(batch, generator=generator)) / batch
        times = (parts**lesson.time_exponent * 1000).long().clamp(max=999)
        levels = torch.randint(HIGHEST_LEVEL, (batch,), generator=generator)
        levels[torch.rand(batch, generator=generator) < CLEAN_SHARE] = 0
        vector_noise = torch.randn(batch, vectors.shape[1], generator=generator)
        vector = noising.add_noise(vectors[rows], vector_noise, levels) * deviation + mean
        level = get_timestep_embedding(levels, clip.EMBEDDING, flip_sin_to_cos=True, downscale_freq_shift=0)
        condition = torch.cat([vector, level], dim=1)
        condition[torch.rand(batch, generator=generator) < lesson.image_dropout] = 0
        ids = captions[rows, torch.randint(clip.CAPTIONS_PER_SCENE, (batch,), generator=generator)]
        ids[torch.rand(batch, generator=generator) < lesson.caption_dropout] = empty
        states = caption_states(encoder, ids.long().to(options.device))
        noisy = scheduler.add_noise(clean, noise, times)
        target = scheduler.get_velocity(clean, noise, times)
        device = options.device
        predicted = unet(
            noisy.to(device), times.to(device), states, class_labels=condition.to(device), return_dict=False
        )[0]
        return functional.mse_loss(predicted, target.to(device)), {}

    report = train(
        "unet",
        unet,
        loss,
        Schedule(steps, peak=1.2e-3, warmup=100),
        options,
        betas=(0.9, 0.99),
        average=0.999,
    )
    return unet, report
