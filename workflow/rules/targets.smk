# Stages by name: `snakemake pca`, `snakemake views`, `snakemake probes` make that stage and what it needs.


rule pca:
    input:
        f"{FOREGROUND}/{STUDY.foreground.encoder}/pca.json",


rule foreground:
    input:
        f"{FOREGROUND}/{STUDY.foreground.encoder}/foreground_ratio.parquet",


rule views:
    input:
        measured()["views"],


rule audits:
    input:
        measured()["audits"],


rule runs:
    input:
        measured()["runs"],


rule probes:
    input:
        measured()["probes"],


rule parts:
    input:
        measured()["parts"],


rule zeroshot:
    input:
        measured()["zeroshot"],


rule retrieval:
    input:
        measured()["retrieval"],


rule finetune:
    input:
        measured()["finetune"],


rule detection:
    input:
        measured()["detection"],


rule saliency:
    input:
        measured()["saliency"],


rule video:
    input:
        measured()["video"],


rule mmvp:
    input:
        measured()["mmvp"],


rule duplicates:
    input:
        measured()["duplicates"],
