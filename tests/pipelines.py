"""Tiny diffusion pipelines with random weights, of diffusers' own classes, for tests that need no trained ones."""

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    StableDiffusionPipeline,
    StableUnCLIPImg2ImgPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

EMBEDDING = 16


def _tokenizer(folder: Path) -> CLIPTokenizer:
    """A byte-level tokenizer without merges: every text is spelt, letter by letter."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(code) for code in range(33, 127)]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *[letter + "</w>" for letter in letters]]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=24)


def _parts(folder: Path, *, class_embedding: bool, blocks: int = 2) -> dict:
    torch.manual_seed(0)
    tokenizer = _tokenizer(folder.parent / f"{folder.name}-tokenizer")
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=24, projection_dim=EMBEDDING, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=(16, 32)[-blocks:], layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D")[-blocks:],
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D")[:blocks],
        mid_block_type="UNetMidBlock2DCrossAttn" if blocks > 1 else None,
        cross_attention_dim=16, attention_head_dim=2, norm_num_groups=8,
        class_embed_type="projection" if class_embedding else None,
        projection_class_embeddings_input_dim=2 * EMBEDDING if class_embedding else None,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8, 16)[-blocks:], down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks, latent_channels=4, norm_num_groups=4, sample_size=32,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
        clip_sample=False, set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip
    return {
        "tokenizer": tokenizer,
        "text_encoder": CLIPTextModel(text).eval(),
        "unet": unet.eval(),
        "vae": vae.eval(),
        "scheduler": scheduler,
    }


def save_unclip(folder: Path, blocks: int = 2) -> Path:
    """Write a ``StableUnCLIPImg2ImgPipeline`` of 32 x 32 pixels and embeddings of 16 values."""
    parts = _parts(folder, class_embedding=True, blocks=blocks)
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8,
        projection_dim=EMBEDDING,
    )  # fmt: skip
    normalizer = StableUnCLIPImageNormalizer(EMBEDDING)
    normalizer.mean.data.uniform_(-0.5, 0.5)
    normalizer.std.data.uniform_(0.5, 1.5)
    StableUnCLIPImg2ImgPipeline(
        **parts,
        feature_extractor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        image_encoder=CLIPVisionModelWithProjection(vision).eval(),
        image_normalizer=normalizer,
        image_noising_scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
    ).save_pretrained(folder)
    return folder


def save_text2image(folder: Path) -> Path:
    """Write a ``StableDiffusionPipeline`` of 32 x 32 pixels, without a safety checker."""
    parts = _parts(folder, class_embedding=False)
    StableDiffusionPipeline(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    ).save_pretrained(folder)
    return folder
