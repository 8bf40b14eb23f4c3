"""Where a study's models are: the small family inside the package, a folder of the user's, or a name on the hub."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Iterable
from functools import lru_cache
from importlib import resources
from pathlib import Path

import huggingface_hub
import numpy as np
from safetensors.numpy import load_file, save_file

from genview import provenance
from genview.errors import GenviewError

PREFIX = "small/"
HUB = "hf-hub:"

NAMES = tuple(PREFIX + part for part in ("clip", "unclip", "text2image", "judge"))


def small_directory(name: str) -> Path:
    """Directory of a model of the small family; `small/text2image` is made of `small/unclip`.

    Raises:
        GenviewError: no such model, or its files are not installed.
    """
    if name not in NAMES:
        raise GenviewError(f"{name!r} is not a model of the small family; there are {', '.join(NAMES)}.")
    root = Path(str(resources.files("genview.models") / "small"))
    part = name.removeprefix(PREFIX)
    folder = root / ("unclip" if part == "text2image" else part)
    if not any(folder.glob("*.json")):
        raise GenviewError(
            f"{name}: {folder} holds no model. Install the package again, or make the models with "
            "`snakemake small_models`."
        )
    return text_to_image_directory(folder) if part == "text2image" else folder


def resolve(model: str | Path) -> str | Path:
    """A name `small/...` as its directory, an existing path as itself, anything else unchanged: a name on the hub."""
    if str(model).startswith(PREFIX):
        return small_directory(str(model))
    path = Path(model).expanduser()
    return path if path.exists() else str(model)


def on_hub(model: str | None) -> str | None:
    """The repository of the hub that a model's name means; None: shipped, a folder, or an architecture by name."""
    name = (model or PREFIX).removeprefix(HUB)
    path_like = name.startswith((PREFIX, ".", "/", "~", "weights/")) or Path(name).exists()
    return name if name.count("/") == 1 and not path_like else None


def cached(repository: str, names: Iterable[str], revision: str | None) -> Path | None:
    """The first of several files of a repository that is in the hub's cache. Nothing is fetched."""
    found = (huggingface_hub.try_to_load_from_cache(repository, name, revision=revision) for name in names)
    return next((Path(path) for path in found if isinstance(path, str)), None)


def folder(model: str | Path, file: str, revision: str | None) -> Path:
    """The folder of a model: shipped, the user's, or in the hub's cache. Nothing is fetched.

    Args:
        model: its name.
        file: a file by which a model of this kind is known.
        revision: of a model of the hub.

    Raises:
        GenviewError: it is nowhere.
    """
    found = resolve(model)
    if isinstance(found, Path):
        return found
    if (repository := on_hub(found)) and (there := cached(repository, (file,), revision)):
        return there.parent
    at = f" at revision {revision}" if revision else ""
    raise GenviewError(
        f"model {str(model)!r}{at}: no such folder, and not in the hub's cache; `genview fetch --config FILE` fetches "
        "all that a study needs"
    )


def weight_files(folder: Path, variant: str | None) -> list[Path]:
    """The safetensors files of a pipeline's component that diffusers would choose for a variant such as ``fp16``."""
    return of_variant(sorted(folder.glob("*.safetensors")), variant)


def of_variant(files: Iterable[Path], variant: str | None) -> list[Path]:
    """Those of a component's files that hold the weights of a variant; the plain ones where it has none."""
    files = [file for file in files if file.suffix == ".safetensors"]
    wanted = [file for file in files if variant and f".{variant}" in file.name]
    plain = [file for file in files if not any(f".{name}" in file.name for name in ("fp32", "fp16", "bf16"))]
    return wanted or plain


def sha256(path: str | Path) -> str:
    """SHA-256 of a file, or of the names and contents of all files under a directory, in hexadecimal."""
    path = Path(path)
    if path.is_file():
        return provenance.file_sha256(path)
    if not path.is_dir():
        raise GenviewError(f"{path}: no such file or directory.")
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return provenance.digest([(file.relative_to(path).as_posix(), provenance.file_sha256(file)) for file in files])


def text_to_image_unet(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weights [...] of the UNet without class embedding that equals, exactly, the given one fed with a zero vector.

    A zero vector's class embedding is a constant that is added to the time embedding, so that it fits in its bias.
    """
    vector = weights["class_embedding.linear_1.bias"].astype(np.float64)
    activated = vector / (1 + np.exp(-vector))
    constant = weights["class_embedding.linear_2.weight"].astype(np.float64) @ activated
    constant += weights["class_embedding.linear_2.bias"]
    text = {name: value for name, value in weights.items() if not name.startswith("class_embedding.")}
    bias = "time_embedding.linear_2.bias"
    text[bias] = (weights[bias] + constant).astype(np.float32)
    return text


@lru_cache(maxsize=1)
def text_to_image_directory(unclip: Path) -> Path:
    """A StableDiffusionPipeline directory made from the StableUnCLIPImg2ImgPipeline directory.

    It is a temporary folder of this process, removed at its end: making it takes a tenth of a second.
    """
    folder = Path(tempfile.mkdtemp(prefix="genview-text2image-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _write_text_to_image(unclip, folder)
    return folder


def _write_text_to_image(unclip: Path, folder: Path) -> None:
    index = json.loads((unclip / "model_index.json").read_text())
    parts = {part: index[part] for part in ("scheduler", "text_encoder", "tokenizer", "unet", "vae")}
    for part in parts:
        if part != "unet":
            shutil.copytree(unclip / part, folder / part)
    (folder / "unet").mkdir()
    settings = json.loads((unclip / "unet" / "config.json").read_text())
    settings |= {"class_embed_type": None, "projection_class_embeddings_input_dim": None}
    _write_json(folder / "unet" / "config.json", settings)
    name = "diffusion_pytorch_model.safetensors"
    weights = text_to_image_unet(load_file(unclip / "unet" / name))
    save_file(weights, folder / "unet" / name, metadata={"format": "pt"})
    nothing = [None, None]
    parts |= {"feature_extractor": nothing, "image_encoder": nothing, "safety_checker": nothing}
    header = {"_class_name": "StableDiffusionPipeline", "_diffusers_version": index["_diffusers_version"]}
    _write_json(folder / "model_index.json", header | {"requires_safety_checker": False} | parts)


def _write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")
