"""Rule ``zeroshot``: from a run's model and a dataset to clip_benchmark's metrics."""

from genview import stage
from genview.evaluation import zeroshot
from genview.evaluation.datasets import Request

with stage.job(snakemake, "zeroshot") as job:
    settings = job.settings
    zeroshot.run(
        Request.of_rule(settings, snakemake.input.get("manifest")),
        model=snakemake.input.model,
        batch_size=settings["batch_size"],
        workers=snakemake.threads - 1 if settings["workers"] is None else settings["workers"],
        output=snakemake.output.result,
        images=snakemake.output.images,
        stamp=job.stamp,
    )
