"""Rule ``manifest``: from a collection of images to the manifest."""

from pathlib import Path

from genview import stage
from genview.config.dataset import Dataset
from genview.data import ingest

with stage.job(snakemake, "manifest") as job:
    settings = job.settings
    ingest.run(
        Dataset.model_validate({**settings["dataset"], "workers": snakemake.threads}),
        seed=settings["seed"],
        manifest=snakemake.output.manifest,
        rejected=snakemake.output.rejected,
        images=snakemake.output.images,
        stamp=job.stamp,
        failures=Path(snakemake.log[0]).with_name("failures.csv"),
    )
