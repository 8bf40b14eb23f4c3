"""Rule ``probe_features``: from a run's model and a dataset to features."""

from genview import stage
from genview.config.evaluation import Features
from genview.evaluation import features
from genview.evaluation.datasets import Request

with stage.job(snakemake, "probe_features") as job:
    settings = job.settings
    features.run(
        Request.of_rule(settings, snakemake.input.get("manifest")),
        Features.model_validate(settings["features"]).on(snakemake.threads),
        model=snakemake.input.model,
        output=snakemake.output.features,
        stamp=job.stamp,
    )
