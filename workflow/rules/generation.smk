include: "generation_inputs.smk"


rule generate_views:
    """Generate one shard of a set of views: a WebDataset tar and its index."""
    input:
        code=code("generate_views"),
        settings=recorded("generate_views", view_settings),
        manifest=MANIFEST,
        images=PACKED,
        conditions=f"{RESULTS}/conditions/conditions.parquet",
        scores=view_scores,
    output:
        tar=f"{RESULTS}/views/{{view}}/{{shard}}.tar",
        index=f"{RESULTS}/views/{{view}}/{{shard}}.parquet",
    log:
        text=f"{LOGS}/views/{{view}}/{{shard}}.log",
        statistics=f"{LOGS}/views/{{view}}/{{shard}}.json",
    benchmark:
        f"{COSTS}/views/{{view}}/{{shard}}.tsv"
    priority: SOON
    conda:
        "../../envs/genview.yaml"
    threads: cores("generate_views", VIEW_GPUS)
    resources:
        **gpus(VIEW_GPUS),
        mem_mb=memory(16000 if VIEW_GPUS else 4000),
        runtime=720,
        slurm_extra=warned("generate_views"),
    script:
        "../scripts/views.py"
