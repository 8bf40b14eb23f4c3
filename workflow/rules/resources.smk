# What jobs ask of a cluster. On one machine only the number of threads counts.
#
# Snakemake cuts `threads` to the cores of the machine where the command is typed, also for jobs that run elsewhere; a
# job that may need more than a login node has says so in `cpus_per_task`.

# What a training waits for, and the training, go before what only the report waits for: cores are not left idle at the
# end beside the last training.
SOON = 1

# A job that can save unfinished work is warned by SIGTERM, so many seconds before its time limit.
WARNED = "--signal=TERM@300"


def growing(amount):
    """So much in the first attempt, twice as much in the second: a job that was short of it passes in a retry."""

    def resource(wildcards, attempt):
        return amount * attempt

    return resource


def gpus_for(*models):
    """GPUs of a job that runs these models: one, or none where all are of the small family."""
    small = all(model is None or model.startswith("small/") for model in models)
    return 0 if small else 1


def encoder_gpus(wildcards):
    """GPUs of a job that runs the encoder that its path names."""
    return gpus_for(STUDY.encoders[wildcards.encoder].model)


def encoder_threads(wildcards):
    """Cores of a job that runs the encoder that its path names: a second one loads images, where that is worth it."""
    return 1 + encoder_gpus(wildcards)


def agreed(numbers, function):
    """The one number that all agree on: a function is asked for each of thousands of jobs."""
    return min(numbers) if len(numbers) == 1 else function


_ENCODERS = {gpus_for(encoder.model) for encoder in STUDY.encoders.values()}
ENCODER_GPUS = agreed(_ENCODERS, encoder_gpus)
ENCODER_THREADS = agreed({1 + gpus for gpus in _ENCODERS}, encoder_threads)


def view_gpus(wildcards):
    """GPUs of a job that generates views."""
    return gpus_for(STUDY.views[wildcards.view].model)


def audit_gpus(wildcards):
    """GPUs of the audit, which runs its encoders one after the other."""
    names = STUDY.audit.encoders or (STUDY.foreground.encoder,)
    return gpus_for(*(STUDY.encoders[name].model for name in names))


def run_gpus(wildcards):
    """GPUs per node of a training run, one for each process; the tiny architecture needs none."""
    run = STUDY.runs[wildcards.run]
    return 0 if run.model.architecture == "tiny" else run.gpus_per_node


def one_node_gpus(wildcards):
    """GPUs of a training run on one node."""
    return run_gpus(wildcards) if run_nodes(wildcards) == 1 else 0


def each_node_gpus(wildcards):
    """The same on several nodes, where SLURM would be free to spread a mere number unevenly."""
    each = run_gpus(wildcards) if run_nodes(wildcards) > 1 else 0
    return f"gpu:{each}" if each else None


def evaluation_gpus(wildcards):
    """GPUs of a job that evaluates a run or an encoder of the configuration."""
    if wildcards.model in STUDY.runs:
        tiny = STUDY.runs[wildcards.model].model.architecture == "tiny"
        return 0 if tiny else 1
    return gpus_for(STUDY.encoders[wildcards.model].model)
