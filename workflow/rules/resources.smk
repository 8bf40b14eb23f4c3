# What jobs ask of a cluster, and how they share the GPUs of one machine. On one machine only threads and GPUs count.
#
# Snakemake cuts `threads` to the cores of the machine where the command is typed, also for jobs that run elsewhere; a
# job that may need more than a login node has says so in `cpus_per_task`.

import ast
import inspect
import os
import re

from genview import attempts, partition, shared_gpus


def of_every_shard(function):
    """A function of the wildcards that is asked for thousands of jobs: Snakemake looks its parameters up each time."""
    function.__signature__ = inspect.signature(function)
    return function


# What a training waits for, and the training, go before what only the report waits for: cores are not left idle at the
# end beside the last training.
SOON = 1


def site(name, rule=None):
    """What the site's own file or the command line says of a resource, for one rule or for all; None if nothing."""
    for given in (
        workflow.resource_settings.overwrite_resources.get(rule),
        workflow.resource_settings.default_resources,
    ):
        value = (given or {}).get(name)
        value = getattr(value, "raw", value)
        if value is None:
            continue
        try:
            return ast.literal_eval(value) if isinstance(value, str) else value
        except (SyntaxError, ValueError):
            return value
    return None


# Seconds before its time limit at which a job that can save unfinished work is told so, by SIGTERM.
WARNING = 300


def warned(rule):
    """`slurm_extra` of jobs that can save, which is the site's own options, if any, and the warning.

    Snakemake replaces a site's options by a rule's, and a rule's by --set-resources, instead of joining them.
    """
    options = [site("slurm_extra", rule), f"--signal=TERM@{WARNING}"]
    if "--signal" in str(options[0]):
        options.pop()
    joined = " ".join(filter(None, options))
    parsed = workflow.resource_settings._parsed_overwrite_resources.get(rule)
    if parsed is not None and "slurm_extra" in parsed:
        parsed["slurm_extra"] = joined
    return joined


def memory(amount):
    """Memory in MB, a number or a function of the wildcards; a job that ran out of it is given more in the retry."""
    return growing(amount, "memory")


def minutes(amount):
    """Time in minutes; a job that met its limit is given more in the retry."""
    return growing(amount, "time")


def growing(amount, short_of):
    """Once more the first amount for each earlier attempt that fell short of it, up to what the partition has."""

    @of_every_shard
    def resource(wildcards, attempt, rulename):
        first = amount(wildcards) if callable(amount) else amount
        if attempt == 1:
            return first
        wanted = first * (1 + shortages(rulename, wildcards, attempt, short_of))
        most = partition.limits(site("slurm_partition", rulename))
        if most is None or not workflow.is_main_process:
            return wanted
        most = most.memory_mb if short_of == "memory" else most.minutes
        return wanted if most is None else max(first, min(wanted, most))

    return resource


def shortages(rule, wildcards, attempt, short_of):
    """How many of a job's earlier attempts fell short of memory or time; a failure without a reason counts as both."""
    if workflow.local_exec or not workflow.is_main_process:
        return attempt - 1
    logs = getattr(workflow.executor_settings, "logdir", None)
    job = "_".join(wildcards).replace(os.sep, "_")
    folder = Path(logs or ".snakemake/slurm_logs") / f"rule_{rule}" / job
    found = attempts.reasons(folder, workflow.start_time.timestamp())
    unknown = attempt - 1 - sum(found[name] for name in ("time", "memory", "node"))
    return found[short_of] + max(0, unknown)


# Some clusters take GPUs under a name of their own (`--gres=gpu:a100:1`) and refuse a mere number of them.
GRES = site("gpu_gres")


def gpus(amount):
    """The resource that stands for a job's GPUs, a number or a function of its wildcards.

    On one machine the workflow counts `gpu`; so does a cluster, unless the site has set `gpu_gres`.
    """
    if not GRES:
        return {"gpu": amount}

    def gres(wildcards):
        each = amount(wildcards) if callable(amount) else amount
        return f"{GRES}:{each}" if each else None

    return {"gres": gres, "tasks_per_gpu": 0}


def share_gpus():
    """Start at most as many GPU jobs at once as this machine has GPUs, and let each claim its own; returns how many.

    Not at parsing, when it is not yet known whether jobs run here; and a limit that is known then would silently cut
    down a job that asks for more.
    """
    if GRES:
        raise GenviewError("gpu_gres is a setting of clusters, and these jobs run here")
    there = shared_gpus.visible()
    limit = workflow.global_resources.get("gpu").value
    if there and limit == 0:
        raise GenviewError(
            "a limit of 0 GPUs would be none: set CUDA_VISIBLE_DEVICES to nothing to run without them"
        )
    shared_gpus.share(there)
    if not there:
        return 0
    if limit is None:
        for counted in (
            workflow.scheduler.global_resources,
            workflow.scheduler.resources,
        ):
            counted["gpu"] = len(there)
    return min(len(there), len(there) if limit is None else limit)


