"""Rule ``component``: the principal component of the sample's tokens."""

from genview import stage
from genview.foreground import component

with stage.running(snakemake.log[0]):
    component.run(
        snakemake.input.tokens,
        snakemake.input.images,
        vector=stage.settings(snakemake.input.settings)["vector"],
        component=snakemake.output.component,
        sample_scores=snakemake.output.scores,
    )
