"""Rule ``score_saliency``: from a model to TokenCut's masks against true ones, of a folder or of drawn scenes."""

import tempfile
from pathlib import Path

from genview import stage
from genview.config.dense import Saliency
from genview.evaluation import dense, masked_images

with stage.job(snakemake, "saliency") as job, tempfile.TemporaryDirectory() as scratch:
    settings = Saliency.model_validate(job.settings["saliency"])
    folder = job.settings["folder"] or Path(scratch) / "scenes"
    if job.settings["folder"] is None:
        masked_images.draw_pairs(folder, settings.scenes, seed=job.settings["seed"], size=settings.scene_size)
    dense.run(
        settings,
        masked_images.pairs(folder),
        dataset=job.settings["dataset"],
        seed=job.settings["seed"],
        model=snakemake.input.model,
        precision=job.settings["precision"],
        output=snakemake.output.result,
        stamp=job.stamp,
    )
