"""Rule ``train``: write the run's job file, and start its processes."""

from pathlib import Path

from genview import stage
from genview.config.dataset import Dataset
from genview.config.encoders import Encoder
from genview.config.training import Run
from genview.training import launch
from genview.training.job import Job, Quality

with stage.job(snakemake, "train") as job:
    settings = job.settings
    run = Run.model_validate(settings["run"])
    model, logs = Path(snakemake.output.model), Path(snakemake.log[0]).parent
    shards = list(zip(snakemake.input.get("tars", []), snakemake.input.get("indexes", [])))
    each = len(shards) // max(len(run.data.views), 1)
    initial = settings.get("initial")
    training = Job(
        run=run,
        name=snakemake.wildcards.run,
        study=settings["study"],
        seed=settings["seed"],
        code=job.stamp["code"],
        dataset=Dataset.model_validate(settings["dataset"]),
        manifest=snakemake.input.manifest,
        views={name: tuple(shards[i * each : (i + 1) * each]) for i, name in enumerate(run.data.views)},
        quality=Quality(
            encoder=Encoder.model_validate(settings["quality_encoder"]),
            component=snakemake.input.component,
            features=tuple(snakemake.input.get("features", [])),
        )
        if run.uses_quality
        else None,
        initial=Encoder(model=snakemake.input.initial) if isinstance(initial, str) else initial,
        model=str(model),
        metrics=snakemake.output.metrics,
        checkpoints=str(model.parent / "checkpoints"),
        logs=str(logs),
    )
    launch.run(
        training,
        logs / "job.json",
        launcher=Path(snakemake.scriptdir) / "launch_training.sh",
        log=logs / "processes.log",
        cores=snakemake.threads,
    )
