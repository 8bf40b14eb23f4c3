"""Rule ``guidance_score``: how far each caption of a group of shards constrains the picture."""

from genview import stage
from genview.config.dataset import Dataset
from genview.config.guidance import Guidance
from genview.data import reader
from genview.guidance import scoring

with stage.job(snakemake, "guidance_score") as job:
    settings = job.settings
    guidance = Guidance.model_validate(settings["guidance"])
    dataset = settings["dataset"] and Dataset.model_validate(settings["dataset"])
    scoring.run(
        scoring.backend(guidance),
        manifest=snakemake.input.manifest,
        group=snakemake.wildcards.group,
        output=snakemake.output.scores,
        root=reader.data_root(dataset, snakemake.input.manifest) if dataset else None,
        stamp=job.stamp,
        model=stage.digest_of(snakemake.input.model) if snakemake.input.get("model") else "",
        earlier=job.earlier,
    )
