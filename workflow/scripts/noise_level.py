"""Rule ``noise_level``: from foreground ratios to noise levels."""

from genview import stage
from genview.config.dataset import Dataset
from genview.config.foreground import NoiseLevel
from genview.data import reader
from genview.foreground import noise

with stage.running(snakemake.log[0]):
    settings = stage.settings(snakemake.input.settings)
    noise.run(
        NoiseLevel.model_validate(settings["noise_level"]),
        manifest=snakemake.input.manifest,
        ratio=snakemake.input.ratio or None,
        noise_level=snakemake.output.noise_level,
        seed=settings["seed"],
        stamp=stage.stamp("noise_level", settings["study"], settings, "genview.foreground.noise"),
        image_root=reader.data_root(Dataset.model_validate(settings["dataset"]), snakemake.input.manifest),
    )
