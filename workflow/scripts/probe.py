"""Rule ``probe``: from features to the result of the cached protocol."""

from genview import stage
from genview.config.evaluation import Probe
from genview.evaluation import probe

with stage.running(snakemake.log[0], gpus=snakemake.resources.get("gpu", 0)):
    settings = stage.settings(snakemake.input.settings)
    probe.run(
        Probe.model_validate(settings["probe"]),
        features=snakemake.input.features,
        seed=settings["seed"],
        output=snakemake.output.result,
        images=snakemake.output.images,
        stamp=stage.stamp("probe", settings["study"], settings, "genview.evaluation.probe"),
    )
