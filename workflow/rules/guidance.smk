def guidance_backend():
    """The module of the configured backend: a study depends on the code of its own backend alone."""
    return f"genview.guidance.{STUDY.guidance.backend}"


def guidance_model():
    """The files of a model in a local folder; models of the hub are bound by their revision."""
    folder = Path(STUDY.guidance.model or "")
    if STUDY.guidance.backend == "lexical" or not folder.is_dir():
        return []
    return sorted(str(file) for file in folder.iterdir() if file.is_file())


def guidance_scores(_wildcards):
    """Scores are made only where the scale depends on them."""
    if STUDY.guidance.given or STUDY.guidance.strategy != "adaptive":
        return []
    return expand(rules.guidance_score.output.scores, shard=SHARDS)


SCORING = (
    "backend procedure model revision trust_remote_code server api_key_variable "
    "batch_size precision attempts maximum_new_tokens explain"
).split()
SCALING = "strategy constant scales default_scale given".split()


rule guidance_score:
    """Score one shard's captions: how far does each constrain the picture, 1 to 4?"""
    input:
        code=code("genview.guidance.scoring", guidance_backend()),
        script="workflow/scripts/guidance_score.py",
        model=guidance_model(),
        manifest=rules.manifest.output.manifest,
    output:
        scores=f"{RESULTS}/conditions/guidance/{{shard}}.parquet",
    log:
        f"{LOGS}/conditions/guidance/{{shard}}.log",
    benchmark:
        f"{COSTS}/conditions/guidance/{{shard}}.tsv"
    conda:
        "../../envs/gpu.yaml"
    threads: 1 if STUDY.guidance.backend in ("lexical", "server") else 4
    resources:
        mem_mb=2000 if STUDY.guidance.backend in ("lexical", "server") else 32000,
        runtime=720,
    params:
        settings=settings(
            guidance=STUDY.guidance.model_dump(mode="json", include=set(SCORING)),
            dataset=(
                STUDY.dataset
                if STUDY.guidance.backend == "vision_language_model"
                else None
            ),
            study=STUDY.study,
        ),
    script:
        "../scripts/guidance_score.py"


rule guidance_scale:
    """One guidance scale per image: from its score, constant, random or given."""
    input:
        code=code("genview.guidance.scale_table"),
        script="workflow/scripts/guidance_scale.py",
        given=STUDY.guidance.given or [],
        manifest=rules.manifest.output.manifest,
        scores=guidance_scores,
    output:
        scales=f"{RESULTS}/conditions/guidance_scale.parquet",
    log:
        f"{LOGS}/conditions/guidance_scale.log",
    benchmark:
        f"{COSTS}/conditions/guidance_scale.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        settings=settings(
            guidance=STUDY.guidance.model_dump(mode="json", include=set(SCALING)),
            dataset=STUDY.dataset if STUDY.guidance.given else None,
            seed=STUDY.seed if STUDY.guidance.strategy == "random" else None,
            study=STUDY.study,
        ),
    script:
        "../scripts/guidance_scale.py"
