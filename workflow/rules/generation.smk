def view_scores(wildcards):
    """The foreground pass, whose image embeddings generation uses; text alone needs none."""
    if STUDY.views[wildcards.view].mode == "txt":
        return []
    return f"{RESULTS}/foreground/{STUDY.foreground.encoder}/scores/{wildcards.shard}.parquet"


def view_settings(wildcards):
    """Parameters of a view set; what chance draws from counts only where chance draws."""
    view = STUDY.views[wildcards.view]
    by_chance = {}
    if view.mode != "txt" and view.noise_level == "random":
        by_chance["levels"] = STUDY.noise_level.levels
    if view.guidance_scale == "random":
        by_chance["scales"] = sorted(set(STUDY.guidance.scales))
    return settings(view=view, seed=STUDY.seed, study=STUDY.study, **by_chance)


def audit_settings():
    """Parameters of the audit: its block, and the encoders that it names or, without names, the foreground's."""
    names = STUDY.audit.encoders or (STUDY.foreground.encoder,)
    encoders = {name: STUDY.encoders[name].model_dump(mode="json") for name in names}
    return settings(
        audit=STUDY.audit, encoders=encoders, seed=STUDY.seed, study=STUDY.study
    )


rule views:
    """Generate one shard of a set of views: a WebDataset tar and its index."""
    input:
        code=code("genview.generation.shard"),
        script="workflow/scripts/views.py",
        manifest=f"{RESULTS}/data/manifest.parquet",
        images=f"{RESULTS}/data/images.tar",
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
    conda:
        "../../envs/gpu.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=720,
    params:
        settings=view_settings,
    script:
        "../scripts/views.py"


rule view_quality:
    """Audit a set of views against the originals: likeness, diversity, what was kept."""
    input:
        code=code("genview.generation.audit"),
        script="workflow/scripts/view_quality.py",
        manifest=f"{RESULTS}/data/manifest.parquet",
        images=f"{RESULTS}/data/images.tar",
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
        mem_mb=4000,
        runtime=120,
    params:
        settings=audit_settings(),
    script:
        "../scripts/view_quality.py"
