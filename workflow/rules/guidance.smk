# A study depends on the code of its own backend alone.
GUIDANCE_BACKEND = f"genview.guidance.{STUDY.guidance.backend}"
GUIDANCE_GPUS = int(STUDY.guidance.needs.loads_model)
# Scores are made only where the scale depends on them.
GUIDANCE_GROUPS = GROUPS if STUDY.guidance.scores_captions else []
# A model in a local folder is bound by its files, one of the hub by its revision.
GUIDANCE_MODEL = (
    held(
        "guidance_model",
        {
            file.name: file
            for file in sorted(Path(STUDY.guidance.model).iterdir())
            if file.is_file()
        },
    )
    if GUIDANCE_GPUS and STUDY.guidance.model and Path(STUDY.guidance.model).is_dir()
    else []
)


rule guidance_score:
    """Score the captions of a group of shards: how far does each constrain the picture, 1 to 4?"""
    input:
        code=code("guidance_score", GUIDANCE_BACKEND),
        settings=recorded(
            "guidance_score",
            guidance=STUDY.guidance.scoring(),
            dataset=IMAGES if STUDY.guidance.needs.sees_images else None,
            study=STUDY.study,
        ),
        model=GUIDANCE_MODEL,
        manifest=MANIFEST,
    output:
        scores=f"{RESULTS}/conditions/guidance/{{group}}.parquet",
    log:
        f"{LOGS}/conditions/guidance/{{group}}.log",
    benchmark:
        f"{COSTS}/conditions/guidance/{{group}}.tsv"
    priority: SOON
    conda:
        "../../envs/genview.yaml"
    threads: 4 if GUIDANCE_GPUS else 1
    resources:
        **gpus(GUIDANCE_GPUS),
        mem_mb=memory(32000 if GUIDANCE_GPUS else 2000),
        runtime=720,
    script:
        "../scripts/guidance_score.py"
