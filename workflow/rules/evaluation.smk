EVALUATION = STUDY.evaluation


def own_images(wildcards):
    """The study's own images, where a dataset is made of them."""
    block = EVALUATION.datasets.get(wildcards.dataset)
    if block is None or block.kind != "own_labels":
        return {}
    return {
        "manifest": rules.manifest.output.manifest,
        "images": rules.manifest.output.images,
    }


def dataset_settings(wildcards):
    """Where a dataset is and how it is divided; nothing of how it is used."""
    block = EVALUATION.datasets.get(wildcards.dataset)
    own = block is not None and block.kind == "own_labels"
    return {
        "dataset": wildcards.dataset,
        "block": block.model_dump(mode="json") if block else None,
        "root": EVALUATION.root,
        "download": EVALUATION.download,
        "source": STUDY.dataset.model_dump(mode="json") if own else None,
        "seed": STUDY.seed,
        "study": STUDY.study,
    }


def feature_settings(wildcards):
    """As above, and how the frozen encoder reads it."""
    return {**dataset_settings(wildcards), **settings(features=EVALUATION.features)}


def published_settings(wildcards):
    """As above, for the protocol that encodes anew in each epoch."""
    return {**feature_settings(wildcards), **settings(probe=PROBE)}


def zeroshot_settings(wildcards):
    """As above, for zero-shot classification."""
    return {
        **dataset_settings(wildcards),
        "batch_size": EVALUATION.zeroshot.batch_size,
        "workers": EVALUATION.features.workers,
    }


def retrieval_settings(wildcards):
    """As above, for retrieval."""
    return {
        **dataset_settings(wildcards),
        "recall_at": EVALUATION.retrieval.recall_at,
        "batch_size": EVALUATION.retrieval.batch_size,
        "workers": EVALUATION.features.workers,
    }


def duplicates_settings(wildcards):
    """As above, with the encoder whose embeddings are compared."""
    return {
        **dataset_settings(wildcards),
        **settings(
            duplicates=EVALUATION.duplicates.model_dump(
                mode="json", exclude={"enabled"}
            ),
            encoder=STUDY.encoders[STUDY.foreground.encoder],
            pretraining=IMAGES,
        ),
    }


# Which datasets are probed decides what runs, not how: it must not re-run the others.
PROBE = EVALUATION.probe.model_dump(mode="json", exclude={"datasets"})


rule probe_features:
    """Encode a dataset once with the frozen encoder of a run."""
    input:
        unpack(own_images),
        code=code("genview.evaluation.features"),
        script="workflow/scripts/probe_features.py",
        model=f"{RESULTS}/runs/{{run}}/model",
    output:
        features=f"{RESULTS}/probes/{{run}}/features/{{dataset}}.safetensors",
    log:
        f"{LOGS}/probes/{{run}}/features/{{dataset}}.log",
    benchmark:
        f"{COSTS}/probes/{{run}}/features/{{dataset}}.tsv"
    conda:
        "../../envs/evaluation.yaml"
    threads: 1
    resources:
        mem_mb=16000,
        runtime=240,
    params:
        settings=feature_settings,
    script:
        "../scripts/probe_features.py"


if EVALUATION.probe.protocol == "cached":

    rule probe:
        """Linear probe and k-NN on the features."""
        input:
            code=code("genview.evaluation.probe"),
            script="workflow/scripts/probe.py",
            features=rules.probe_features.output.features,
        output:
            result=f"{RESULTS}/probes/{{run}}/{{dataset}}.json",
        log:
            f"{LOGS}/probes/{{run}}/{{dataset}}.log",
        benchmark:
            f"{COSTS}/probes/{{run}}/{{dataset}}.tsv"
        conda:
            "../../envs/evaluation.yaml"
        threads: 1
        resources:
            mem_mb=16000,
            runtime=120,
        params:
            settings=settings(probe=PROBE, seed=STUDY.seed, study=STUDY.study),
        script:
            "../scripts/probe.py"

else:

    rule probe:
        """Linear probe by the published protocol: the frozen encoder runs on augmented images in each epoch."""
        input:
            unpack(own_images),
            code=code("genview.evaluation.published"),
            script="workflow/scripts/published_probe.py",
            model=f"{RESULTS}/runs/{{run}}/model",
            features=rules.probe_features.output.features,
        output:
            result=f"{RESULTS}/probes/{{run}}/{{dataset}}.json",
        log:
            f"{LOGS}/probes/{{run}}/{{dataset}}.log",
        benchmark:
            f"{COSTS}/probes/{{run}}/{{dataset}}.tsv"
        conda:
            "../../envs/evaluation.yaml"
        threads: 1
        resources:
            mem_mb=32000,
            runtime=2880,
        params:
            settings=published_settings,
        script:
            "../scripts/published_probe.py"


rule score_zeroshot:
    """Zero-shot classification through clip_benchmark."""
    input:
        unpack(own_images),
        code=code("genview.evaluation.zeroshot"),
        script="workflow/scripts/zeroshot.py",
        model=f"{RESULTS}/runs/{{run}}/model",
    output:
        result=f"{RESULTS}/zeroshot/{{run}}/{{dataset}}.json",
    log:
        f"{LOGS}/zeroshot/{{run}}/{{dataset}}.log",
    benchmark:
        f"{COSTS}/zeroshot/{{run}}/{{dataset}}.tsv"
    conda:
        "../../envs/evaluation.yaml"
    threads: 1
    resources:
        mem_mb=16000,
        runtime=120,
    params:
        settings=zeroshot_settings,
    script:
        "../scripts/zeroshot.py"


rule score_retrieval:
    """Image-text retrieval through clip_benchmark."""
    input:
        unpack(own_images),
        code=code("genview.evaluation.retrieval"),
        script="workflow/scripts/retrieval.py",
        model=f"{RESULTS}/runs/{{run}}/model",
    output:
        result=f"{RESULTS}/retrieval/{{run}}/{{dataset}}.json",
    log:
        f"{LOGS}/retrieval/{{run}}/{{dataset}}.log",
    benchmark:
        f"{COSTS}/retrieval/{{run}}/{{dataset}}.tsv"
    conda:
        "../../envs/evaluation.yaml"
    threads: 1
    resources:
        mem_mb=16000,
        runtime=120,
    params:
        settings=retrieval_settings,
    script:
        "../scripts/retrieval.py"


rule find_duplicates:
    """Pretraining images that are also test images of a dataset."""
    input:
        code=code("genview.evaluation.duplicates"),
        script="workflow/scripts/duplicates.py",
        manifest=rules.manifest.output.manifest,
        images=rules.manifest.output.images,
        scores=expand(
            f"{RESULTS}/foreground/{STUDY.foreground.encoder}/scores/{{shard}}.parquet",
            shard=SHARDS,
        ),
    output:
        result=f"{RESULTS}/evaluation/duplicates/{{dataset}}.json",
        exclusion=f"{RESULTS}/evaluation/duplicates/{{dataset}}.txt",
        pictures=directory(f"{RESULTS}/evaluation/duplicates/{{dataset}}"),
    log:
        f"{LOGS}/evaluation/duplicates/{{dataset}}.log",
    benchmark:
        f"{COSTS}/evaluation/duplicates/{{dataset}}.tsv"
    conda:
        "../../envs/evaluation.yaml"
    threads: 1
    resources:
        mem_mb=16000,
        runtime=240,
    params:
        settings=duplicates_settings,
    script:
        "../scripts/duplicates.py"
