"""Models that follow from a run and are evaluated like one: kept epochs, weights between its beginning and its end."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple


class Derived(NamedTuple):
    """Such a model."""

    run: str
    kind: Literal["epoch", "interpolated"]
    value: int
    """The epoch; or the share of the way from the initial weights to the run's, in per cent."""


def name(model: Derived) -> str:
    """Under which name it is evaluated: ``RUN-epoch-5``, ``RUN-at-25``."""
    return f"{model.run}-{'epoch' if model.kind == 'epoch' else 'at'}-{model.value}"


def of(configuration: Mapping[str, Any]) -> dict[str, Derived]:
    """The models that a configuration, as plain values, asks to be evaluated, by name."""
    evaluation, runs = configuration["evaluation"], configuration["runs"]
    found = [
        Derived(run, "epoch", epoch)
        for run in evaluation.get("curve", ())
        for epoch in runs[run]["checkpoints"]["keep_epochs"]
        if epoch < runs[run]["epochs"]
    ]
    interpolate = evaluation.get("interpolate") or {"runs": (), "alphas": ()}
    found += [
        Derived(run, "interpolated", round(100 * alpha))
        for run in interpolate["runs"]
        for alpha in interpolate["alphas"]
    ]
    return {name(model): model for model in found}
