include: "foreground_inputs.smk"


rule sample_features:
    """Patch tokens of a seeded sample of images; dropped once the component is fitted."""
    input:
        code=code("sample_features"),
        settings=recorded("sample_features", sample_settings),
        # A collection that grows keeps its component, or no score of an image that was there would stand.
        manifest=unless_own_changed("sample_features", MANIFEST),
        images=unless_own_changed("sample_features", PACKED),
    output:
        tokens=temp(
            expand(
                f"{FOREGROUND}/{{{{encoder}}}}/tokens/{{part}}-of-{SAMPLE_FILES}.npy",
                part=range(SAMPLE_FILES),
            )
        ),
        images=f"{FOREGROUND}/{{encoder}}/sample_images.safetensors",
    log:
        f"{LOGS}/foreground/{{encoder}}/sample_features.log",
    benchmark:
        f"{COSTS}/foreground/{{encoder}}/sample_features.tsv"
    priority: SOON
    conda:
        "../../envs/genview.yaml"
    threads: cores("sample_features", ENCODER_GPUS)
    resources:
        **gpus(ENCODER_GPUS),
        mem_mb=memory(16000),
        runtime=minutes(120),
    script:
        "../scripts/sample_features.py"


rule component:
    """Fit the first principal component of the sample's tokens, and project them on it."""
    input:
        code=code("component"),
        settings=recorded("component", component_settings),
        manifest=unless_own_changed("component", MANIFEST),
        vector=given("vector", STUDY.pca.vector),
        tokens=rules.sample_features.output.tokens,
        images=rules.sample_features.output.images,
    output:
        component=f"{FOREGROUND}/{{encoder}}/component.safetensors",
        scores=f"{FOREGROUND}/{{encoder}}/sample_scores.safetensors",
    log:
        f"{LOGS}/foreground/{{encoder}}/component.log",
    benchmark:
        f"{COSTS}/foreground/{{encoder}}/component.tsv"
    priority: SOON
    conda:
        "../../envs/genview.yaml"
    threads: 1 if ENCODER_GPUS == 0 else 8
    resources:
        mem_mb=memory(4000),
        runtime=minutes(60),
    script:
        "../scripts/component.py"


rule orient_pca:
    """Decide which side of the component is foreground, and the threshold; draw masks and maps."""
    input:
        code=code("orient_pca"),
        settings=recorded("orient_pca", pca=CHOICE, study=STUDY.study),
        manifest=unless_own_changed("orient_pca", MANIFEST),
        component=rules.component.output.component,
        scores=rules.component.output.scores,
        images=rules.sample_features.output.images,
    output:
        pca=f"{FOREGROUND}/{{encoder}}/pca.safetensors",
        summary=f"{FOREGROUND}/{{encoder}}/pca.json",
        histogram=report(
            f"{FOREGROUND}/{{encoder}}/histogram.png",
            category="foreground",
            labels={"encoder": "{encoder}", "figure": "token scores and threshold"},
        ),
        masks=report(
            f"{FOREGROUND}/{{encoder}}/masks.png",
            category="foreground",
            labels={"encoder": "{encoder}", "figure": "images, maps and masks"},
        ),
    log:
        f"{LOGS}/foreground/{{encoder}}/pca.log",
    benchmark:
        f"{COSTS}/foreground/{{encoder}}/pca.tsv"
    priority: SOON
    localrule: True
    conda:
        "../../envs/genview.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=minutes(30),
    script:
        "../scripts/pca.py"


rule token_scores:
    """Encode a group of shards: per image the projection of each token, and the image embedding."""
    input:
        code=code("token_scores"),
        settings=recorded("token_scores", encoder_settings),
        manifest=MANIFEST,
        images=PACKED,
        component=rules.component.output.component,
    output:
        scores=f"{FOREGROUND}/{{encoder}}/scores/{{group}}.parquet",
    log:
        f"{LOGS}/foreground/{{encoder}}/scores/{{group}}.log",
    benchmark:
        f"{COSTS}/foreground/{{encoder}}/scores/{{group}}.tsv"
    priority: SOON
    conda:
        "../../envs/genview.yaml"
    threads: cores("token_scores", ENCODER_GPUS)
    resources:
        **gpus(ENCODER_GPUS),
        mem_mb=memory(16000),
        runtime=minutes(240),
    script:
        "../scripts/token_scores.py"


if STUDY.foreground.given:

    rule foreground_ratio:
        """Foreground ratios from a file in the published form."""
        input:
            code=code("foreground_ratio"),
            settings=recorded(
                "foreground_ratio",
                dataset=IMAGES,
                given=STUDY.foreground.given,
                study=STUDY.study,
            ),
            given=given("foreground_ratio", STUDY.foreground.given),
        output:
            ratio=f"{MEASURING}/foreground_ratio.parquet",
        log:
            f"{LOGS}/foreground/foreground_ratio.log",
        benchmark:
            f"{COSTS}/foreground/foreground_ratio.tsv"
        priority: SOON
        localrule: True
        conda:
            "../../envs/genview.yaml"
        threads: 1
        resources:
            mem_mb=memory(4000),
            runtime=minutes(30),
        script:
            "../scripts/given_foreground_ratio.py"

else:

    rule foreground_ratio:
        """Share of each image's tokens above the threshold."""
        input:
            code=code("foreground_ratio"),
            settings=recorded("foreground_ratio", study=STUDY.study),
            scores=SCORES,
            pca=f"{MEASURING}/pca.safetensors",
        output:
            ratio=f"{MEASURING}/foreground_ratio.parquet",
        log:
            f"{LOGS}/foreground/foreground_ratio.log",
        benchmark:
            f"{COSTS}/foreground/foreground_ratio.tsv"
        priority: SOON
        localrule: True
        conda:
            "../../envs/genview.yaml"
        threads: 1
        resources:
            mem_mb=memory(4000),
            runtime=minutes(30),
        script:
            "../scripts/foreground_ratio.py"


rule token_cut:
    """Some images divided by TokenCut too: a second opinion on their foreground."""
    input:
        code=code("token_cut"),
        settings=recorded("token_cut", cut_settings),
        manifest=MANIFEST,
        images=PACKED,
        ratios=f"{FOREGROUND}/{{encoder}}/foreground_ratio.parquet",
    output:
        cuts=f"{FOREGROUND}/{{encoder}}/token_cut.parquet",
    log:
        f"{LOGS}/foreground/{{encoder}}/token_cut.log",
    benchmark:
        f"{COSTS}/foreground/{{encoder}}/token_cut.tsv"
    conda:
        "../../envs/genview.yaml"
    threads: cores("token_cut", ENCODER_GPUS)
    resources:
        **gpus(ENCODER_GPUS),
        mem_mb=memory(16000),
        runtime=minutes(60),
    script:
        "../scripts/token_cut.py"
