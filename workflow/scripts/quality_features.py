"""Rule ``quality_features``: what the quality weights need of a group of shards' originals and captions."""

from genview import stage
from genview.config.dataset import Dataset
from genview.config.encoders import Encoder
from genview.training.data import quality_features

with stage.job(snakemake, "quality_features") as job:
    settings = job.settings
    quality_features.run(
        Dataset.model_validate(settings["dataset"]),
        Encoder.model_validate(settings["encoder"]),
        manifest=snakemake.input.manifest,
        group=snakemake.wildcards.group,
        component=snakemake.input.component,
        output=snakemake.output[0],
        stamp=job.stamp,
        earlier=job.earlier,
        workers=snakemake.threads - 1,
    )
