include: "evaluation_inputs.smk"


rule probe_features:
    """Encode a dataset once with the frozen encoder of a run."""
    input:
        unpack(own_images),
        code=code("probe_features"),
        settings=recorded("probe_features", feature_settings),
        model=evaluated_model,
    output:
        features=f"{RESULTS}/probes/{{model}}/features/{{dataset}}.safetensors",
    log:
        f"{LOGS}/probes/{{model}}/features/{{dataset}}.log",
    benchmark:
        f"{COSTS}/probes/{{model}}/features/{{dataset}}.tsv"
    conda:
        "../../envs/genview.yaml"
    threads: cores("probe_features", evaluation_gpus)
    resources:
        **gpus(evaluation_gpus),
        mem_mb=memory(16000),
        runtime=minutes(240),
    script:
        "../scripts/probe_features.py"


if EVALUATION.probe.protocol == "cached":

    rule probe:
        """Linear probe and k-NN on the features."""
        input:
            code=code("probe"),
            settings=recorded("probe", probe=PROBE, seed=STUDY.seed, study=STUDY.study),
            features=rules.probe_features.output.features,
        output:
            result=f"{RESULTS}/probes/{{model}}/{{dataset}}.json",
            images=f"{RESULTS}/probes/{{model}}/{{dataset}}.parquet",
        log:
            f"{LOGS}/probes/{{model}}/{{dataset}}.log",
        benchmark:
            f"{COSTS}/probes/{{model}}/{{dataset}}.tsv"
        conda:
            "../../envs/genview.yaml"
        threads: 1
        resources:
            **gpus(evaluation_gpus),
            mem_mb=memory(16000),
            runtime=minutes(120),
        script:
            "../scripts/probe.py"

else:

    rule probe:
        """Linear probe by the published protocol: the frozen encoder runs on augmented images in each epoch."""
        input:
            unpack(own_images),
            code=code("probe"),
            settings=recorded("probe", published_settings),
            model=evaluated_model,
            features=rules.probe_features.output.features,
        output:
            result=f"{RESULTS}/probes/{{model}}/{{dataset}}.json",
            images=f"{RESULTS}/probes/{{model}}/{{dataset}}.parquet",
        log:
            f"{LOGS}/probes/{{model}}/{{dataset}}.log",
        benchmark:
            f"{COSTS}/probes/{{model}}/{{dataset}}.tsv"
        conda:
            "../../envs/genview.yaml"
        threads: cores("probe", evaluation_gpus)
        resources:
            **gpus(evaluation_gpus),
            mem_mb=memory(32000),
            runtime=2880,
        script:
            "../scripts/published_probe.py"


ruleorder: probe_parts > probe


rule probe_parts:
    """Linear probes of the parts of an encoder's features, and their accuracy on perturbed images."""
    input:
        unpack(own_images),
        code=code("probe_parts"),
        settings=recorded("probe_parts", parts_settings),
        model=evaluated_model,
    output:
        **{
            part: f"{RESULTS}/probes/{{model}}/{{dataset}}.{part}.json"
            for part in EVALUATION.parts.parts
        },
        examples=f"{RESULTS}/probes/{{model}}/{{dataset}}.perturbed.png",
    log:
        f"{LOGS}/probes/{{model}}/{{dataset}}.parts.log",
    benchmark:
        f"{COSTS}/probes/{{model}}/{{dataset}}.parts.tsv"
    conda:
        "../../envs/genview.yaml"
    threads: cores("probe_parts", evaluation_gpus)
    resources:
        **gpus(evaluation_gpus),
        mem_mb=memory(32000),
        runtime=2880,
    script:
        "../scripts/probe_parts.py"


rule score_zeroshot:
    """Zero-shot classification through clip_benchmark."""
    input:
        unpack(own_images),
        code=code("score_zeroshot"),
        settings=recorded("score_zeroshot", zeroshot_settings),
        model=evaluated_model,
    output:
        result=f"{RESULTS}/zeroshot/{{model}}/{{dataset}}.json",
        images=f"{RESULTS}/zeroshot/{{model}}/{{dataset}}.parquet",
    log:
        f"{LOGS}/zeroshot/{{model}}/{{dataset}}.log",
    benchmark:
        f"{COSTS}/zeroshot/{{model}}/{{dataset}}.tsv"
    conda:
        "../../envs/genview.yaml"
    threads: cores("score_zeroshot", evaluation_gpus)
    resources:
        **gpus(evaluation_gpus),
        mem_mb=memory(16000),
        runtime=minutes(120),
    script:
        "../scripts/zeroshot.py"


rule score_retrieval:
    """Image-text retrieval through clip_benchmark."""
    input:
        unpack(own_images),
        code=code("score_retrieval"),
        settings=recorded("score_retrieval", retrieval_settings),
        model=evaluated_model,
    output:
        result=f"{RESULTS}/retrieval/{{model}}/{{dataset}}.json",
        images=f"{RESULTS}/retrieval/{{model}}/{{dataset}}.parquet",
    log:
        f"{LOGS}/retrieval/{{model}}/{{dataset}}.log",
    benchmark:
        f"{COSTS}/retrieval/{{model}}/{{dataset}}.tsv"
    conda:
        "../../envs/genview.yaml"
    threads: cores("score_retrieval", evaluation_gpus)
    resources:
        **gpus(evaluation_gpus),
        mem_mb=memory(16000),
        runtime=minutes(120),
    script:
        "../scripts/retrieval.py"


