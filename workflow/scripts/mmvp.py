"""Rule ``score_mmvp``: from a model to its scores on MMVP-VLM, or on the stand-in that is drawn here."""

import tempfile
from pathlib import Path

from genview import stage
from genview.config.evaluation import Mmvp
from genview.evaluation import mmvp_score, mmvp_stand_in

with stage.job(snakemake, "mmvp") as job, tempfile.TemporaryDirectory() as scratch:
    settings = Mmvp.model_validate(job.settings["mmvp"])
    folder = Path(settings.path or Path(scratch) / "mmvp")
    if settings.path is None:
        mmvp_stand_in.write(folder, seed=job.settings["seed"], size=settings.image_size)
    mmvp_score.run(
        settings,
        folder,
        seed=job.settings["seed"],
        model=snakemake.input.model,
        precision=job.settings["precision"],
        output=snakemake.output.result,
        stamp=job.stamp,
    )
