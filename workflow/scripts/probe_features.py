"""Rule ``probe_features``: from a run's model and a dataset to features."""

from genview import stage
from genview.config.dataset import Dataset
from genview.config.evaluation import Features, LocalDataset
from genview.evaluation import features

with stage.running(snakemake.log[0]):
    settings = snakemake.params.settings
    features.run(
        settings["dataset"],
        LocalDataset.model_validate(settings["block"]) if settings["block"] else None,
        Features.model_validate(settings["features"]),
        model=snakemake.input.model,
        root=settings["root"],
        download=settings["download"],
        seed=settings["seed"],
        output=snakemake.output.features,
        stamp=stage.stamp("probe_features", settings["study"], settings, "genview.evaluation.features"),
        source=Dataset.model_validate(settings["source"]) if settings["source"] else None,
        manifest=snakemake.input.get("manifest"),
    )
