"""Rule ``audit``: the audit of a set of views."""

from genview import stage
from genview.audit import audit
from genview.audit.pairs import Views
from genview.config.dataset import Dataset
from genview.config.encoders import Encoder
from genview.config.evaluation import Audit
from genview.data.reader import data_root

with stage.job(snakemake, "audit") as job:
    settings = job.settings
    audit.run(
        Audit.model_validate(settings["audit"]),
        {name: Encoder.model_validate(block) for name, block in settings["encoders"].items()},
        Views(
            name=snakemake.wildcards.view,
            manifest=snakemake.input.manifest,
            root=data_root(Dataset.model_validate(settings["dataset"]), snakemake.input.manifest),
            indexes=snakemake.input.indexes,
            tars=snakemake.input.tars,
        ),
        audit.Artifacts(snakemake.output.quality, snakemake.output.picture, snakemake.output.examples),
        seed=settings["seed"],
        workers=snakemake.threads - 1,
        stamp=job.stamp,
    )
