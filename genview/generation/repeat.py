"""One view of a finished study made again, and compared with the one in its shard."""

import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pyarrow as pa
import transformers
from PIL import Image

from genview import parquet, placement, tables, words
from genview.config.study import Study
from genview.data import keys
from genview.data.reader import Reader, data_root
from genview.errors import GenviewError
from genview.generation import embeddings, members, pipelines
from genview.generation.remake import remake


@dataclass(frozen=True)
class Repeated:
    """A view, twice.

    Attributes:
        metadata: all that it was made from, of its JSON.
        stored: JPEG in the shard.
        made: JPEG made now.
    """

    metadata: dict[str, Any]
    stored: bytes
    made: bytes

    @property
    def difference(self) -> int:
        """Largest difference of a channel's value, 0 to 255."""
        first, second = (
            np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.int16) for data in (self.stored, self.made)
        )
        return int(np.abs(first - second).max()) if first.shape == second.shape else 255


def of_study(study: Study, name: str, key: str, sample: int = 0) -> Repeated:
    """Make one view of a study again.

    Args:
        study: the study.
        name: of the view set.
        key: of the original.
        sample: which of the samples of this original.

    Raises:
        GenviewError: there is no such view set, key, sample or shard; or the weights or the embedding are not those
            that the view was made from.
    """
    if name not in study.views:
        known = ", ".join(study.views) or "none"
        raise GenviewError(f"no view set {name!r}{words.nearest(name, study.views)}; there are {known}")
    view, results = study.views[name], Path(study.results, study.study)
    if not 0 <= sample < view.samples:
        raise GenviewError(f"views.{name}.samples is {view.samples}: there is no sample {sample}; they count from 0")
    columns = ["key", "shard", "path", "offset", "length"]
    row = parquet.with_keys(results / "data/manifest.parquet", tables.MANIFEST, pa.array([key]), columns)
    if not len(row):
        raise GenviewError(f"{results}/data/manifest.parquet: no image {key!r}; keys are paths without their suffixes")
    shard = keys.shard_names(study.dataset.shards)[row["shard"][0].as_py()]
    values, stored = _stored(results / f"views/{name}/{shard}.tar", key, sample, view.samples)
    embedding = None
    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.disable_progress_bar()
    if view.mode != "txt":
        reader = Reader(data_root(study.dataset, results / "data/manifest.parquet"))
        if values["embedding_from"] == "foreground":
            scores = results / f"foreground/{study.foreground.encoder}/scores/{keys.group_of(shard)}.parquet"
            embedding = embeddings.kept(scores, row["key"])[key]
        else:
            image = reader.image(*(row[column][0].as_py() for column in ("path", "offset", "length")))
            embedding = embeddings.encode(pipelines.load(view, placement.default()), [image], view.batch_size)[0]
    made = remake(values, embedding=embedding, model=view.model or pipelines.default_model(view.mode))
    return Repeated(values, stored, made)


def _stored(tar: Path, key: str, sample: int, samples: int) -> tuple[dict[str, Any], bytes]:
    """The JSON and the JPEG of a view in its shard."""
    member = members.member_name(key, sample, samples)
    try:
        with tarfile.open(tar) as opened:
            parts = [opened.extractfile(f"{member}.{suffix}") for suffix in ("json", "jpg")]
            text, image = (part.read() for part in parts if part is not None)
    except FileNotFoundError:
        raise GenviewError(f"{tar}: not made yet") from None
    except KeyError:
        raise GenviewError(f"{tar}: holds no sample {sample} of {key!r}: the log says why it was not made") from None
    except (OSError, tarfile.TarError, ValueError) as error:
        raise GenviewError(f"{tar}: cannot be read: {error}") from None
    return json.loads(text), image
