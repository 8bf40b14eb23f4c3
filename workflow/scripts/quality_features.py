"""Rule ``quality_features``: what the quality weights need of a group of shards' originals and captions."""

from genview import stage
from genview.config import load
from genview.config.encoders import Encoder
from genview.training.data import precompute

with stage.running(snakemake.log[0], gpus=snakemake.resources.get("gpu", 0)):
    settings = stage.settings(snakemake.input.settings)
    precompute.run(
        load.parse(snakemake.config).dataset,
        Encoder.model_validate(settings["encoder"]),
        manifest=snakemake.input.manifest,
        group=snakemake.wildcards.group,
        component=snakemake.input.component,
        output=snakemake.output[0],
        stamp=stage.stamp("quality_features", settings["study"], settings, "genview.training.data.precompute"),
        workers=snakemake.threads - 1,
    )
