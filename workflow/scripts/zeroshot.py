"""Rule ``zeroshot``: from a run's model and a dataset to clip_benchmark's metrics."""

from genview import stage
from genview.config.dataset import Dataset
from genview.config.evaluation import LocalDataset
from genview.evaluation import zeroshot

with stage.running(snakemake.log[0]):
    settings = snakemake.params.settings
    zeroshot.run(
        settings["dataset"],
        LocalDataset.model_validate(settings["block"]) if settings["block"] else None,
        model=snakemake.input.model,
        batch_size=settings["batch_size"],
        workers=settings["workers"],
        root=settings["root"],
        download=settings["download"],
        seed=settings["seed"],
        output=snakemake.output.result,
        stamp=stage.stamp("zeroshot", settings["study"], settings, "genview.evaluation.zeroshot"),
        source=Dataset.model_validate(settings["source"]) if settings["source"] else None,
        manifest=snakemake.input.get("manifest"),
    )
