"""What would stop a study later, found before anything is computed, without any network.

Each check belongs to a stage, named as its rules' file, so that a run that needs only some stages is not kept by
others. Nothing heavy is imported but the library of an encoder that is named by its architecture: only the library
knows which names and tags there are.
"""

from collections.abc import Callable, Collection, Iterator

from genview.config.study import Study
from genview.errors import GenviewError
from genview.preflight import collection, evaluation, machine, runs, weights
from genview.preflight.problem import EVERY_STAGE, Problem
from genview.report import wording

CHECKS: tuple[Callable[..., Iterator[Problem]], ...] = (
    machine.results,
    collection.paths,
    collection.captions,
    weights.locked,
    weights.present,
    collection.given,
    weights.architectures,
    machine.batches,
    runs.views,
    machine.space,
    evaluation.datasets,
    evaluation.detections,
    evaluation.masked,
    evaluation.mmvp,
    machine.processors,
)


def problems(study: Study, *, without: Collection[Callable] = (), gpus: int | None = None) -> list[Problem]:
    """Everything that would stop the study, in the order of its stages."""
    found: list[Problem] = []
    for check in CHECKS:
        if check not in without:
            found.extend(check(study, gpus) if check is machine.processors else check(study))
    return found


def require(study: Study, stages: set[str] | None = None, *, elsewhere: bool = False, gpus: int | None = None) -> None:
    """Stop with one message that lists everything wrong.

    Args:
        study: the study.
        stages: the stages that are going to run; None: all.
        elsewhere: jobs run on other machines, so that the GPUs of this one do not count.
        gpus: how many the jobs of this machine may use; None: all that it has.

    Raises:
        GenviewError: there is a problem in one of the stages.
    """
    wanted = None if stages is None else {*stages, EVERY_STAGE}
    found = problems(study, without=(machine.processors,) if elsewhere else (), gpus=gpus)
    found = [problem for problem in found if wanted is None or problem.stage in wanted]
    if found:
        lines = "\n".join(f"  - {problem.stage}: {problem.text}" for problem in found)
        raise GenviewError(f"the study {study.study!r} cannot run, {wording.plural(len(found), 'problem')}:\n{lines}")
