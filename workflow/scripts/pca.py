"""Rule ``pca``: orientation and threshold of the component, and their pictures."""

from genview import stage
from genview.config.foreground import PrincipalComponent
from genview.foreground import orientation

with stage.job(snakemake, "pca") as job:
    settings = job.settings
    orientation.run(
        PrincipalComponent.model_validate(settings["pca"]),
        component=snakemake.input.component,
        sample_scores=snakemake.input.scores,
        sample_images=snakemake.input.images,
        result=snakemake.output.pca,
        summary=snakemake.output.summary,
        histogram=snakemake.output.histogram,
        masks=snakemake.output.masks,
        stamp=job.stamp,
    )
