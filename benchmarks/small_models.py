"""Figures of the small family on unseen scenes, with standard errors; JSON, a table, and the model cards.

python benchmarks/small_models.py [--models genview/models/small] [--scenes 1000] [--output figures.json]
"""

import argparse
from pathlib import Path

import numpy as np
import open_clip
import torch
from diffusers import StableDiffusionPipeline, StableUnCLIPImg2ImgPipeline
from torch.nn import functional

from genview import atomic
from genview.data import scenes
from genview.foreground import noise, pca, ratio
from genview.models import judge as judges
from genview.models import load
from recipes.small_models import cards
from recipes.small_models.collection import TRAINING_SEED, UNSEEN_SEED, collection, unit_range

SHIPPED = Path(__file__).resolve().parent.parent / "genview" / "models" / "small"
GRID = (8, 8)
STEPS = 10
IMAGE_GUIDANCE = 2.5
TEXT_GUIDANCE = 6.0  # what a study gives to a prompt with one constraint
BATCH = 50
DIVERSITY_ORIGINALS, DIVERSITY_VIEWS = 100, 4
FITTING_SCENES = 3000


def share(hits, target=""):
    """A proportion with its binomial standard error."""
    hits = torch.as_tensor(hits).double()
    value = float(hits.mean())
    return figure(value, (value * (1 - value) / len(hits)) ** 0.5, target)


def average(values, target=""):
    """A mean with its standard error."""
    values = torch.as_tensor(values).double()
    return figure(float(values.mean()), float(values.std()) / len(values) ** 0.5, target)


def resampled(statistic, count, target="", rounds=200):
    """A statistic of `count` images, with the deviation of `rounds` bootstrap draws as its standard error."""
    random = np.random.default_rng(0)
    draws = [statistic(random.integers(0, count, count)) for _ in range(rounds)]
    return figure(float(statistic(np.arange(count))), float(np.std(draws)), target)


def figure(value, standard_error, target=""):
    """One figure, its standard error, and what was wanted."""
    return {"value": value, "standard_error": standard_error, "target": target}


class Family:
    """The directories of the family, loaded."""

    def __init__(self, folder: Path):
        name = f"local-dir:{folder / 'clip'}"
        self.encoder, _, _ = open_clip.create_model_and_transforms(name)
        self.encoder.eval()
        self.words = open_clip.get_tokenizer(name)
        self.judge = judges.load(folder / "judge")
        self.unclip = StableUnCLIPImg2ImgPipeline.from_pretrained(folder / "unclip", dtype=torch.float32)
        self.text = StableDiffusionPipeline.from_pretrained(
            load.text_to_image_directory(folder / "unclip"), dtype=torch.float32, safety_checker=None
        )
        for pipeline in (self.unclip, self.text):
            pipeline.set_progress_bar_config(disable=True)

    @torch.inference_mode()
    def encode(self, images):
        """Embeddings [N, E] and tokens [N, T, D] of uint8 images."""
        self.encoder.visual.output_tokens = True
        parts = [self.encoder.visual(unit_range(part)) for part in images.split(250)]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])

    @torch.inference_mode()
    def encode_text(self, texts):
        """Unit text embeddings [N, E]."""
        return functional.normalize(self.encoder.encode_text(self.words(texts)), dim=-1)

    def variations(self, images, level, prompts=None, first_seed=0):
        """One view of each image, uint8, at one noise level."""
        embeddings, _ = self.encode(images)
        prompts = prompts or [""] * len(images)
        views = []
        for start in range(0, len(images), BATCH):
            part = slice(start, start + BATCH)
            made = self.unclip(
                image_embeds=embeddings[part],
                prompt=prompts[part],
                noise_level=level,
                guidance_scale=IMAGE_GUIDANCE,
                num_inference_steps=STEPS,
                generator=_generators(first_seed + start, len(prompts[part])),
                output_type="pt",
            )
            views.append((made.images * 255).round().byte())
        return torch.cat(views)

    def from_text(self, prompts):
        """One image of each prompt, uint8."""
        views = []
        for start in range(0, len(prompts), BATCH):
            part = prompts[start : start + BATCH]
            made = self.text(
                prompt=part,
                guidance_scale=TEXT_GUIDANCE,
                num_inference_steps=STEPS,
                generator=_generators(start, len(part)),
                output_type="pt",
            )
            views.append((made.images * 255).round().byte())
        return torch.cat(views)


