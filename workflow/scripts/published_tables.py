"""Rule ``published_tables``: the study's conditions in the form of the published pipeline's files."""

from pathlib import Path

from genview import stage
from genview.data import published

with stage.job(snakemake, "published_tables") as job:
    published.export(
        snakemake.input.manifest,
        snakemake.input.ratio,
        snakemake.input.noise_level,
        snakemake.input.guidance_scale,
        Path(snakemake.output[0]).parent,
    )
