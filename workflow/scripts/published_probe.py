"""Rule ``probe``: the published protocol, from a run's model and a dataset to the result."""

from genview import stage
from genview.config.evaluation import Features, Probe
from genview.evaluation import published
from genview.evaluation.datasets import Request

with stage.job(snakemake, "probe") as job:
    settings = job.settings
    published.run(
        Request.of_rule(settings, snakemake.input.get("manifest")),
        Features.model_validate(settings["features"]).on(snakemake.threads),
        Probe.model_validate(settings["probe"]),
        model=snakemake.input.model,
        features=snakemake.input.features,
        output=snakemake.output.result,
        images=snakemake.output.images,
        stamp=job.stamp,
    )
