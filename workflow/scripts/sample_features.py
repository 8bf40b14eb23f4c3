"""Rule ``sample_features``: patch tokens of a seeded sample of the study's images."""

from genview import stage
from genview.config.dataset import Dataset
from genview.config.encoders import Encoder
from genview.foreground import sample_features

with stage.job(snakemake, "sample_features") as job:
    settings = job.settings
    sample_features.run(
        Encoder.model_validate(settings["encoder"]),
        Dataset.model_validate(settings["dataset"]),
        count=settings["sample"],
        seed=settings["seed"],
        manifest=snakemake.input.manifest,
        tokens=snakemake.output.tokens,
        images=snakemake.output.images,
        workers=snakemake.threads - 1,
    )
