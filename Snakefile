# The study, top to bottom, in the order of the data.

from snakemake.utils import min_version

min_version("9.27")


# A study given by --configfile stands alone, or says which one it `extends`. Jobs of a cluster read no profile, so
# what they read must not depend on one.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/foreground.smk"
include: "workflow/rules/guidance.smk"
include: "workflow/rules/conditions.smk"
include: "workflow/rules/generation.smk"
include: "workflow/rules/audit.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/targets.smk"
include: "workflow/rules/checks.smk"


# No study asks for the recipes: a copy of the workflow without them is a whole one.
if Path("recipes").is_dir():

    include: "workflow/rules/small_models.smk"


rule all:
    default_target: True
    input:
        f"{RESULTS}/report.html",


check_targets(workflow.rules)


onstart:
    check_before_start(workflow.dag)
