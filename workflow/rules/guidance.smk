# A study depends on the code of its own backend alone.
GUIDANCE_BACKEND = f"genview.guidance.{STUDY.guidance.backend}"
GUIDANCE_IS_LIGHT = STUDY.guidance.backend in ("lexical", "server")
GUIDANCE_SEES_IMAGES = STUDY.guidance.backend == "vision_language_model"
# Scores are made only where the scale depends on them.
GUIDANCE_GROUPS = (
    GROUPS if STUDY.guidance.strategy == "adaptive" and not STUDY.guidance.given else []
)
# A model in a local folder is bound by its files, one of the hub by its revision.
GUIDANCE_MODEL = (
    sorted(str(file) for file in Path(STUDY.guidance.model).iterdir() if file.is_file())
    if not GUIDANCE_IS_LIGHT
    and STUDY.guidance.model
    and Path(STUDY.guidance.model).is_dir()
    else []
)
SCORING = (
    "backend explain"
    if STUDY.guidance.backend == "lexical"
    else "backend procedure model revision trust_remote_code server api_key_variable "
    "batch_size precision attempts maximum_new_tokens explain"
).split()


rule guidance_score:
    """Score the captions of a group of shards: how far does each constrain the picture, 1 to 4?"""
    input:
        code=code("genview.guidance.scoring", GUIDANCE_BACKEND, script="guidance_score"),
        settings=recorded(
            "guidance_score",
            guidance=STUDY.guidance.model_dump(mode="json", include=set(SCORING)),
            dataset=STUDY.dataset if GUIDANCE_SEES_IMAGES else None,
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
        "../../envs/gpu.yaml"
    threads: 1 if GUIDANCE_IS_LIGHT else 4
    resources:
        mem_mb=growing(2000 if GUIDANCE_IS_LIGHT else 32000),
        runtime=720,
        gpu=0 if GUIDANCE_IS_LIGHT else 1,
    script:
        "../scripts/guidance_score.py"
