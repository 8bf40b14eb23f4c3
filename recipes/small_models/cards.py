"""Model cards: what a model is, how it was trained, what it cost, and the figures it reached."""

from __future__ import annotations

import json
from pathlib import Path

from genview import atomic

_ABOUT = {
    "clip": (
        "Small token encoder",
        "An open_clip model (ViT, 4 layers of width 64, patch 4, 32 x 32 pixels; text tower of 2 layers, 24 tokens). "
        "Load it with `open_clip.create_model_and_transforms('local-dir:<this folder>')`.",
        ("clip",),
        ("encoder", "foreground"),
    ),
    "unclip": (
        "Small image-variation pipeline",
        "A diffusers `StableUnCLIPImg2ImgPipeline`; load it with `from_pretrained(<this folder>, "
        "dtype=torch.float32)`. The image encoder and the text encoder are the token encoder's towers. "
        "`genview.models.load.small_directory('small/text2image')` makes the `StableDiffusionPipeline` of the same "
        "UNet: without an image the class embedding is a constant, and it is folded into the time embedding's bias.",
        ("autoencoder", "unet"),
        ("autoencoder", "img", "noise_levels", "imgtxt", "txt"),
    ),
    "judge": (
        "Small judge",
        "A convolutional classifier of scene class, colour and background, for the audit of generated views: "
        "`genview.models.judge.load(<this folder>).classify(images)`. It saw other scenes than the models it judges.",
        ("judge",),
        ("judge",),
    ),
}
_LIMITS = (
    "All of it knows drawn scenes only (`genview.data.scenes`): six classes, six colours, six backgrounds. On "
    "photographs it finds colours and large shapes at best. It exists so that a whole study runs in minutes."
)


def write(family: Path) -> None:
    """Write README.md into each model folder under `family`, from its training.json and, once measured, figures.json.

    figures.json: {group: {figure: {"value", "standard_error", "target"}}}, see benchmarks/small_models.py.
    """
    training = json.loads((family / "training.json").read_text())
    path = family / "figures.json"
    figures = json.loads(path.read_text()) if path.is_file() else {}
    for name in _ABOUT:
        atomic.write_text(family / name / "README.md", card(name, training, figures))


def card(name: str, training: dict, figures: dict) -> str:
    """The text of one model card."""
    title, about, parts, groups = _ABOUT[name]
    lines = ["---", "license: apache-2.0", "---", "", f"# {title}", "", about, "", _LIMITS, "", "## Training", ""]
    lines += [
        "On scenes drawn by `genview.data.scenes` (32 x 32, seeds apart from those of any study and of the figures), "
        "by `python -m recipes.small_models`; fp32, AdamW, seeded, one CPU core unless said otherwise.",
        "",
        "| part | parameters | steps | minutes | last loss |",
        "|---|---|---|---|---|",
    ]
    for part in parts:
        report = training[part]
        stages = [(part, report), *([(f"{part}, refinement", report["refinement"])] if "refinement" in report else [])]
        for label, stage in stages:
            loss = stage["losses"][-1]["loss"] if stage["losses"] else float("nan")
            minutes = stage["seconds"] / 60
            lines.append(f"| {label} | {report['parameters']:,} | {stage['steps']:,} | {minutes:.1f} | {loss:.3f} |")
    lines += ["", "## Figures", ""]
    rows = [(group, label, figure) for group in groups for label, figure in figures.get(group, {}).items()]
    if rows:
        lines += [
            f"On {figures['scenes']:,} unseen scenes, by `python benchmarks/small_models.py` "
            f"({', '.join(f'{name} {value:g}' for name, value in figures['sampling'].items())}).",
            "",
            "| | figure | value | standard error | wanted |",
            "|---|---|---|---|---|",
        ]
        for group, label, figure in rows:
            wanted = figure.get("target", "")
            lines.append(f"| {group} | {label} | {figure['value']:.4g} | {figure['standard_error']:.2g} | {wanted} |")
    else:
        lines.append("Not measured yet: `python benchmarks/small_models.py`.")
    return "\n".join(lines) + "\n"
