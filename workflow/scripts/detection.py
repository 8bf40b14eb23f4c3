"""Rule ``score_detection``: from a run's model to the average precision of a detector on it."""

import tempfile
from pathlib import Path

from genview import stage
from genview.config.evaluation import Detection, Features
from genview.evaluation import coco, detection

with stage.job(snakemake, "detection") as job, tempfile.TemporaryDirectory() as drawn:
    settings = job.settings
    block = Detection.model_validate(settings["detection"])
    if settings["folder"] is None:
        coco.write_scenes(drawn, train=block.scenes_train, test=block.scenes_test, seed=settings["seed"])
    detection.run(
        settings["dataset"],
        Path(settings["folder"] or drawn),
        Features.model_validate(settings["features"]).on(snakemake.threads),
        block,
        seed=settings["seed"],
        model=snakemake.input.model,
        work=snakemake.params.work,
        output=snakemake.output.result,
        stamp=job.stamp,
    )
