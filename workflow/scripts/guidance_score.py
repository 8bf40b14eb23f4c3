"""Rule ``guidance_score``: how far each caption of a group of shards constrains the picture."""

from genview import stage
from genview.config.dataset import Dataset
from genview.config.guidance import Guidance
from genview.data import reader
from genview.guidance import scoring

with stage.running(snakemake.log[0], gpus=snakemake.resources.get("gpu", 0)):
    settings = stage.settings(snakemake.input.settings)
    guidance = Guidance.model_validate(settings["guidance"])
    backend = f"genview.guidance.{guidance.backend}"
    dataset = settings["dataset"] and Dataset.model_validate(settings["dataset"])
    scoring.run(
        scoring.backend(guidance),
        manifest=snakemake.input.manifest,
        group=snakemake.wildcards.group,
        output=snakemake.output.scores,
        root=reader.data_root(dataset, snakemake.input.manifest) if dataset else None,
        stamp=stage.stamp("guidance_score", settings["study"], settings, "genview.guidance.scoring", backend),
    )
