# What is looked at before the first job: that what was asked for exists, and that nothing will stop it later.

import os
import sys
from functools import cache
from pathlib import Path

from snakemake.cli import get_argument_parser
from snakemake.io import strip_wildcard_constraints

from genview import costs, targets
from genview.errors import GenviewError
from genview.evaluation import catalogue
from snakemake_logger_plugin_genview import reasons

# What brings a shard up to date: of a collection that grew, it takes what is there and computes what is new.
UPDATED = {"token_scores", "guidance_score", "generate_views", "quality_features"}
GROWN = "the collection"


def remade(dag):
    """The jobs that would make again what is there, and the changes that lead to it."""

    def own(job):
        """What of a job's own inputs has changed, in words."""
        reason = dag.reason(job)
        if reason.forced:
            return {GROWN if job.rule.name == "manifest" else f"{job.rule.name} forced"}
        changed = [str(file) for file in reason.updated_input]
        found = {file for file in changed if not file.startswith(f"{RESULTS}/")}
        for file in set(changed) - found:
            if file.startswith(f"{RESULTS}/files/collection/"):
                found.add(GROWN)
            elif told := reasons.changed_record(file, job.output):
                found.add(told)
        return found

    @cache
    def causes(job):
        before = [other for other in dag.dependencies[job] if dag.needrun(other)]
        return frozenset(own(job)).union(*map(causes, before))

    for job in dag.needrun_jobs():
        if dag.reason(job).forced or not any(
            Path(file).exists() for file in job.output
        ):
            continue
        took = costs.hours(RESULTS, next(iter(job.log), None), job.benchmark)
        found = causes(job)
        grown = job.rule.name in UPDATED and found == {GROWN}
        code = any("/code/" in str(file) for file in dag.reason(job).updated_input)
        yield costs.Remade(
            job.rule.name, tuple(sorted(found)), 0 if grown else took, code
        )


def check_before_start(dag):
    """Stop, before the first job, with a list of everything that would stop the stages that are to run."""
    from genview import cluster, preflight

    if dag.workflow.touch:  # --touch runs nothing
        return
    stages = {Path(job.rule.snakefile).stem for job in dag.needrun_jobs()}
    try:
        cluster.refuse_doubles(Path.cwd(), RESULTS)
        here = dag.workflow.local_exec
        gpus = share_gpus() if here else None
        preflight.require(STUDY, stages, elsewhere=not here, gpus=gpus)
        if not here:
            check_cluster(dag.needrun_jobs())
        if why := costs.objection(list(remade(dag)), STUDY.confirm_hours):
            raise GenviewError(why)
    except GenviewError as error:
        raise WorkflowError(str(error)) from None


def tell_report(dag):
    """Say where the report is, if what was asked for has one."""
    page = Path(RESULTS, "report.html")
    if page.is_file() and any(job.rule.name == "report" for job in dag.jobs):
        # In one piece: the terminal's own lines come from another thread.
        sys.stderr.write(f"The report: {page.resolve()}\n")


def check_targets(rules):
    """Stop if the command line asks for a path or a stage that the study does not have, and say what there is.

    Snakemake itself would say that no rule makes the file. What was asked for is not yet known to the workflow when
    the rules are read, so it is taken from the command line, with Snakemake's own parser.
    """
    if (
        Path(sys.argv[0]).name != "snakemake"
        and Path(sys.argv[0]).parent.name != "snakemake"
    ):
        return
    asked = get_argument_parser().parse_known_args(sys.argv[1:])[0].targets
    asked = [target for target in asked if not Path(target).exists()]
    if not asked:
        return
    names = {
        name
        for block in (
            "probe",
            "parts",
            "zeroshot",
            "retrieval",
            "finetune",
            "detection",
            "saliency",
            "video",
        )
        for name in getattr(STUDY.evaluation, block).datasets
    }
    values = {
        "study": [STUDY.study],
        "encoder": STUDY.encoders,
        "view": STUDY.views,
        "run": STUDY.runs,
        "model": sorted({*STUDY.runs, *STUDY.encoders, *STUDY.evaluated()}),
        "shard": SHARDS,
        "group": GROUPS,
        "dataset": sorted(
            map(
                catalogue.file_name,
                {*catalogue.ENTRIES, *STUDY.evaluation.datasets, *names},
            )
        ),
        "part": ["judge", "clip", "autoencoder", "unet"],
    }
    stages = [rule.name for rule in rules if not rule.has_wildcards()]
    in_study = f"{STUDY.results}/{{study}}/"
    files = [
        strip_wildcard_constraints(file).replace(f"{RESULTS}/", in_study, 1)
        for rule in rules
        for file in rule.output
    ]
    wrong = [
        why
        for target in asked
        if (why := targets.explain(os.path.normpath(target), [*stages, *files], values))
    ]
    if wrong:
        raise WorkflowError("\n".join(wrong))
