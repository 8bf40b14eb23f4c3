"""Rule ``noise_level``: from foreground ratios to noise levels."""

from genview import stage
from genview.conditions import noise_level
from genview.config.dataset import Dataset
from genview.config.foreground import NoiseLevel
from genview.data import reader

with stage.job(snakemake, "noise_level") as job:
    settings = job.settings
    noise_level.run(
        NoiseLevel.model_validate(settings["noise_level"]),
        manifest=snakemake.input.manifest,
        ratio=snakemake.input.ratio or None,
        noise_level=snakemake.output.noise_level,
        seed=settings["seed"],
        stamp=job.stamp,
        image_root=reader.data_root(Dataset.model_validate(settings["dataset"]), snakemake.input.manifest),
    )
