"""Training runs whose method and data do not go together."""

from collections.abc import Iterator

from genview.config.study import Study
from genview.preflight.problem import Problem
from genview.training.data import composition


def views(study: Study) -> Iterator[Problem]:
    """A sample gives a method more or fewer views than it can use."""
    for name, run in study.runs.items():
        least, most = run.method.views
        found = composition.views_per_sample(run.data)
        sizes = [augmentation.image_size for augmentation in composition.augmentations(run.data)]
        if run.method.name != "genviewpp" and len(set(sizes[:2])) > 1:
            yield Problem("training", f"runs.{name}.data.slots: the first two crops need one size (got {sizes[:2]})")
        if found < least or (most is not None and found > most):
            wanted = f"{least}" if most == least else f"at least {least}"
            yield Problem(
                "training",
                f"runs.{name}: method {run.method.name} needs {wanted} views of a sample, but its data give {found}; "
                "see data.views, data.include_original, data.choose and data.minimum_views",
            )
