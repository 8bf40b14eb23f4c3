"""Trained parts between training and export: full-precision weights and a report beside them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from genview import atomic
from genview.errors import GenviewError


def write(output: Path, name: str, model: torch.nn.Module, report: dict) -> None:
    """Write the weights and the report of a part; the report last, so that it vouches for the weights."""
    weights = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    with atomic.writing(_weights(output, name)) as partial:
        save_file(weights, partial)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    atomic.write_json(_report(output, name), report | {"parameters": parameters})


def read(output: Path, name: str, model: torch.nn.Module) -> torch.nn.Module:
    """Load a part's weights into `model`, in evaluation mode; raises GenviewError if it was not trained yet."""
    if not _report(output, name).is_file():
        raise GenviewError(
            f"{_report(output, name)}: {name} is not trained yet; run "
            f"`python -m recipes.small_models {name} --output {output}` first."
        )
    model.load_state_dict(load_file(_weights(output, name)))
    return model.eval()


def reports(output: Path) -> dict[str, dict]:
    """Reports of all trained parts by name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted((output / "parts").glob("*.json"))}


def _weights(output: Path, name: str) -> Path:
    return output / "parts" / f"{name}.safetensors"


def _report(output: Path, name: str) -> Path:
    return output / "parts" / f"{name}.json"
