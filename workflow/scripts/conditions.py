"""Rule ``conditions``: merge noise levels and guidance scales with the manifest."""

from genview import stage
from genview.conditions import merge

with stage.job(snakemake, "conditions") as job:
    settings = job.settings
    merge.run(
        manifest=snakemake.input.manifest,
        noise_level=snakemake.input.noise_level or None,
        noise_level_from=settings["noise_level_from"],
        guidance_scale=snakemake.input.guidance_scale or None,
        guidance_scale_from=settings["guidance_scale_from"],
        modes=settings["modes"],
        conditions=snakemake.output.conditions,
        unmatched=snakemake.output.unmatched,
        stamp=job.stamp,
    )
