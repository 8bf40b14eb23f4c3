# What the rules of training.smk are given, by run: the functions stand apart from the rules.

LAUNCHER = "workflow/scripts/launch_training.sh"
QUALITY = f"{RESULTS}/foreground/{STUDY.quality_encoder}"


def run_settings(wildcards):
    """Settings of a run, and of what it starts from and is judged by."""
    run = STUDY.runs[wildcards.run]
    encoder = STUDY.encoders[STUDY.quality_encoder]
    quality = (
        {"quality_encoder": encoder} if STUDY.runs[wildcards.run].uses_quality else {}
    )
    initial = STUDY.initial(wildcards.run)
    started = {"initial": initial} if initial else {}
    return settings(
        run=run,
        seed=STUDY.seed,
        study=STUDY.study,
        **quality,
        **started,
        runtime={"dataset": STUDY.dataset},
    )


def quality_settings(wildcards):
    """Settings of the quality features: the encoder, whatever run asks for them."""
    return settings(
        encoder=STUDY.encoders[wildcards.encoder],
        study=STUDY.study,
        runtime={"dataset": STUDY.dataset},
    )


def run_tars(wildcards):
    """Tars of a run's view sets, set after set."""
    views = STUDY.runs[wildcards.run].data.views
    return expand(f"{RESULTS}/views/{{view}}/{{shard}}.tar", view=views, shard=SHARDS)


def run_indexes(wildcards):
    """Their indexes, in the same order."""
    views = STUDY.runs[wildcards.run].data.views
    return expand(
        f"{RESULTS}/views/{{view}}/{{shard}}.parquet", view=views, shard=SHARDS
    )


def run_component(wildcards):
    """The quality encoder's component, where the run's loss has quality weights."""
    run = STUDY.runs[wildcards.run]
    return f"{QUALITY}/pca.safetensors" if run.uses_quality else []


def run_quality_features(wildcards):
    """Originals and captions as the quality encoder sees them, for the image-text quality term alone."""
    if not STUDY.runs[wildcards.run].uses_text_quality:
        return []
    return [f"{QUALITY}/quality/{group}.safetensors" for group in GROUPS]


def run_initial(wildcards):
    """The model of the run that a run starts from."""
    initial = STUDY.initial(wildcards.run)
    return f"{RESULTS}/runs/{initial}/model" if isinstance(initial, str) else []


def run_threads(wildcards):
    """Cores per node: one for each process and one for each of its loader processes."""
    run = STUDY.runs[wildcards.run]
    return run.gpus_per_node * (1 + run.data.workers)


def run_nodes(wildcards):
    """Nodes of a run."""
    return STUDY.runs[wildcards.run].nodes


def run_mpi(wildcards):
    """Over several nodes the job must not be wrapped in one srun: the launcher starts one task per node itself."""
    return "srun" if STUDY.runs[wildcards.run].nodes > 1 else None
