"""Rule ``score_video``: from a model to masks that travel through videos, of DAVIS or of drawn moving scenes."""

import tempfile
from pathlib import Path

from genview import stage
from genview.config.dense import Video
from genview.evaluation import dense, masked_images

with stage.job(snakemake, "video") as job, tempfile.TemporaryDirectory() as scratch:
    settings = Video.model_validate(job.settings["video"])
    folder = job.settings["folder"] or Path(scratch) / "scenes"
    if job.settings["folder"] is None:
        masked_images.draw_sequences(folder, settings.sequences, seed=job.settings["seed"], size=settings.scene_size)
    dense.run(
        settings,
        masked_images.sequences(folder),
        dataset=job.settings["dataset"],
        seed=job.settings["seed"],
        model=snakemake.input.model,
        precision=job.settings["precision"],
        output=snakemake.output.result,
        stamp=job.stamp,
    )
