"""Published settings of a method on a backbone, beneath what the user states; printed by ``genview config``.

Learning rates are per 256 samples of a step. Sources: the papers, and the recipes whose names the published
checkpoints bear; batch sizes and numbers of GPUs are the user's machine's and are not set here.
"""

import json
from pathlib import Path
from typing import Any

from genview.config.methods import named

TRANSFORMERS = ("vit", "deit", "eva", "beit", "small", "base", "large")
"""What the names of vision transformers begin with (``small``, ``base`` and ``large`` are the study's own)."""

_OWN_VIEWS = {"slots", "augmentation", "include_original", "choose", "always", "crops", "minimum_views"}
"""Keys of a run's data that say how its views are made; with any of them no published slots lie beneath."""

_LARS = {"name": "lars", "momentum": 0.9, "weight_decay": 1e-6}

_CONVOLUTIONAL: dict[str, dict[str, Any]] = {
    "mocov2": {
        "epochs": 200,
        "optimizer": {
            "name": "sgd",
            "momentum": 0.9,
            "base_learning_rate": 0.03,
            "weight_decay": 1e-4,
            "decay": "all",
            "warmup_epochs": 0,
        },
    },
    "simsiam": {
        "epochs": 200,
        "optimizer": {
            "name": "sgd",
            "momentum": 0.9,
            "base_learning_rate": 0.05,
            "weight_decay": 1e-4,
            "decay": "all",
            "warmup_epochs": 0,
        },
    },
    "byol": {"epochs": 200, "optimizer": {**_LARS, "base_learning_rate": 0.3, "warmup_epochs": 10}},
    "mocov3": {"epochs": 100, "optimizer": {**_LARS, "base_learning_rate": 0.6, "warmup_epochs": 10}},
    "swav": {
        "epochs": 200,
        "optimizer": {
            **_LARS,
            "base_learning_rate": 0.6,
            "decay": "all",
            "adapt_all": True,
            "warmup_epochs": 0,
            "minimum_learning_rate": 6e-4,
        },
    },
}
_DINO: dict[str, Any] = {
    "epochs": 200,
    "optimizer": {
        "name": "adamw",
        "base_learning_rate": 5e-4,
        "betas": [0.9, 0.999],
        "weight_decay": 0.04,
        "final_weight_decay": 0.4,
        "decay": "matrices",
        "warmup_epochs": 10,
        "minimum_learning_rate": 1e-6,
        "gradient_clip": 3.0,
        "clip": "tensor",
    },
}
_DIVA: dict[str, Any] = {
    "epochs": 1,
    "optimizer": {
        "name": "sgd",
        "momentum": 0.9,
        "base_learning_rate": 1e-4,
        "scale_learning_rate": False,
        "weight_decay": 0.0,
        "warmup_epochs": 0.005,
        "gradient_clip": 1.0,
    },
}
"""4,600 steps of 640 images, about one pass over CC3M."""
_TRANSFORMER: dict[str, dict[str, Any]] = {
    "mocov3": {
        "epochs": 300,
        "method": {"temperature": 0.2, "projector": [4096, 4096, 256], "predictor_last_norm": True},
        "optimizer": {
            "name": "adamw",
            "base_learning_rate": 1.5e-4,
            "betas": [0.9, 0.999],
            "weight_decay": 0.1,
            "decay": "all",
            "warmup_epochs": 40,
        },
        "model": {"freeze_patch_embedding": True},
    },
}


def is_transformer(architecture: str) -> bool:
    """Whether an architecture's image tower is a vision transformer, by its name or its configuration's."""
    name = architecture
    if name.endswith(".json") and Path(name).is_file():
        try:
            values = json.loads(Path(name).read_text(encoding="utf-8"))
            name = values.get("model_cfg", values)["vision_cfg"]["timm_model_name"]
        except (ValueError, KeyError, TypeError, AttributeError, OSError):
            return False  # told where the file is read
    return name.rsplit("/", 1)[-1].startswith(TRANSFORMERS)


def _slots(name: str, transformer: bool) -> str:
    """The published set of slots of a method."""
    if name == "mocov3":
        return "mocov3" if transformer else "mocov3_r50"
    return {"dino": "baug", "clever": "caug"}.get(name, name)


def recipe(values: dict[str, Any]) -> dict[str, Any]:
    """The published settings beneath a run's own: a part of a run, empty for methods that have none.

    Args:
        values: what the user states of a run; the method, the architecture and the length are looked at.
    """
    method = named(values.get("method", "genviewpp"))
    name = method.get("name") if isinstance(method, dict) else getattr(method, "name", None)
    model = values.get("model")
    architecture = model.get("architecture", "small") if isinstance(model, dict) else getattr(model, "architecture", "")
    found = {"dino": _DINO, "clever": _DINO, "diva": _DIVA}.get(str(name), _CONVOLUTIONAL.get(str(name), {}))
    transformer = is_transformer(str(architecture))
    if transformer:
        found = _TRANSFORMER.get(str(name), found)
    if not found:
        return {}
    found = {**found, "method": {"name": name, **found.get("method", {})}, "optimizer": dict(found["optimizer"])}
    data = values.get("data") or {}
    if isinstance(data, dict) and not _OWN_VIEWS & data.keys():
        found["data"] = {"slots": _slots(str(name), transformer)}
    epochs = values.get("epochs", found["epochs"])
    if isinstance(epochs, (int, float)):
        # A short run warms up for a fifth of it at most; DIVA for a share of the steps.
        warmup = found["optimizer"]["warmup_epochs"]
        found["optimizer"]["warmup_epochs"] = warmup * epochs if name == "diva" else min(warmup, epochs / 5)
    return found
