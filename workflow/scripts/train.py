"""Rule ``train``: write the run's job file, and start its processes."""

from pathlib import Path

from genview import stage
from genview.config import load
from genview.config.encoders import Encoder
from genview.training import launch
from genview.training.job import Job, Quality

with stage.running(snakemake.log[0], gpus=snakemake.resources.get("gpu", 0)):
    study = load.parse(snakemake.config)
    run = study.runs[snakemake.wildcards.run]
    model, logs = Path(snakemake.output.model), Path(snakemake.log[0]).parent
    shards = list(zip(snakemake.input.get("tars", []), snakemake.input.get("indexes", [])))
    each = len(shards) // max(len(run.data.views), 1)
    initial = study.initial(snakemake.wildcards.run)
    job = Job(
        run=run,
        name=snakemake.wildcards.run,
        study=study.study,
        seed=study.seed,
        dataset=study.dataset,
        manifest=snakemake.input.manifest,
        views={name: tuple(shards[i * each : (i + 1) * each]) for i, name in enumerate(run.data.views)},
        quality=Quality(
            encoder=study.encoders[study.quality_encoder],
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
        job,
        logs / "job.json",
        launcher=Path(snakemake.input.launcher),
        log=logs / "processes.log",
        cores=snakemake.threads,
    )
