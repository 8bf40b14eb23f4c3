"""Rule ``score_finetune``: from a run's model and few labels to the accuracy of the whole network."""

from genview import stage
from genview.config.evaluation import Features, Finetune
from genview.evaluation import finetune
from genview.evaluation.datasets import Request

with stage.job(snakemake, "finetune") as job:
    settings = job.settings
    finetune.run(
        Request.of_rule(settings, snakemake.input.get("manifest")),
        Features.model_validate(settings["features"]).on(snakemake.threads),
        Finetune.model_validate(settings["finetune"]),
        model=snakemake.input.model,
        work=snakemake.params.work,
        output=snakemake.output.result,
        stamp=job.stamp,
    )
