"""One image again, from the JSON beside it: to look into it, to repair a shard, to check that it can be repeated."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from genview import placement
from genview.config.views import ViewSet
from genview.errors import GenviewError
from genview.generation import embeddings, jpeg, pipelines
from genview.generation.plan import ViewRequest
from genview.generation.sampler import Sampler


def remake(
    metadata: Mapping[str, Any] | str | bytes, *, embedding: np.ndarray | None = None, model: str | None = None
) -> bytes:
    """The JPEG of one image of a shard, made again; equal byte for byte on the machine that made it.

    Args:
        metadata: the JSON member of the image.
        embedding: image embedding of the original, float32 [E], from the foreground pass's table or made by
            ``embeddings.encode``; not needed in txt mode.
        model: directory or hub id of the pipeline, where the name in the JSON is not enough to find it.

    Raises:
        GenviewError: the embedding is missing or another one, or the weights are not those that made the image.
    """
    values = metadata if isinstance(metadata, Mapping) else json.loads(metadata)
    guidance_scale = float(values["guidance_scale"])
    view = ViewSet.model_validate(
        {**values["view"], "model": model or values["model"], "guidance_scale": "table" if values["guided"] else 1.0}
    )
    loaded = pipelines.load(view, placement.default())
    if loaded.weights != values["weights"]:
        raise GenviewError(
            f"{values['key']}: made with weights {values['weights']}, but {view.model} has {loaded.weights}"
        )
    inputs = None
    if view.mode != "txt":
        if embedding is None:
            raise GenviewError(f"{values['key']}: mode {view.mode!r} needs the image embedding of the original")
        embedding = np.ascontiguousarray(embedding, np.float32)
        if embeddings.digest(embedding) != values["embedding"]:
            raise GenviewError(f"{values['key']}: the embedding is not the one that the image was made from")
        inputs = torch.tensor(embedding)[None]
    request = ViewRequest(
        key=values["key"],
        sample=values["sample"],
        caption=values["caption"],
        prompt=values["prompt"],
        noise_level=values["noise_level"],
        guidance_scale=guidance_scale,
        seed=values["seed"],
    )
    (pixels,) = Sampler(loaded, view).sample([request], inputs)
    if pixels is None:
        raise GenviewError(f"{values['key']}: the generated image holds values that are not finite")
    return jpeg.encode(pixels, view)
