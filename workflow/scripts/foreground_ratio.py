"""Rule ``foreground_ratio``: from token scores to one ratio per image."""

from genview import stage
from genview.foreground import ratio

with stage.running(snakemake.log[0]):
    settings = stage.settings(snakemake.input.settings)
    ratio.run(
        snakemake.input.scores,
        component=snakemake.input.pca,
        ratio=snakemake.output.ratio,
        stamp=stage.stamp("foreground_ratio", settings["study"], settings, "genview.foreground.ratio"),
    )
