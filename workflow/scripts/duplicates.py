"""Rule ``duplicates``: pretraining images among the test images of a dataset."""

from pathlib import Path

from genview import stage
from genview.config.dataset import Dataset
from genview.config.encoders import Encoder
from genview.config.evaluation import Duplicates
from genview.data.keys import shard_names
from genview.evaluation import duplicates
from genview.evaluation.datasets import Request

with stage.running(snakemake.log[0]):
    settings = stage.settings(snakemake.input.settings)
    folder = Path(snakemake.input.scores).with_suffix("")
    duplicates.run(
        Request.of_rule(settings, snakemake.input.manifest),
        Duplicates.model_validate(settings["duplicates"]),
        Encoder.model_validate(settings["encoder"]),
        pretraining_dataset=Dataset.model_validate(settings["pretraining"]),
        manifest=snakemake.input.manifest,
        scores=[
            Path(snakemake.input.scores).with_suffix("") / f"{group}.parquet"
            for group in shard_names(settings["groups"])
        ],
        result=snakemake.output.result,
        keys=snakemake.output.exclusion,
        pictures=snakemake.output.pictures,
        log=snakemake.log[0],
        stamp=stage.stamp("duplicates", settings["study"], settings, "genview.evaluation.duplicates"),
    )
