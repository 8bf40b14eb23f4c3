"""The judge: a small convolutional classifier of scene class, colour and background, independent of any encoder."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from genview.errors import GenviewError


class Judge(nn.Module):
    """Convolutional classifier; forward takes uint8-range images [N, 3, 32, 32] scaled to [-1, 1]."""

    def __init__(self, heads: dict[str, list[str]], width: int = 32):
        super().__init__()
        self.heads = heads
        self.width = width

        def block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
            )

        self.features = nn.Sequential(
            block(3, width, 1),
            block(width, width, 2),
            block(width, 2 * width, 1),
            block(2 * width, 2 * width, 2),
            block(2 * width, 3 * width, 1),
            block(3 * width, 3 * width, 2),
        )
        # The grid of 4 x 4 features is kept: shape is a matter of where.
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(3 * width * 16, 64), nn.ReLU(inplace=True))
        self.outputs = nn.ModuleDict({name: nn.Linear(64, len(labels)) for name, labels in heads.items()})

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits per head, each [N, labels]."""
        hidden = self.hidden(self.features(pixels))
        return {name: output(hidden) for name, output in self.outputs.items()}

    @torch.no_grad()
    def classify(self, images: torch.Tensor, batch: int = 256) -> dict[str, torch.Tensor]:
        """Index of the most likely label per head, int64 [N], for uint8 images [N, 3, 32, 32]."""
        parts = [self(part.float() / 127.5 - 1) for part in images.split(batch)]
        return {name: torch.cat([part[name].argmax(-1) for part in parts]) for name in self.heads}


def save(judge: Judge, folder: Path) -> None:
    """Write configuration and fp16 weights into an existing folder."""
    (folder / "config.json").write_text(json.dumps({"heads": judge.heads, "width": judge.width}, indent=2) + "\n")
    weights = {
        name: (value.half() if value.is_floating_point() else value).contiguous().cpu()
        for name, value in judge.state_dict().items()
    }
    save_file(weights, folder / "model.safetensors")


def load(folder: str | Path) -> Judge:
    """Read a judge in float32, ready to classify; raises GenviewError if the folder holds none."""
    folder = Path(folder)
    if not (folder / "config.json").is_file() or not (folder / "model.safetensors").is_file():
        raise GenviewError(f"{folder}: no judge here: config.json and model.safetensors are needed.")
    judge = Judge(**json.loads((folder / "config.json").read_text()))
    judge.load_state_dict(load_file(folder / "model.safetensors"))
    return judge.float().eval()
