# By path and not by `rules.manifest.output`: beside a list of a thousand files Snakemake looks a rule's output up among
# all of them, once for each.
MANIFEST = f"{RESULTS}/data/manifest.parquet"
PACKED = f"{RESULTS}/data/images.tar"


rule manifest:
    """Ingest the images: one row per image that is kept, one per item that is refused, with its reason."""
    input:
        code=code("manifest"),
        settings=recorded(
            "manifest",
            dataset=STUDY.dataset,
            seed=STUDY.seed,
            study=STUDY.study,
        ),
        collection=collection(),
    output:
        manifest=MANIFEST,
        rejected=f"{RESULTS}/data/rejected.parquet",
        images=PACKED,
    log:
        f"{LOGS}/data/manifest.log",
    benchmark:
        f"{COSTS}/data/manifest.tsv"
    conda:
        "../../envs/genview.yaml"
    threads: STUDY.dataset.workers or 8
    resources:
        mem_mb=memory(4000),
        runtime=minutes(120),
        cpus_per_task=STUDY.dataset.workers or 8,
    script:
        "../scripts/manifest.py"


rule published_tables:
    """On demand: the study's conditions in the form of the published pipeline's files."""
    input:
        code=code("published_tables"),
        manifest=MANIFEST,
        ratio=f"{RESULTS}/foreground/{STUDY.foreground.encoder}/foreground_ratio.parquet",
        noise_level=f"{RESULTS}/conditions/noise_level.parquet",
        guidance_scale=f"{RESULTS}/conditions/guidance_scale.parquet",
    output:
        multiext(
            f"{RESULTS}/published/",
            "fg_ratios.csv",
            "noise_level.csv",
            "guidance_scale.csv",
            "infos.csv",
        ),
    log:
        f"{LOGS}/data/published_tables.log",
    benchmark:
        f"{COSTS}/data/published_tables.tsv"
    localrule: True
    conda:
        "../../envs/genview.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=minutes(60),
    script:
        "../scripts/published_tables.py"
