"""The token encoder: a small open_clip ViT whose tokens know the foreground and whose text tower knows the captions."""

from __future__ import annotations

import copy
import json

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file
from torch.nn import functional

from genview.data import scenes
from recipes.small_models import tokenizer
from recipes.small_models.collection import CARDINALITIES, Collection
from recipes.small_models.loop import Options, Schedule, train
from recipes.small_models.tokenizer import CONTEXT_LENGTH, WordTokenizer

EMBEDDING = 64
MEAN, DEVIATION = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
# Short captions teach the class and colour words, long ones the other constraints.
TRAINING_SCORES = (0.15, 0.4, 0.25, 0.2)
CAPTIONS_PER_SCENE = 8


def configuration(vocabulary_size: int) -> dict:
    """open_clip model configuration."""
    return {
        "embed_dim": EMBEDDING,
        "vision_cfg": {"image_size": 32, "patch_size": 4, "width": 64, "layers": 4, "head_width": 16},
        "text_cfg": {
            "context_length": CONTEXT_LENGTH,
            "vocab_size": vocabulary_size,
            # With a `local-dir:` name open_clip reads the tokenizer of that folder, whatever this says.
            "hf_tokenizer_name": "genview/small-clip",
            "tokenizer_kwargs": {},
            "width": 64,
            "heads": 4,
            "layers": 2,
        },
    }


def build(vocabulary_size: int) -> open_clip.CLIP:
    """open_clip.CLIP with sine-cosine positions, untrained."""
    settings = configuration(vocabulary_size)
    model = open_clip.CLIP(settings["embed_dim"], settings["vision_cfg"], settings["text_cfg"])
    with torch.no_grad():
        model.visual.positional_embedding[1:] = 0.5 * _grid_positions(8, 64)
    return model


def build_for_scenes() -> open_clip.CLIP:
    """`build` for the vocabulary of the scenes' tokenizer."""
    return build(WordTokenizer().vocabulary_size)


def preprocess(images: torch.Tensor) -> torch.Tensor:
    """uint8 [N, 3, 32, 32] as the normalised float32 the encoder was trained on."""
    return images.float() / 127.5 - 1


def caption_ids(data: Collection, seed: int, score_probabilities=TRAINING_SCORES) -> torch.Tensor:
    """Ids int16 [N, CAPTIONS_PER_SCENE, CONTEXT_LENGTH]: several captions of each scene, of varied richness."""
    words = WordTokenizer()
    random = np.random.default_rng(seed)
    ids = torch.empty(len(data), CAPTIONS_PER_SCENE, CONTEXT_LENGTH, dtype=torch.int16)
    for row in range(len(data)):
        attributes = data.attribute(row)
        texts = [
            scenes.caption(attributes, scenes.draw_constraints(random, attributes, score_probabilities))
            for _ in range(CAPTIONS_PER_SCENE - 1)
        ]
        texts.append(scenes.caption(attributes, ("colour",)))
        ids[row] = words(texts)
    return ids


class _Training(torch.nn.Module):
    """The model and the heads that only training needs."""

    def __init__(self, model: open_clip.CLIP):
        super().__init__()
        self.model = model
        self.attributes = torch.nn.ModuleDict(
            {name: torch.nn.Linear(EMBEDDING, count) for name, count in CARDINALITIES.items()}
        )
        self.foreground = torch.nn.Linear(64, 1)


