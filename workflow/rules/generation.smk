include: "generation_inputs.smk"


rule generate_views:
    """Generate one shard of a set of views: a WebDataset tar and its index."""
    input:
        code=code("genview.generation.shard", script="views"),
        settings=recorded("generate_views", view_settings),
        manifest=MANIFEST,
        images=PACKED,
        conditions=f"{RESULTS}/conditions/conditions.parquet",
        scores=view_scores,
    output:
        tar=f"{RESULTS}/views/{{view}}/{{shard}}.tar",
        index=f"{RESULTS}/views/{{view}}/{{shard}}.parquet",
    log:
        text=f"{LOGS}/generation/{{view}}/{{shard}}.log",
        statistics=f"{LOGS}/generation/{{view}}/{{shard}}.json",
    benchmark:
        f"{COSTS}/generation/{{view}}/{{shard}}.tsv"
    priority: SOON
    conda:
        "../../envs/gpu.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=720,
        gpu=agreed({gpus_for(view.model) for view in STUDY.views.values()}, view_gpus),
        slurm_extra=WARNED,
    script:
        "../scripts/views.py"


rule view_quality:
    """Audit a set of views against the originals: likeness, diversity, what was kept."""
    input:
        code=code("genview.generation.audit", script="view_quality"),
        settings=recorded("view_quality", audit_settings),
        manifest=MANIFEST,
        images=PACKED,
        tars=expand(f"{RESULTS}/views/{{{{view}}}}/{{shard}}.tar", shard=SHARDS),
        indexes=expand(f"{RESULTS}/views/{{{{view}}}}/{{shard}}.parquet", shard=SHARDS),
    output:
        quality=f"{RESULTS}/views/{{view}}/quality.json",
        picture=f"{RESULTS}/views/{{view}}/quality.png",
        examples=f"{RESULTS}/views/{{view}}/examples.png",
    log:
        f"{LOGS}/generation/{{view}}/quality.log",
    benchmark:
        f"{COSTS}/generation/{{view}}/quality.tsv"
    conda:
        "../../envs/gpu.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
        gpu=audit_gpus,
    script:
        "../scripts/view_quality.py"