rule find_duplicates:
    """Pretraining images that are also test images of a dataset."""
    input:
        code=code("find_duplicates"),
        settings=recorded("find_duplicates", duplicates_settings),
        manifest=MANIFEST,
        images=PACKED,
        scores=SCORES,
    output:
        result=f"{RESULTS}/evaluation/duplicates/{{dataset}}.json",
        exclusion=f"{RESULTS}/evaluation/duplicates/{{dataset}}.txt",
        pictures=directory(f"{RESULTS}/evaluation/duplicates/{{dataset}}"),
    log:
        f"{LOGS}/evaluation/duplicates/{{dataset}}.log",
    benchmark:
        f"{COSTS}/evaluation/duplicates/{{dataset}}.tsv"
    conda:
        "../../envs/genview.yaml"
    threads: cores("find_duplicates", gpus_for(STUDY.encoders[STUDY.foreground.encoder].model))
    resources:
        **gpus(gpus_for(STUDY.encoders[STUDY.foreground.encoder].model)),
        mem_mb=memory(16000),
        runtime=minutes(240),
    script:
        "../scripts/duplicates.py"


rule score_finetune:
    """The whole network, trained on shares of a dataset's labels."""
    input:
        unpack(own_images),
        code=code("score_finetune"),
        settings=recorded("score_finetune", finetune_settings),
        model=evaluated_model,
    output:
        result=f"{RESULTS}/finetune/{{model}}/{{dataset}}.json",
    log:
        f"{LOGS}/finetune/{{model}}/{{dataset}}.log",
    benchmark:
        f"{COSTS}/finetune/{{model}}/{{dataset}}.tsv"
    conda:
        "../../envs/genview.yaml"
    threads: cores("score_finetune", evaluation_gpus)
    resources:
        **gpus(evaluation_gpus),
        mem_mb=memory(32000),
        runtime=2880,
    params:
        work=f"{RESULTS}/finetune/{{model}}/.{{dataset}}",
    script:
        "../scripts/finetune.py"


rule score_detection:
    """Mask R-CNN with the run's encoder as its backbone."""
    input:
        code=code("score_detection"),
        settings=recorded("score_detection", detection_settings),
        model=evaluated_model,
    output:
        result=f"{RESULTS}/detection/{{model}}/{{dataset}}.json",
    log:
        f"{LOGS}/detection/{{model}}/{{dataset}}.log",
    benchmark:
        f"{COSTS}/detection/{{model}}/{{dataset}}.tsv"
    conda:
        "../../envs/genview.yaml"
    threads: cores("score_detection", evaluation_gpus)
    resources:
        **gpus(evaluation_gpus),
        mem_mb=memory(32000),
        runtime=2880,
    params:
        work=f"{RESULTS}/detection/{{model}}/.{{dataset}}",
    script:
        "../scripts/detection.py"


rule score_mmvp:
    """Pairs of images that differ in one attribute: how many are told apart by a statement of each."""
    input:
        code=code("score_mmvp"),
        settings=recorded("score_mmvp", mmvp_settings),
        model=evaluated_model,
    output:
        result=f"{RESULTS}/mmvp/{{model}}.json",
    log:
        f"{LOGS}/mmvp/{{model}}.log",
    benchmark:
        f"{COSTS}/mmvp/{{model}}.tsv"
    conda:
        "../../envs/genview.yaml"
    threads: 1
    resources:
        **gpus(evaluation_gpus),
        mem_mb=memory(16000),
        runtime=minutes(60),
    script:
        "../scripts/mmvp.py"


rule score_saliency:
    """TokenCut: is the object found by a cut of the patch tokens, without any training?"""
    input:
        code=code("score_saliency"),
        settings=recorded("score_saliency", saliency_settings),
        model=evaluated_model,
    output:
        result=f"{RESULTS}/saliency/{{model}}/{{dataset}}.json",
    log:
        f"{LOGS}/saliency/{{model}}/{{dataset}}.log",
    benchmark:
        f"{COSTS}/saliency/{{model}}/{{dataset}}.tsv"
    conda:
        "../../envs/genview.yaml"
    threads: 1
    resources:
        **gpus(evaluation_gpus),
        mem_mb=memory(16000),
        runtime=minutes(240),
    script:
        "../scripts/saliency.py"


rule score_video:
    """Label propagation: do masks travel through a video along similar patch tokens?"""
    input:
        code=code("score_video"),
        settings=recorded("score_video", video_settings),
        model=evaluated_model,
    output:
        result=f"{RESULTS}/video/{{model}}/{{dataset}}.json",
    log:
        f"{LOGS}/video/{{model}}/{{dataset}}.log",
    benchmark:
        f"{COSTS}/video/{{model}}/{{dataset}}.tsv"
    conda:
        "../../envs/genview.yaml"
    threads: 1
    resources:
        **gpus(evaluation_gpus),
        mem_mb=memory(16000),
        runtime=minutes(240),
    script:
        "../scripts/video.py"