def _generators(first, count):
    return [torch.Generator().manual_seed(first + number) for number in range(count)]


def encoder_figures(family, data):
    """Zero-shot accuracy."""
    embeddings = functional.normalize(family.encode(data.images)[0], dim=-1)
    classes = embeddings @ family.encode_text(scenes.class_prompts()).T
    colours = torch.stack([family.encode_text(prompts).mean(0) for prompts in scenes.colour_prompts()])
    return {
        "zero-shot class": share(classes.argmax(1) == data.column("class_index"), ">= 0.95"),
        "zero-shot colour": share((embeddings @ colours.T).argmax(1) == data.column("colour_index"), ">= 0.98"),
    }


def foreground_figures(family, data):
    """First component of the tokens against the true masks; fitted, oriented and cut as a study does it."""
    fitting = collection(FITTING_SCENES, TRAINING_SEED)
    sample = family.encode(fitting.images)[1].numpy()
    fitted = pca.fit([sample])
    scores = sample @ fitted.component
    sign = pca.orient(scores, GRID).sign
    cut = pca.threshold(sign * scores, 0.4)
    tokens = family.encode(data.images)[1].numpy()
    unseen = sign * (tokens @ fitted.component)
    truth = data.patch_masks.numpy()
    right = []
    for start in range(0, len(data) - 49, 50):
        part = tokens[start : start + 50]
        own = part @ pca.fit([part]).component
        agreement = np.corrcoef(own.ravel(), truth[start : start + 50].ravel())[0, 1]
        right.append(pca.orient(own, GRID).sign == np.sign(agreement))
    ratios = np.asarray(ratio.foreground_ratio(unseen, cut))
    levels = np.asarray(noise.adaptive_level(ratios))
    true_levels = np.asarray(noise.adaptive_level(data.shares.numpy()))
    result = {
        "variance of the first component": figure(fitted.explained_variance_ratio, 0.0),
        "correlation with the token foreground": resampled(
            lambda rows: np.corrcoef(unseen[rows].ravel(), truth[rows].ravel())[0, 1], len(data), ">= 0.97"
        ),
        "orientation right (samples of 50)": share(right, "1"),
        "ratio error, mean absolute": average(np.abs(ratios - data.shares.numpy()), "<= 0.04"),
        "noise level as by the true share": share(levels == true_levels),
    }
    for level in range(0, 500, 100):
        result[f"images at noise level {level}"] = share(levels == level)
    return result


def judged(family, images, data, targets=("", "", "")):
    """Class and colour that the judge sees, against the truth."""
    seen = family.judge.classify(images)
    right = seen["class"] == data.column("class_index")
    return {
        "class": share(right, targets[0]),
        "class where the object fills a fifth": share(right[data.shares >= 0.2], targets[1]),
        "colour": share(seen["colour"] == data.column("colour_index"), targets[2]),
        "background": share(seen["background"] == data.column("background_index")),
    }


@torch.inference_mode()
def autoencoder_figures(family, data):
    """What a passage through the latents keeps."""
    coder = family.unclip.vae
    pixels = [unit_range(part) for part in data.images.split(BATCH)]
    restored = torch.cat([coder.decode(coder.encode(part).latent_dist.mode()).sample for part in pixels]).clamp(-1, 1)
    error = (restored - torch.cat(pixels)).square().mean((1, 2, 3))
    kept = judged(family, ((restored + 1) * 127.5).round().byte(), data, (">= 0.92", "", ">= 0.97"))
    return kept | {"PSNR, dB": average(10 * torch.log10(4 / error))}


