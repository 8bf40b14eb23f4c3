"""Rule ``foreground_ratio``: from token scores to one ratio per image."""

from genview import stage
from genview.foreground import ratio

with stage.job(snakemake, "foreground_ratio") as job:
    ratio.run(
        snakemake.input.scores,
        component=snakemake.input.pca,
        ratio=snakemake.output.ratio,
        stamp=job.stamp,
    )
