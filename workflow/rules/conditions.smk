include: "conditions_inputs.smk"


rule noise_level:
    """Noise level of each image: adaptive to its foreground ratio, constant, random, or given."""
    input:
        code=code("noise_level"),
        settings=recorded(
            "noise_level",
            noise_level=STUDY.noise_level,
            dataset=IMAGES,
            seed=STUDY.seed,
            study=STUDY.study,
        ),
        manifest=MANIFEST,
        ratio=(
            f"{MEASURING}/foreground_ratio.parquet"
            if STUDY.noise_level.strategy == "adaptive" and not STUDY.noise_level.given
            else []
        ),
        given=given("noise_level", STUDY.noise_level.given),
    output:
        noise_level=f"{RESULTS}/conditions/noise_level.parquet",
    log:
        f"{LOGS}/conditions/noise_level.log",
    benchmark:
        f"{COSTS}/conditions/noise_level.tsv"
    priority: SOON
    localrule: True
    conda:
        "../../envs/genview.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=minutes(30),
    script:
        "../scripts/noise_level.py"


rule guidance_scale:
    """One guidance scale per image: from its score, constant, random or given."""
    input:
        code=code("guidance_scale"),
        settings=recorded(
            "guidance_scale",
            guidance=STUDY.guidance.model_dump(mode="json", include=set(SCALING)),
            dataset=STUDY.dataset if STUDY.guidance.given else None,
            seed=STUDY.seed if STUDY.guidance.strategy == "random" else None,
            study=STUDY.study,
        ),
        given=given("guidance_scale", STUDY.guidance.given),
        manifest=MANIFEST,
        scores=expand(
            f"{RESULTS}/conditions/guidance/{{group}}.parquet", group=GUIDANCE_GROUPS
        ),
    output:
        scales=f"{RESULTS}/conditions/guidance_scale.parquet",
    log:
        f"{LOGS}/conditions/guidance_scale.log",
    benchmark:
        f"{COSTS}/conditions/guidance_scale.tsv"
    priority: SOON
    localrule: True
    conda:
        "../../envs/genview.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=minutes(30),
    script:
        "../scripts/guidance_scale.py"


rule conditions:
    """One row per image: caption, noise level, guidance scale, and where each came from."""
    input:
        code=code("conditions"),
        settings=recorded(
            "conditions",
            **condition_settings(),
            study=STUDY.study,
        ),
        manifest=MANIFEST,
        noise_level=(
            f"{RESULTS}/conditions/noise_level.parquet" if NEEDS_NOISE_LEVELS else []
        ),
        guidance_scale=(
            f"{RESULTS}/conditions/guidance_scale.parquet"
            if NEEDS_GUIDANCE_SCALES
            else []
        ),
    output:
        conditions=f"{RESULTS}/conditions/conditions.parquet",
        unmatched=f"{RESULTS}/conditions/unmatched.json",
    log:
        f"{LOGS}/conditions/conditions.log",
    benchmark:
        f"{COSTS}/conditions/conditions.tsv"
    priority: SOON
    localrule: True
    conda:
        "../../envs/genview.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=minutes(30),
    script:
        "../scripts/conditions.py"
