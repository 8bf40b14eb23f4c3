# The study is in workflow/Snakefile; this one stands here so that `snakemake` finds it at the root.
include: "workflow/Snakefile"


workflow.default_target = "all"
