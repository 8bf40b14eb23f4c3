# What a run's encoder learns anew: the whole network on few labels.


def finetune_settings(wildcards):
    """Where the dataset is, how images are read, and the protocol; which datasets there are re-runs no other."""
    return {
        **dataset_settings(wildcards),
        **settings(
            features=EVALUATION.features,
            finetune=EVALUATION.finetune.model_dump(mode="json", exclude={"datasets"}),
        ),
    }


rule score_finetune:
    """The whole network, trained on shares of a dataset's labels."""
    input:
        unpack(own_images),
        code=code("genview.evaluation.finetune", script="finetune"),
        settings=recorded("finetune", finetune_settings),
        model=evaluated_model,
    output:
        result=f"{RESULTS}/finetune/{{model}}/{{dataset}}.json",
    log:
        f"{LOGS}/finetune/{{model}}/{{dataset}}.log",
    benchmark:
        f"{COSTS}/finetune/{{model}}/{{dataset}}.tsv"
    conda:
        "../../envs/evaluation.yaml"
    threads: 1
    resources:
        mem_mb=growing(32000),
        runtime=2880,
        gpu=evaluation_gpus,
    params:
        work=f"{RESULTS}/finetune/{{model}}/.{{dataset}}",
    script:
        "../scripts/finetune.py"
