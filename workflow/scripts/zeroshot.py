"""Rule ``zeroshot``: from a run's model and a dataset to clip_benchmark's metrics."""

from genview import stage
from genview.evaluation import zeroshot
from genview.evaluation.datasets import Request

with stage.running(snakemake.log[0], gpus=snakemake.resources.get("gpu", 0)):
    settings = stage.settings(snakemake.input.settings)
    zeroshot.run(
        Request.of_rule(settings, snakemake.input.get("manifest")),
        model=snakemake.input.model,
        batch_size=settings["batch_size"],
        workers=settings["workers"],
        output=snakemake.output.result,
        images=snakemake.output.images,
        stamp=stage.stamp("zeroshot", settings["study"], settings, "genview.evaluation.zeroshot"),
    )
