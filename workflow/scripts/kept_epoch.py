"""Rule ``kept_epoch``: the model of a run as it was after an epoch, as a model of its own."""

import shutil
from pathlib import Path

from genview import atomic, stage
from genview.errors import GenviewError

with stage.job(snakemake, "kept_epoch"):
    epoch, model = snakemake.wildcards.epoch, Path(snakemake.input.model)
    kept = model.parent / "epochs" / epoch / "model"
    if not kept.is_dir():
        raise GenviewError(f"{kept}: no model of epoch {epoch}: its checkpoint was not kept when {model} was made")
    with atomic.writing(snakemake.output.model) as folder:
        shutil.copytree(kept, folder)
