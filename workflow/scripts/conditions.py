"""Rule ``conditions``: merge noise levels and guidance scales with the manifest."""

from genview import stage
from genview.conditions import merge

with stage.job(snakemake, "conditions") as job:
    settings = job.settings
    merge.run(
        manifest=snakemake.input.manifest,
        noise_level=merge.Values(snakemake.input.noise_level or None, **settings["noise_level"]),
        guidance_scale=merge.Values(snakemake.input.guidance_scale or None, **settings["guidance_scale"]),
        modes=settings["modes"],
        seed=settings["seed"],
        conditions=snakemake.output.conditions,
        unmatched=snakemake.output.unmatched,
        stamp=job.stamp,
    )
