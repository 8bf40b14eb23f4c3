"""Rule ``token_cut``: some images divided by TokenCut too."""

from genview import stage
from genview.config.dataset import Dataset
from genview.config.encoders import Encoder
from genview.foreground import second_opinion

with stage.job(snakemake, "token_cut") as job:
    second_opinion.run(
        Encoder.model_validate(job.settings["encoder"]),
        Dataset.model_validate(job.settings["dataset"]),
        images=job.settings["images"],
        workers=snakemake.threads - 1,
        manifest=snakemake.input.manifest,
        ratios=snakemake.input.ratios,
        output=snakemake.output.cuts,
        stamp=job.stamp,
    )
