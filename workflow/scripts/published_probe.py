"""Rule ``probe``: the published protocol, from a run's model and a dataset to the result."""

from genview import stage
from genview.config.dataset import Dataset
from genview.config.evaluation import Features, LocalDataset, Probe
from genview.evaluation import published

with stage.running(snakemake.log[0]):
    settings = snakemake.params.settings
    published.run(
        settings["dataset"],
        LocalDataset.model_validate(settings["block"]) if settings["block"] else None,
        Features.model_validate(settings["features"]),
        Probe.model_validate(settings["probe"]),
        model=snakemake.input.model,
        features=snakemake.input.features,
        root=settings["root"],
        seed=settings["seed"],
        output=snakemake.output.result,
        stamp=stage.stamp("probe", settings["study"], settings, "genview.evaluation.published"),
        source=Dataset.model_validate(settings["source"]) if settings["source"] else None,
        manifest=snakemake.input.get("manifest"),
    )
