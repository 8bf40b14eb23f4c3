"""Weights between those that a run began with and those that it ended with (WiSE-FT, arXiv 2109.01903, eq. 1).

Fine-tuned weights are good at what they were tuned for and worse at the rest; on the straight line between both there
is often a place that is better at one and no worse at the other. The line costs nothing: no training, one evaluation.
"""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from genview import atomic
from genview.config.encoders import Encoder
from genview.config.training import Run
from genview.encoders import build
from genview.encoders.architecture import describe
from genview.errors import GenviewError

TIMM = ("timm", "visual.trunk.")
"""Folder of a model's tower for timm, and what its names have before them in the whole model."""


def between(before: dict[str, Tensor], after: dict[str, Tensor], alpha: float, prefix: str = "") -> dict[str, Tensor]:
    """``(1 - alpha) before + alpha after``, tensor by tensor; what the first side lacks, and whole numbers, as after.

    Args:
        before: of the whole model.
        after: of the model or of a part of it; its names decide.
        alpha: in [0, 1].
        prefix: what the part's names have before them in the whole.

    Raises:
        GenviewError: the sides have a tensor of one name and different shapes.
    """
    found = {}
    for name, value in after.items():
        first = before.get(prefix + name)
        if first is not None and first.shape != value.shape:
            raise GenviewError(
                f"{prefix}{name}: {tuple(first.shape)} before the training, {tuple(value.shape)} after it"
            )
        if first is None or not value.is_floating_point():
            found[name] = value
        else:
            found[name] = torch.lerp(first.to(value.dtype), value, alpha).contiguous()
    return found


def initial_state(run: Run, initial: Encoder, image_size: int | None) -> dict[str, Tensor]:
    """The weights that a run began with, as its model has them: tensors [...] by name.

    Args:
        run: its settings.
        initial: where they come from.
        image_size: side of its views; None: the encoder's own.
    """
    plain = run.model.model_copy(update={"adapt": None})
    built = describe(plain, text=run.uses_text, image_size=image_size, initial=initial)
    model = build.build(built, plain, seed=0)
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


def write(before: dict[str, Tensor], model: str | Path, alpha: float, target: str | Path) -> None:
    """Write a model's directory with weights on the way to its own; everything else in it stays.

    Args:
        before: tensors [...] of ``initial_state``.
        model: the directory of the trained model.
        alpha: 0: the initial weights; 1: the model's.
        target: the new directory, written whole or not at all.
    """
    source = Path(model)
    with atomic.writing(target) as folder:
        shutil.copytree(source, folder)
        for file in sorted(folder.rglob("*.safetensors")):
            inside = file.parent.name == TIMM[0]
            tensors = between(before, load_file(file), alpha, TIMM[1] if inside else "")
            file.unlink()
            save_file(tensors, file, metadata={"format": "pt"} if inside else None)
        record = json.loads((source / "run.json").read_text(encoding="utf-8"))
        text = json.dumps({**record, "interpolated": alpha}, indent=2, sort_keys=True) + "\n"
        (folder / "run.json").write_text(text, encoding="utf-8")
        with open(folder / "README.md", "a", encoding="utf-8") as card:
            card.write(f"\nWeights at {alpha:g} of the way from the initial ones to the trained ones (WiSE-FT).\n")
