def audit_settings(wildcards):
    """Settings of the audit: its block, and the encoders that it names or, without names, the foreground's."""
    names = STUDY.audit.encoders or (STUDY.foreground.encoder,)
    encoders = {name: STUDY.encoders[name] for name in names}
    return settings(
        audit=STUDY.audit,
        encoders=encoders,
        seed=STUDY.seed,
        study=STUDY.study,
        runtime={"dataset": STUDY.dataset},
    )


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
        "../../envs/gpu.yaml"
    threads: 1
    resources:
        **gpus(audit_gpus),
        mem_mb=memory(4000),
        runtime=minutes(120),
    script:
        "../scripts/audit.py"
