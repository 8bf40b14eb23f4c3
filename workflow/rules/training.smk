include: "training_inputs.smk"


rule quality_features:
    """Originals' backgrounds and captions' embeddings by the quality encoder, once, for all runs."""
    input:
        code=code("quality_features"),
        settings=recorded("quality_features", quality_settings),
        manifest=MANIFEST,
        images=PACKED,
        component=f"{FOREGROUND}/{{encoder}}/pca.safetensors",
    output:
        f"{FOREGROUND}/{{encoder}}/quality/{{group}}.safetensors",
    log:
        f"{LOGS}/training/quality_features/{{encoder}}/{{group}}.log",
    benchmark:
        f"{COSTS}/training/quality_features/{{encoder}}/{{group}}.tsv"
    priority: SOON
    conda:
        "../../envs/genview.yaml"
    threads: cores("quality_features", ENCODER_GPUS)
    resources:
        **gpus(ENCODER_GPUS),
        mem_mb=memory(16000),
        runtime=minutes(120),
    script:
        "../scripts/quality_features.py"


rule train:
    """Train one run, from where it was stopped if it was, and save the model."""
    input:
        code=code("train", files=[LAUNCHER]),
        settings=recorded("train", run_settings),
        manifest=MANIFEST,
        images=PACKED,
        tars=run_tars,
        indexes=run_indexes,
        component=run_component,
        features=run_quality_features,
        initial=run_initial,
    output:
        model=directory(f"{RESULTS}/runs/{{run}}/model"),
        metrics=f"{RESULTS}/runs/{{run}}/metrics.jsonl",
    log:
        f"{LOGS}/training/{{run}}/train.log",
    benchmark:
        f"{COSTS}/training/{{run}}.tsv"
    priority: SOON
    conda:
        "../../envs/genview.yaml"
    threads: run_threads
    resources:
        **training_gpus(),
        mem_mb=memory(run_memory),
        runtime=1440,
        cpus_per_task=run_threads,
        tasks=run_nodes,
        nodes=run_nodes,
        mpi=run_mpi,
        slurm_extra=warned("train"),
    script:
        "../scripts/train.py"
