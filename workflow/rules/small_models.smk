# The small family that ships with the package, made anew: `snakemake small_models`. No study asks for it.

FAMILY = "results/small_models"


rule small_models:
    """Directories, model cards and figures of the small family."""
    input:
        f"{FAMILY}/small/figures.json",


rule small_model_part:
    """Train one part of the family; interrupted, it goes on from its checkpoint."""
    input:
        code=code("small_model_part", "recipes.small_models.__main__"),
        needed=lambda wildcards: (
            [f"{FAMILY}/parts/clip.json", f"{FAMILY}/parts/autoencoder.json"]
            if wildcards.part == "unet"
            else []
        ),
    output:
        f"{FAMILY}/parts/{{part}}.json",
        f"{FAMILY}/parts/{{part}}.safetensors",
    log:
        f"{FAMILY}/logs/{{part}}.log",
    wildcard_constraints:
        part="judge|clip|autoencoder|unet",
    conda:
        "../../envs/genview.yaml"
    threads: 1
    resources:
        mem_mb=memory(8000),
        runtime=240,
    shell:
        "OMP_NUM_THREADS={threads} python -m recipes.small_models {wildcards.part}"
        f" --output {FAMILY} >> {{log}} 2>&1"


rule small_model_directories:
    """Write the directories that open_clip, transformers and diffusers load."""
    input:
        code=code("small_model_directories", "recipes.small_models.__main__"),
        parts=expand(
            f"{FAMILY}/parts/{{part}}.safetensors",
            part=["judge", "clip", "autoencoder", "unet"],
        ),
    output:
        f"{FAMILY}/small/training.json",
    log:
        f"{FAMILY}/logs/export.log",
    conda:
        "../../envs/genview.yaml"
    resources:
        mem_mb=memory(8000),
        runtime=minutes(30),
    shell:
        f"python -m recipes.small_models export --output {FAMILY} > {{log}} 2>&1"


rule small_model_figures:
    """Measure the family on unseen scenes, and write the figures into the model cards."""
    input:
        code=code(
            "small_model_figures",
            "recipes.small_models.__main__",
            "genview.foreground.pca",
        ),
        script="benchmarks/small_models.py",
        family=rules.small_model_directories.output,
    output:
        f"{FAMILY}/small/figures.json",
    log:
        f"{FAMILY}/logs/figures.log",
    conda:
        "../../envs/genview.yaml"
    resources:
        mem_mb=memory(8000),
        runtime=minutes(60),
    shell:
        f"python {{input.script}} --models {FAMILY}/small > {{log}} 2>&1"