def level_figures(family, data, at_0, at_400):
    """What the noise level does: nearness to the original falls, diversity among the views of one image rises."""
    original = functional.normalize(family.encode(data.images)[0], dim=-1)
    nearness = {
        level: (original * functional.normalize(family.encode(views)[0], dim=-1)).sum(1)
        for level, views in ((0, at_0), (400, at_400))
    }
    images = data.images[:DIVERSITY_ORIGINALS]
    pixel, embedding = {}, {}
    for level in (0, 400):
        views = torch.stack(
            [family.variations(images, level, first_seed=10_000 * (1 + view)) for view in range(DIVERSITY_VIEWS)]
        )
        pixel[level] = (views.float() / 255).std(0).mean((1, 2, 3)).numpy()
        vectors = functional.normalize(family.encode(views.flatten(0, 1))[0], dim=-1).unflatten(0, views.shape[:2])
        cosines = torch.einsum("vnd,wnd->nvw", vectors, vectors)
        pairs = DIVERSITY_VIEWS * (DIVERSITY_VIEWS - 1)
        embedding[level] = (1 - (cosines.sum((1, 2)) - DIVERSITY_VIEWS) / pairs).numpy()
    return {
        "CLIP cosine at level 0": average(nearness[0]),
        "CLIP cosine at level 400": average(nearness[400]),
        "fall of the cosine": average(nearness[0] - nearness[400], ">= 0.02"),
        "rise of the pixel deviation among views": resampled(
            lambda rows: pixel[400][rows].mean() / pixel[0][rows].mean() - 1, len(images), ">= 0.15"
        ),
        "rise of the cosine distance among views": resampled(
            lambda rows: embedding[400][rows].mean() / embedding[0][rows].mean() - 1, len(images)
        ),
    }


def measure(folder: Path, count: int) -> dict:
    """All figures by group."""
    family = Family(folder)
    data = collection(count, UNSEEN_SEED)
    short = [scenes.caption(data.attribute(row), ("colour",)) for row in range(count)]
    at_0, at_400 = family.variations(data.images, 0), family.variations(data.images, 400)
    return {
        "scenes": count,
        "sampling": {"steps": STEPS, "image guidance": IMAGE_GUIDANCE, "text guidance": TEXT_GUIDANCE},
        "encoder": encoder_figures(family, data),
        "foreground": foreground_figures(family, data),
        "judge": judged(family, data.images, data),
        "autoencoder": autoencoder_figures(family, data),
        "img": judged(family, at_0, data, (">= 0.75", ">= 0.90", ">= 0.95")),
        "img at level 400": judged(family, at_400, data),
        "noise_levels": level_figures(family, data, at_0, at_400),
        "imgtxt": judged(family, family.variations(data.images, 400, short), data),
        # The prompt names class and colour; share and background are the model's own choice.
        "txt": {
            name: value
            for name, value in judged(family, family.from_text(short), data, (">= 0.80", "", ">= 0.80")).items()
            if name in ("class", "colour")
        },
    }


def table(figures: dict) -> str:
    """All figures as one Markdown table."""
    lines = ["| | figure | value | standard error | wanted |", "|---|---|---|---|---|"]
    for group, members in figures.items():
        if group in ("scenes", "sampling"):
            continue
        for name, value in members.items():
            lines.append(
                f"| {group} | {name} | {value['value']:.4f} | {value['standard_error']:.4f} | {value['target']} |"
            )
    return "\n".join(lines)


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, default=SHIPPED)
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--output", type=Path, help="default: figures.json beside the models, and the cards too")
    arguments = parser.parse_args()
    torch.set_flush_denormal(True)
    figures = measure(arguments.models, arguments.scenes)
    print(table(figures))
    atomic.write_json(arguments.output or arguments.models / "figures.json", figures)
    if not arguments.output:
        cards.write(arguments.models)


if __name__ == "__main__":
    main()