def fit(data: Collection, options: Options, *, steps: int = 6200, batch: int = 32) -> tuple[open_clip.CLIP, dict]:
    """Train on image-caption pairs, attributes and patch masks (contrastive + classification + dense loss)."""
    torch.manual_seed(options.seed)
    captions = caption_ids(data, options.seed)
    training = _Training(build_for_scenes()).to(options.device)
    training.model.visual.output_tokens = True

    def loss(generator: torch.Generator, step: int):
        rows = torch.randint(len(data), (batch,), generator=generator)
        which = torch.randint(CAPTIONS_PER_SCENE, (batch,), generator=generator)
        pooled, tokens = training.model.visual(preprocess(data.images[rows]).to(options.device))
        text = training.model.encode_text(captions[rows, which].long().to(options.device))
        logits = functional.normalize(pooled, dim=-1) @ functional.normalize(text, dim=-1).T
        logits = logits * training.model.logit_scale.exp().clamp(max=100)
        target = torch.arange(batch, device=options.device)
        contrastive = (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2
        heads = {}
        for name, head in training.attributes.items():
            truth = data.column(name)[rows].to(options.device)
            scores = head(pooled)
            heads[name] = functional.cross_entropy(scores, truth)
            if name == "class_index":
                correct = (scores.argmax(-1) == truth).float().mean()
        others = sum(heads.values()) - heads["class_index"]
        dense = functional.binary_cross_entropy_with_logits(
            training.foreground(tokens)[..., 0], data.patch_masks[rows].to(options.device)
        )
        value = contrastive + others / (len(heads) - 1) + heads["class_index"] + 3 * dense
        return value, {"contrastive": contrastive, "class_accuracy": correct, "dense": dense}

    report = train("clip", training, loss, Schedule(steps, peak=1.5e-3), options, weight_decay=0.05)
    training.model.visual.output_tokens = False
    return training.model, report


def refine(
    data: Collection, model: open_clip.CLIP, options: Options, *, steps: int = 2400, batch: int = 32
) -> tuple[open_clip.CLIP, dict]:
    """Make the foreground the main direction of the patch tokens; embeddings and text tower stay what they are.

    Contrastive training leaves class and colour in the tokens, too; the first principal component is then a mixture.
    Half of the tokens' variance is asked for the foreground direction, and a straight line from it to the coverage.
    """
    torch.manual_seed(options.seed + 2)
    teacher = copy.deepcopy(model).to(options.device).eval().requires_grad_(False)
    student = torch.nn.ModuleDict({"visual": model.visual, "direction": torch.nn.Linear(64, 1, bias=False)})
    student.to(options.device)
    model.visual.output_tokens = True
    with torch.no_grad():
        spread = teacher.encode_image(preprocess(data.images[:2000]).to(options.device)).var(0).mean()

    def loss(generator: torch.Generator, step: int):
        rows = torch.randint(len(data), (batch,), generator=generator)
        pixels = preprocess(data.images[rows]).to(options.device)
        pooled, tokens = student["visual"](pixels)
        kept = functional.mse_loss(pooled, teacher.encode_image(pixels)) / spread
        centred = tokens.flatten(0, 1) - tokens.mean((0, 1))
        projection = centred @ functional.normalize(student["direction"].weight[0], dim=0)
        covered = data.patch_masks[rows].flatten().to(options.device)
        correlation = functional.cosine_similarity(projection, covered - covered.mean(), dim=0)
        share = projection.square().mean() / centred.square().sum(-1).mean()
        value = 10 * kept + 3 * (1 - correlation) + 2 * functional.relu(0.5 - share)
        return value, {"kept": kept, "correlation": correlation, "share": share}

    report = train("clip-refine", student, loss, Schedule(steps, peak=8e-4, flat=0.3), options, average=0.995)
    model.visual.output_tokens = False
    return model, report


def write(model: open_clip.CLIP, folder) -> None:
    """Write an open_clip directory (fp16 weights, configuration, tokenizer) into an existing folder."""
    settings = {
        "model_cfg": configuration(model.vocab_size),
        "preprocess_cfg": {
            "size": 32,
            "mean": MEAN,
            "std": DEVIATION,
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }
    (folder / "open_clip_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    weights = {name: value.half().contiguous().cpu() for name, value in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    tokenizer.build().save_pretrained(folder)


def _grid_positions(side: int, width: int) -> torch.Tensor:
    """Two-dimensional sine-cosine positions [side^2, width] (MAE, appendix A.1)."""
    frequencies = 1.0 / 10_000 ** (torch.arange(width // 4) / (width // 4))
    angles = torch.arange(side)[:, None] * frequencies
    line = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows = line[:, None].expand(side, side, -1)
    columns = line[None].expand(side, side, -1)
    return torch.cat([rows, columns], dim=-1).reshape(side * side, width)
