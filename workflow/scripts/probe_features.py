"""Rule ``probe_features``: from a run's model and a dataset to features."""

from genview import stage
from genview.config.evaluation import Features
from genview.evaluation import features
from genview.evaluation.datasets import Request

with stage.running(snakemake.log[0], gpus=snakemake.resources.get("gpu", 0)):
    settings = stage.settings(snakemake.input.settings)
    features.run(
        Request.of_rule(settings, snakemake.input.get("manifest")),
        Features.model_validate(settings["features"]),
        model=snakemake.input.model,
        output=snakemake.output.features,
        stamp=stage.stamp("probe_features", settings["study"], settings, "genview.evaluation.features"),
    )
