"""Rule ``views``: one shard of a set of generated views."""

from pathlib import Path

from genview import stage
from genview.config.dataset import Dataset
from genview.config.views import ViewSet
from genview.data.reader import data_root
from genview.generation import views

with stage.job(snakemake, "views") as job:
    settings = job.settings
    # Where the originals lie and how many may fail change no image, so they are not parameters that re-run the rule.
    dataset = Dataset.model_validate(settings["dataset"])
    tar = Path(snakemake.output.tar)
    views.run(
        views.Shard(
            name=snakemake.wildcards.view,
            view=ViewSet.model_validate(settings["view"]),
            shard=snakemake.wildcards.shard,
            seed=settings["seed"],
            manifest=Path(snakemake.input.manifest),
            conditions=Path(snakemake.input.conditions),
            root=data_root(dataset, snakemake.input.manifest),
            scores=Path(snakemake.input.scores) if snakemake.input.scores else None,
            tar=tar,
            index=Path(snakemake.output.index),
            statistics=Path(snakemake.log.statistics),
            work=tar.parent / ".work",
            stamp=job.stamp,
            earlier=job.earlier,
            maximum_rejects=dataset.maximum_rejects,
            maximum_pixels=dataset.maximum_pixels,
            threads=snakemake.threads,
        )
    )
