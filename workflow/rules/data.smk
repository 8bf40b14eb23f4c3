rule manifest:
    """Ingest the images: one row per image that is kept, one per item that is refused, with its reason."""
    input:
        code=code("genview.data.ingest"),
        script="workflow/scripts/manifest.py",
    output:
        manifest=f"{RESULTS}/data/manifest.parquet",
        rejected=f"{RESULTS}/data/rejected.parquet",
        images=f"{RESULTS}/data/images.tar",
    params:
        settings=settings(dataset=STUDY.dataset, seed=STUDY.seed, study=STUDY.study),
    log:
        f"{LOGS}/data/manifest.log",
    benchmark:
        f"{COSTS}/data/manifest.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 2
    resources:
        mem_mb=4000,
        runtime=120,
    script:
        "../scripts/manifest.py"
