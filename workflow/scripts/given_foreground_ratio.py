"""Rule ``foreground_ratio``: foreground ratios from a file in the published form."""

from genview import stage
from genview.config.dataset import Dataset
from genview.data import reader
from genview.foreground import ratio

with stage.running(snakemake.log[0]):
    settings = stage.settings(snakemake.input.settings)
    dataset = Dataset.model_validate(settings["dataset"])
    ratio.run_given(
        settings["given"],
        ratio=snakemake.output.ratio,
        stamp=stage.stamp("foreground_ratio", settings["study"], settings, "genview.foreground.ratio"),
        image_root=reader.data_root(dataset, snakemake.output.ratio),
    )