def check_cluster(jobs):
    """Stop if a job asks for what its partition does not have: it would fail at its turn, or wait for ever."""
    from snakemake_executor_plugin_slurm.validation import validate_slurm_extra

    found = {}
    for job in jobs:
        if job.is_local:
            continue
        asked = job.resources
        validate_slurm_extra(job)
        if asked.get("gpu") and "gpu" in (asked.get("gres") or ""):
            raise GenviewError(
                f"{job.rule.name} asks for GPUs twice (gpu, gres): set default-resources gpu_gres, not gres"
            )
        each = asked.get("gpu") or int(
            (re.findall(r"gpu\S*:(\d+)", asked.get("gres") or "") or [0])[-1]
        )
        cores = asked.get("cpus_per_task") or job.threads * max(each, 1)
        key = (job.rule.name, asked.get("slurm_partition"))
        why = partition.excess(
            key[1],
            cores=cores,
            memory_mb=asked.get("mem_mb") or 0,
            gpus=each,
            time=asked.get("runtime") or 0,
        )
        if why:
            found[key] = why
    if found:
        lines = [
            f"  - {rule}, in {where or 'the default partition'}: {', '.join(why)}"
            for (rule, where), why in found.items()
        ]
        raise GenviewError(
            "jobs ask for more than any node of their partition has:\n"
            + "\n".join(lines)
            + "\nName another partition, or ask for less, in the site's own file (set-resources: RULE: {mem_mb: ...})"
        )


def gpus_for(*models):
    """GPUs of a job that runs these models: one, or none where all are of the small family."""
    small = all(model is None or model.startswith("small/") for model in models)
    return 0 if small else 1


def encoder_gpus(wildcards):
    """GPUs of a job that runs the encoder that its path names."""
    return gpus_for(STUDY.encoders[wildcards.encoder].model)


def cores(rule_name, gpus_of):
    """Cores of a rule's jobs: those of the block `cores` where they use a GPU, else one.

    Where Snakemake is told how many cores there are, the GPUs of this machine share them, two each at least.
    """
    number = getattr(STUDY.cores, rule_name)
    given = workflow.resource_settings.cores
    if isinstance(given, int):
        number = min(number, max(given // max(len(shared_gpus.visible()), 1), 2))
    if callable(gpus_of):
        return lambda wildcards: number if gpus_of(wildcards) else 1
    return number if gpus_of else 1


def agreed(numbers, function):
    """The one number that all agree on: a function is asked for each of thousands of jobs."""
    return min(numbers) if len(numbers) == 1 else function


_ENCODERS = {gpus_for(encoder.model) for encoder in STUDY.encoders.values()}
ENCODER_GPUS = agreed(_ENCODERS, encoder_gpus)


def view_gpus(wildcards):
    """GPUs of a job that generates views."""
    return gpus_for(STUDY.views[wildcards.view].model)


VIEW_GPUS = agreed({gpus_for(view.model) for view in STUDY.views.values()}, view_gpus)


_AUDITORS = STUDY.audit.encoders or (STUDY.foreground.encoder,)
AUDIT_GPUS = gpus_for(*(STUDY.encoders[name].model for name in _AUDITORS))


def run_gpus(wildcards):
    """GPUs per node of a training run, one for each process."""
    return STUDY.runs[wildcards.run].gpus


def run_memory(wildcards):
    """Memory of a training in MB on each node: each GPU has a process of its own with its loaders."""
    return 16000 * max(run_gpus(wildcards), 1)


def training_gpus():
    """GPUs of a training; on several nodes SLURM would be free to spread a mere number unevenly."""
    if GRES:
        return gpus(run_gpus)

    def one_node(wildcards):
        return run_gpus(wildcards) if run_nodes(wildcards) == 1 else 0

    def each_node(wildcards):
        each = run_gpus(wildcards) if run_nodes(wildcards) > 1 else 0
        return f"gpu:{each}" if each else None

    return {"gpu": one_node, "gres": each_node, "tasks_per_gpu": 0}


def evaluation_gpus(wildcards):
    """GPUs of a job that evaluates a run, a model of one, or an encoder of the configuration."""
    name = wildcards.model
    run = DERIVED[name].run if name in DERIVED else name
    if run in STUDY.runs:
        return 0 if STUDY.runs[run].model.architecture == "tiny" else 1
    return gpus_for(STUDY.encoder(wildcards.model).model)
