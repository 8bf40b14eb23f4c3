"""Rule ``token_scores``: token scores and embeddings of a group of shards."""

from genview import stage
from genview.config.dataset import Dataset
from genview.config.encoders import Encoder
from genview.foreground import token_scores

with stage.job(snakemake, "token_scores") as job:
    settings = job.settings
    token_scores.run(
        Encoder.model_validate(settings["encoder"]),
        Dataset.model_validate(settings["dataset"]),
        manifest=snakemake.input.manifest,
        group=snakemake.wildcards.group,
        component=snakemake.input.component,
        scores=snakemake.output.scores,
        workers=snakemake.threads - 1,
        stamp=job.stamp,
        earlier=job.earlier,
    )
