"""Rule ``find_duplicates``: pretraining images among the test images of a dataset."""

from pathlib import Path

from genview import stage
from genview.config.dataset import Dataset
from genview.config.encoders import Encoder
from genview.config.evaluation import Duplicates
from genview.evaluation import duplicates
from genview.evaluation.datasets import Request

with stage.job(snakemake, "duplicates") as job:
    settings = job.settings
    duplicates.run(
        Request.of_rule(settings, snakemake.input.manifest),
        Duplicates.model_validate(settings["duplicates"]),
        duplicates.Pretraining(
            dataset=Dataset.model_validate(settings["pretraining"]),
            manifest=snakemake.input.manifest,
            scores=snakemake.input.scores,
            encoder=Encoder.model_validate(settings["encoder"]),
            workers=snakemake.threads - 1,
        ),
        duplicates.Artifacts(
            *map(Path, (snakemake.output.result, snakemake.output.exclusion, snakemake.output.pictures))
        ),
        log=Path(snakemake.log[0]),
        stamp=job.stamp,
    )
