include: "audit_inputs.smk"


rule audit:
    """Audit a set of views against the originals: likeness, diversity, what was kept."""
    input:
        code=code("audit"),
        settings=recorded("audit", audit_settings),
        manifest=MANIFEST,
        images=PACKED,
        tars=expand(f"{RESULTS}/views/{{{{view}}}}/{{shard}}.tar", shard=SHARDS),
        indexes=expand(f"{RESULTS}/views/{{{{view}}}}/{{shard}}.parquet", shard=SHARDS),
    output:
        quality=f"{RESULTS}/views/{{view}}/quality.json",
        picture=f"{RESULTS}/views/{{view}}/quality.png",
        examples=f"{RESULTS}/views/{{view}}/examples.png",
    log:
        f"{LOGS}/audit/{{view}}.log",
    benchmark:
        f"{COSTS}/audit/{{view}}.tsv"
    conda:
        "../../envs/genview.yaml"
    threads: cores("audit", AUDIT_GPUS)
    resources:
        **gpus(AUDIT_GPUS),
        mem_mb=memory(16000 if AUDIT_GPUS else 4000),
        runtime=minutes(120),
    script:
        "../scripts/audit.py"
