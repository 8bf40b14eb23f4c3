"""Rule ``component``: the principal component of the sample's tokens."""

from genview import stage
from genview.foreground import component

with stage.job(snakemake, "component") as job:
    component.run(
        snakemake.input.tokens,
        snakemake.input.images,
        vector=job.settings["vector"],
        component=snakemake.output.component,
        sample_scores=snakemake.output.scores,
    )
