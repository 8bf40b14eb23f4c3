# View sets that give their own levels and scales need no table of them.
NEEDS_NOISE_LEVELS = any(
    view.mode != "txt" and view.noise_level == "table" for view in STUDY.views.values()
)
NEEDS_GUIDANCE_SCALES = any(
    view.guidance_source() == "table" for view in STUDY.views.values()
)


rule conditions:
    """One row per image: caption, noise level, guidance scale, and where each came from."""
    input:
        code=code("genview.conditions.merge", script="conditions"),
        settings=recorded(
            "conditions",
            noise_level_from=(
                "given" if STUDY.noise_level.given else STUDY.noise_level.strategy
            ),
            guidance_scale_from=(
                "given" if STUDY.guidance.given else STUDY.guidance.strategy
            ),
            modes={name: view.mode for name, view in STUDY.views.items()},
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
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    script:
        "../scripts/conditions.py"
