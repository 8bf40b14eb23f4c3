"""A pipeline of Stable Diffusion 2.1 unCLIP's architecture with random weights: real size and speed, no download."""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDPMScheduler, PNDMScheduler, StableUnCLIPImg2ImgPipeline, UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

UNET = {
    "sample_size": 96,
    "block_out_channels": (320, 640, 1280, 1280),
    "attention_head_dim": (5, 10, 20, 20),
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
    "class_embed_type": "projection",
    "projection_class_embeddings_input_dim": 2048,
}
AUTOENCODER = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 768,
}
TEXT = CLIPTextConfig(
    hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16, hidden_act="gelu"
)
VISION = CLIPVisionConfig(
    hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=16, patch_size=14,
    projection_dim=1024, hidden_act="gelu",
)  # fmt: skip


def tokenizer(folder: Path) -> CLIPTokenizer:
    """A tokenizer that spells every word, letter by letter; the length of a prompt is fixed at 77 tokens anyway."""
    folder.mkdir(parents=True)
    letters = [chr(code) for code in range(33, 127)]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *[letter + "</w>" for letter in letters]]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)


def save_random(folder: Path, dtype: torch.dtype) -> Path:
    """Write the pipeline's directory: 870 million weights in the UNet, 2 billion in all."""
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        parts = {
            "unet": UNet2DConditionModel(**UNET),
            "vae": AutoencoderKL(**AUTOENCODER),
            "text_encoder": CLIPTextModel(TEXT),
            "image_encoder": CLIPVisionModelWithProjection(VISION),
            "image_normalizer": StableUnCLIPImageNormalizer(1024),
        }
    parts = {name: part.to(dtype) for name, part in parts.items()}
    StableUnCLIPImg2ImgPipeline(
        **parts,
        tokenizer=tokenizer(folder.parent / "tokenizer"),
        feature_extractor=CLIPImageProcessor(),
        image_noising_scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        scheduler=PNDMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
            skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False,
        ),
    ).save_pretrained(folder)  # fmt: skip
    return folder
