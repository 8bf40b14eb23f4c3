"""The whole configuration of a study."""

from typing import Any

from pydantic import model_validator

from genview.config.base import Block, FilePath, Name
from genview.config.dataset import Dataset
from genview.config.encoders import Encoder
from genview.config.evaluation import Audit, Evaluation
from genview.config.foreground import Foreground, NoiseLevel, PrincipalComponent
from genview.config.guidance import Guidance
from genview.config.training import Run
from genview.config.views import ViewSet


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """``base`` with the values of ``over``, mapping by mapping; null removes a mapping of ``base``.

    A run's choice of views replaces the inherited one as a whole: it is one decision, not several.
    """
    result = dict(base)
    for key, value in over.items():
        inherited = result.get(key)
        if isinstance(inherited, dict) and value is None:
            del result[key]
        elif isinstance(inherited, dict) and isinstance(value, dict) and not _choice_of_views(key, inherited):
            result[key] = merged(inherited, value)
        else:
            result[key] = value
    return result


def _choice_of_views(key: str, inherited: dict[str, Any]) -> bool:
    return key == "views" and not any(isinstance(value, dict) for value in inherited.values())


class Study(Block):
    """A study: one dataset, encoders, sets of views, training runs, evaluations."""

    study: Name = "default"
    """Name of the study and of its folder of results."""
    results: FilePath = "results"
    """Folder of all studies' results."""
    seed: int = 42
    """Every choice of chance in the study is derived from it."""
    dataset: Dataset = Dataset()
    encoders: dict[Name, Encoder] = {"small": Encoder()}
    pca: PrincipalComponent = PrincipalComponent()
    foreground: Foreground = Foreground()
    noise_level: NoiseLevel = NoiseLevel()
    guidance: Guidance = Guidance()
    views: dict[Name, ViewSet] = {}
    audit: Audit = Audit()
    quality_encoder: str = "small"
    """The encoder of the quality weights; a name of the block ``encoders``."""
    training: dict[str, Any] = {}
    """What every run has unless it says otherwise; same keys as a run."""
    runs: dict[Name, Run] = {}
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="before")
    @classmethod
    def _runs_inherit(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("runs"), dict):
            shared = values.get("training") or {}
            values = {
                **values,
                "runs": {name: merged(shared, run or {}) for name, run in values["runs"].items()},
            }
        return values

    @model_validator(mode="after")
    def _names_exist(self) -> "Study":
        problems = []
        for where, name in [
            ("foreground.encoder", self.foreground.encoder),
            ("quality_encoder", self.quality_encoder),
            *(("audit.encoders", name) for name in self.audit.encoders),
            *(("evaluation.encoders", name) for name in self.evaluation.encoders),
        ]:
            if name not in self.encoders:
                problems.append(f"{where}: no encoder {name!r}; there are {', '.join(sorted(self.encoders))}")
        for name in sorted(self.runs.keys() & set(self.evaluation.encoders)):
            problems.append(f"evaluation.encoders: {name!r} is a run, too, and results are kept by name; rename one")
        for run_name, run in self.runs.items():
            for view in run.data.views:
                if view not in self.views:
                    known = ", ".join(sorted(self.views)) or "none"
                    problems.append(f"runs.{run_name}.data.views: no view set {view!r}; there are {known}")
            for view in run.data.always:
                if view not in run.data.views:
                    problems.append(f"runs.{run_name}.data.always: {view!r} is not among the run's views")
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def evaluated(self) -> dict[str, bool]:
        """What is evaluated by name, encoders before runs: whether it has a text tower."""
        encoders = {name: self.encoders[name].library == "open_clip" for name in self.evaluation.encoders}
        return encoders | {name: run.uses_text for name, run in self.runs.items()}
