"""Rule ``retrieval``: from a run's model and a dataset to clip_benchmark's metrics."""

from genview import stage
from genview.evaluation import retrieval
from genview.evaluation.datasets import Request

with stage.job(snakemake, "retrieval") as job:
    settings = job.settings
    retrieval.run(
        Request.of_rule(settings, snakemake.input.get("manifest")),
        model=snakemake.input.model,
        recall_at=settings["recall_at"],
        batch_size=settings["batch_size"],
        workers=snakemake.threads - 1 if settings["workers"] is None else settings["workers"],
        output=snakemake.output.result,
        images=snakemake.output.images,
        stamp=job.stamp,
    )
