"""Rule ``probe_parts``: from a run's model and a dataset to a probe of each part of its features."""

from genview import stage
from genview.config.evaluation import Features
from genview.config.parts import Parts
from genview.evaluation import parts
from genview.evaluation.datasets import Request

with stage.job(snakemake, "probe_parts") as job:
    settings = Parts.model_validate(job.settings["parts"])
    parts.run(
        Request.of_rule(job.settings, snakemake.input.get("manifest")),
        Features.model_validate(job.settings["features"]).on(snakemake.threads),
        settings,
        model=snakemake.input.model,
        outputs={part: snakemake.output[part] for part in settings.parts},
        examples=snakemake.output.examples,
        stamp=job.stamp,
    )
