"""Rule ``foreground_ratio``: foreground ratios from a file in the published form."""

from genview import stage
from genview.config.dataset import Dataset
from genview.data import reader
from genview.foreground import ratio

with stage.job(snakemake, "foreground_ratio") as job:
    settings = job.settings
    dataset = Dataset.model_validate(settings["dataset"])
    ratio.run_given(
        settings["given"],
        ratio=snakemake.output.ratio,
        stamp=job.stamp,
        image_root=reader.data_root(dataset, snakemake.output.ratio),
    )
