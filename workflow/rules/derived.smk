# Models that follow from a run without further training; their folders stand among those of the runs.


include: "derived_inputs.smk"


ruleorder: interpolate > train
ruleorder: kept_epoch > train


rule interpolate:
    """Weights on the way from a run's initial ones to its own: a share in per cent."""
    input:
        code=code("interpolate"),
        settings=recorded("interpolate", interpolated_settings),
        initial=run_initial,
        model=f"{RESULTS}/runs/{{run}}/model",
    output:
        model=directory(f"{RESULTS}/runs/{{run}}-at-{{percent}}/model"),
    log:
        f"{LOGS}/derived/{{run}}-at-{{percent}}.log",
    benchmark:
        f"{COSTS}/derived/{{run}}-at-{{percent}}.tsv"
    wildcard_constraints:
        run=ANY_RUN,
        percent=r"\d+",
    conda:
        "../../envs/genview.yaml"
    threads: 1
    resources:
        mem_mb=memory(16000),
        runtime=minutes(30),
    script:
        "../scripts/interpolate.py"


rule kept_epoch:
    """A run's model as it was after an epoch whose checkpoint was kept."""
    input:
        code=code("kept_epoch"),
        model=f"{RESULTS}/runs/{{run}}/model",
    output:
        model=directory(f"{RESULTS}/runs/{{run}}-epoch-{{epoch}}/model"),
    log:
        f"{LOGS}/derived/{{run}}-epoch-{{epoch}}.log",
    benchmark:
        f"{COSTS}/derived/{{run}}-epoch-{{epoch}}.tsv"
    wildcard_constraints:
        run=ANY_RUN,
        epoch=r"\d+",
    conda:
        "../../envs/genview.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=minutes(30),
    script:
        "../scripts/kept_epoch.py"
