"""Rule ``probe``: from features to the result of the cached protocol."""

from genview import stage
from genview.config.evaluation import Probe
from genview.evaluation import probe

with stage.job(snakemake, "probe") as job:
    settings = job.settings
    probe.run(
        Probe.model_validate(settings["probe"]),
        features=snakemake.input.features,
        seed=settings["seed"],
        output=snakemake.output.result,
        images=snakemake.output.images,
        stamp=job.stamp,
    )
