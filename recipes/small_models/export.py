"""From the trained parts to the directories that open_clip, transformers and diffusers load."""

from __future__ import annotations

from pathlib import Path

import open_clip
import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    StableUnCLIPImg2ImgPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from genview import atomic
from genview.models import judge as judges
from recipes.small_models import clip, tokenizer
from recipes.small_models.unet import PURE_NOISE

_BLOCK_NAMES = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_VISION_NAMES = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
}
_TEXT_NAMES = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}


def vision_tower(model: open_clip.CLIP) -> CLIPVisionModelWithProjection:
    """The image tower of an open_clip ViT as transformers' class, with equal outputs."""
    settings = clip.configuration(model.vocab_size)["vision_cfg"]
    config = CLIPVisionConfig(
        hidden_size=settings["width"],
        intermediate_size=4 * settings["width"],
        num_hidden_layers=settings["layers"],
        num_attention_heads=settings["width"] // settings["head_width"],
        image_size=settings["image_size"],
        patch_size=settings["patch_size"],
        projection_dim=clip.EMBEDDING,
        hidden_act="gelu",
    )
    weights = model.state_dict()
    renamed = {new: weights[old] for old, new in _VISION_NAMES.items()}
    renamed |= _blocks(weights, "visual.transformer.resblocks.", "vision_model.encoder.layers.")
    renamed["visual_projection.weight"] = weights["visual.proj"].T.contiguous()
    tower = CLIPVisionModelWithProjection(config)
    tower.load_state_dict(renamed)
    return tower.eval()


def text_tower(model: open_clip.CLIP) -> CLIPTextModel:
    """The text tower of an open_clip model as transformers' class, with equal hidden states."""
    settings = clip.configuration(model.vocab_size)["text_cfg"]
    words = tokenizer.build()
    config = CLIPTextConfig(
        vocab_size=settings["vocab_size"],
        hidden_size=settings["width"],
        intermediate_size=4 * settings["width"],
        num_hidden_layers=settings["layers"],
        num_attention_heads=settings["heads"],
        max_position_embeddings=settings["context_length"],
        hidden_act="gelu",
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    weights = model.state_dict()
    renamed = {new: weights[old] for old, new in _TEXT_NAMES.items()}
    renamed |= _blocks(weights, "transformer.resblocks.", "encoder.layers.")
    tower = CLIPTextModel(config)
    tower.load_state_dict(renamed)
    return tower.eval()


def image_variations(
    model: open_clip.CLIP, autoencoder: AutoencoderKL, unet: UNet2DConditionModel, vectors: torch.Tensor
) -> StableUnCLIPImg2ImgPipeline:
    """The whole pipeline; `vectors` [N, EMBEDDING] are the training embeddings that its normaliser describes."""
    normaliser = StableUnCLIPImageNormalizer(clip.EMBEDDING)
    with torch.no_grad():
        normaliser.mean.copy_(vectors.mean(0, keepdim=True))
        normaliser.std.copy_(vectors.std(0, keepdim=True))
    sampling = DPMSolverMultistepScheduler(
        **PURE_NOISE,
        prediction_type="v_prediction",
        algorithm_type="dpmsolver++",
        timestep_spacing="trailing",
        steps_offset=1,
    )
    # Schedulers that a user may change to clip to -1..1 unless told not to; latents reach further than pixels.
    sampling.register_to_config(clip_sample=False, set_alpha_to_one=True)
    return StableUnCLIPImg2ImgPipeline(
        feature_extractor=CLIPImageProcessor(
            size={"shortest_edge": 32},
            crop_size={"height": 32, "width": 32},
            resample=3,
            image_mean=clip.MEAN,
            image_std=clip.DEVIATION,
        ),
        image_encoder=vision_tower(model),
        image_normalizer=normaliser,
        image_noising_scheduler=DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2"),
        tokenizer=tokenizer.build(),
        text_encoder=text_tower(model),
        unet=unet,
        scheduler=sampling,
        vae=autoencoder,
    )


def write_encoder(model: open_clip.CLIP, folder: Path) -> None:
    """Write the open_clip directory, complete or not at all."""
    with atomic.writing(folder) as partial:
        partial.mkdir()
        clip.write(model, partial)


def write_pipeline(pipeline: StableUnCLIPImg2ImgPipeline, folder: Path) -> None:
    """Write the diffusers directory in fp16; the pipeline is in fp16 afterwards."""
    with atomic.writing(folder) as partial:
        pipeline.to(dtype=torch.float16)
        pipeline.save_pretrained(partial)


def write_judge(judge: judges.Judge, folder: Path) -> None:
    """Write the judge's directory, complete or not at all."""
    with atomic.writing(folder) as partial:
        partial.mkdir()
        judges.save(judge, partial)


def _blocks(weights: dict[str, torch.Tensor], old: str, new: str) -> dict[str, torch.Tensor]:
    """Transformer blocks renamed, their joint input projection split in query, key and value."""
    renamed = {}
    for name, value in weights.items():
        if not name.startswith(old):
            continue
        layer, _, rest = name.removeprefix(old).partition(".")
        if rest.startswith("attn.in_proj_"):
            kind = rest.removeprefix("attn.in_proj_")
            for projection, part in zip(("q_proj", "k_proj", "v_proj"), value.chunk(3), strict=True):
                renamed[f"{new}{layer}.self_attn.{projection}.{kind}"] = part.clone()
            continue
        module, _, kind = rest.rpartition(".")
        renamed[f"{new}{layer}.{_BLOCK_NAMES[module]}.{kind}"] = value
    return renamed
