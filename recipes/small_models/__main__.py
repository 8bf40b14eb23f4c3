"""`python -m recipes.small_models PART --output FOLDER`: train a part of the small family, or export the whole."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from genview import atomic
from genview.errors import GenviewError
from recipes.small_models import autoencoder, cards, clip, export, judge, parts, unet
from recipes.small_models.collection import TRAINING_SEED, collection
from recipes.small_models.loop import Options

SCENES = 40_000
ORDER = ("judge", "clip", "autoencoder", "unet", "export")


def train_judge(options: Options, scenes: int, settings: dict) -> None:
    """The judge learns from scenes of its own, so that it shares no sample with what it judges."""
    model, report = judge.fit(_scenes(options, scenes, TRAINING_SEED + 1), options, **settings)
    parts.write(options.output, "judge", model, report)


def train_clip(options: Options, scenes: int, settings: dict) -> None:
    """The token encoder: contrastive training, then the refinement of its tokens."""
    data = _scenes(options, scenes, TRAINING_SEED)
    model, report = clip.fit(data, options, **settings)
    refining = {"steps": max(settings["steps"] * 2 // 5, 1)} if "steps" in settings else {}
    model, refined = clip.refine(data, model, options, **refining)
    parts.write(options.output, "clip", model, report | {"refinement": refined})


def train_autoencoder(options: Options, scenes: int, settings: dict) -> None:
    """The autoencoder of the latents."""
    model, report = autoencoder.fit(_scenes(options, scenes, TRAINING_SEED), options, **settings)
    parts.write(options.output, "autoencoder", model, report)


def train_unet(options: Options, scenes: int, settings: dict) -> None:
    """The denoiser; needs the encoder and the autoencoder."""
    data = _scenes(options, scenes, TRAINING_SEED)
    coder = parts.read(options.output, "autoencoder", autoencoder.build()).to(options.device)
    encoder = parts.read(options.output, "clip", clip.build_for_scenes())
    model, report = unet.fit(data, unet.latents(coder, data, options.device), encoder, options, **settings)
    parts.write(options.output, "unet", model, report)


def export_family(options: Options, scenes: int, settings: dict) -> None:
    """Write the directories `clip`, `unclip` and `judge` with their cards under `<output>/small`."""
    encoder = parts.read(options.output, "clip", clip.build_for_scenes())
    vectors = unet.embeddings(encoder, _scenes(options, scenes, TRAINING_SEED), "cpu")
    pipeline = export.image_variations(
        encoder,
        parts.read(options.output, "autoencoder", autoencoder.build()),
        parts.read(options.output, "unet", unet.build()),
        vectors,
    )
    family = options.output / "small"
    export.write_encoder(encoder, family / "clip")
    export.write_pipeline(pipeline, family / "unclip")
    export.write_judge(parts.read(options.output, "judge", judge.build()), family / "judge")
    atomic.write_json(family / "training.json", parts.reports(options.output))
    cards.write(family)


ACTIONS = {
    "judge": train_judge,
    "clip": train_clip,
    "autoencoder": train_autoencoder,
    "unet": train_unet,
    "export": export_family,
}


def main(arguments: list[str] | None = None) -> int:
    """Command line; the exit status is 1, with one line of explanation, if a user can mend what went wrong."""
    parser = argparse.ArgumentParser(prog="python -m recipes.small_models", description=__doc__)
    parser.add_argument("part", choices=[*ORDER, "all"])
    parser.add_argument("--output", type=Path, required=True, help="folder of scenes, checkpoints and results")
    parser.add_argument("--steps", type=int, help="training steps of this part (default: those of the shipped weights)")
    parser.add_argument("--batch", type=int, help="samples per step (a GPU is only busy with some hundreds)")
    parser.add_argument("--scenes", type=int, default=SCENES, help="training scenes")
    parser.add_argument("--minutes", type=float, help="stop each part after this time; the same command continues")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    chosen = parser.parse_args(arguments)
    device = chosen.device if chosen.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cpu":
        # Subnormal numbers are a hundred times slower than others, and a network in training is full of them.
        torch.set_flush_denormal(True)
    options = Options(output=chosen.output, seed=chosen.seed, device=device, minutes=chosen.minutes)
    settings = {name: value for name, value in (("steps", chosen.steps), ("batch", chosen.batch)) if value}
    try:
        for part in ORDER if chosen.part == "all" else (chosen.part,):
            ACTIONS[part](options, chosen.scenes, settings)
    except GenviewError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _scenes(options: Options, count: int, seed: int):
    return collection(count, seed, options.output / "scenes")


if __name__ == "__main__":
    sys.exit(main())
