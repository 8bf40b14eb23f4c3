"""Rule ``guidance_scale``: one guidance scale per image."""

from genview import stage
from genview.conditions import guidance_scale
from genview.config.dataset import Dataset
from genview.config.guidance import Guidance
from genview.data import reader

with stage.job(snakemake, "guidance_scale") as job:
    settings = job.settings
    dataset = settings["dataset"] and Dataset.model_validate(settings["dataset"])
    guidance_scale.run(
        Guidance.model_validate(settings["guidance"]),
        manifest=snakemake.input.manifest,
        scores=snakemake.input.scores,
        output=snakemake.output.scales,
        seed=settings["seed"],
        root=reader.data_root(dataset, snakemake.input.manifest) if dataset else None,
        stamp=job.stamp,
    )
