"""The whole configuration of a study."""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field, model_validator

from genview import words
from genview.config import derived
from genview.config.base import Block, FilePath, Name, RuntimeOnly
from genview.config.cores import Cores
from genview.config.dataset import Dataset
from genview.config.encoders import Encoder
from genview.config.evaluation import Audit, Evaluation
from genview.config.foreground import Foreground, NoiseLevel, PrincipalComponent
from genview.config.guidance import Guidance
from genview.config.merge import merged
from genview.config.training import OtherRun, Run
from genview.config.views import ViewSet


class Study(Block):
    """A study: one dataset, encoders, sets of views, training runs, evaluations."""

    study: Name = "default"
    """Name of the study and of its folder of results."""
    results: FilePath = "results"
    """Folder of all studies' results."""
    seed: int = 42
    """Every random choice of the study is derived from it."""
    weights_lock: FilePath | None = None
    """File of revisions that pins the models of the hub (`genview fetch` writes it); null: whatever is in the cache."""
    confirm_hours: Annotated[float, RuntimeOnly] = Field(10.0, ge=0)
    """A start that would make again what took more hours stops before its first job and says what changed. Hours of
    the jobs by the clock, all attempts together, times their GPUs."""
    cores: Annotated[Cores, RuntimeOnly] = Cores()
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
        problems += [*self._wrong_starts(), *self._wrong_curves()]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _wrong_starts(self) -> Iterator[str]:
        for name, run in self.runs.items():
            where, given = f"runs.{name}.model.initial", run.model.initial
            if given is None and run.method.needs_initial:
                yield f"{where}: method {run.method.name} corrects an encoder that was trained before; say which"
            if isinstance(given, str) and given not in self.encoders:
                hint = f"; for a run, write {{run: {given}}}" if given in self.runs else ""
                yield f"{where}: no encoder {given!r}; there are {', '.join(sorted(self.encoders))}{hint}"
            if not isinstance(given, OtherRun) or given.study is not None:
                continue
            seen, other = [name], given.run
            while other in self.runs and other not in seen:
                seen.append(other)
                start = self.runs[other].model.initial
                other = start.run if isinstance(start, OtherRun) and start.study is None else None
            if other in seen:
                yield f"{where}: a circle: {' <- '.join([*seen, other])}"
            elif other is not None:
                yield f"{where}: no run {other!r}; there are {', '.join(sorted(self.runs))}"

    def encoders_used(self) -> dict[str, set[str]]:
        """Names of the block ``encoders`` that each stage uses, by the stage's name."""
        quality = {self.quality_encoder} if any(run.uses_quality for run in self.runs.values()) else set()
        return {
            "foreground": {self.foreground.encoder},
            "audit": set(self.audit.encoders),
            "training": quality,
            "evaluation": set(self.evaluation.encoders),
        }

    def _wrong_curves(self) -> Iterator[str]:
        asked = [("curve", name) for name in self.evaluation.curve]
        if self.evaluation.interpolate:
            asked += [("interpolate.runs", name) for name in self.evaluation.interpolate.runs]
        for where, name in asked:
            run = self.runs.get(name)
            if run is None:
                near = words.nearest(name, self.runs) or f"; there are {', '.join(sorted(self.runs)) or 'none'}"
                yield f"evaluation.{where}: no run {name!r}{near}"
            elif where == "curve" and not run.checkpoints.keep_epochs:
                yield f"evaluation.curve: {name} keeps no epoch; say which in runs.{name}.checkpoints.keep_epochs"
            elif where == "interpolate.runs" and run.model.initial is None:
                yield f"evaluation.interpolate.runs: {name} began at random weights; it has no model.initial"
        if not any(name not in self.runs for _, name in asked):
            for name in sorted(self.derived().keys() & {*self.runs, *self.encoders}):
                yield f"evaluation: {name!r} is a run or an encoder, and what is derived of another run; rename it"

    def initial(self, run: str) -> Encoder | str | None:
        """Where a run's weights come from: an encoder, the name of another run of this study, or nowhere (a seed)."""
        given = self.runs[run].model.initial
        if isinstance(given, str):
            return self.encoders[given]
        if isinstance(given, OtherRun):
            if given.study is None:
                return given.run
            return Encoder(model=f"{given.study}/runs/{given.run}/model")
        return given

    def has_text(self, run: str) -> bool:
        """Whether a run's model has a text tower: its own, or one that it keeps of its initial weights."""
        if self.runs[run].uses_text:
            return True
        initial = self.initial(run)
        return self.has_text(initial) if isinstance(initial, str) else bool(initial and initial.has_text)

    def before(self, run: str) -> str | None:
        """Under which name the weights that a run starts from are evaluated: an encoder's, a run's, ``RUN-before``."""
        given, initial = self.runs[run].model.initial, self.initial(run)
        if isinstance(given, str) or isinstance(initial, str):
            return given if isinstance(given, str) else initial
        return f"{run}-before" if initial else None

    def encoder(self, name: str) -> Encoder | None:
        """The encoder that is evaluated under a name; None: there is none."""
        if name in self.encoders:
            return self.encoders[name]
        return next(
            (self.initial(run) for run in self.runs if self.before(run) == name and name not in self.runs), None
        )

    def evaluated(self) -> dict[str, bool]:
        """What is evaluated by name, encoders before runs: whether it has a text tower.

        The encoders that runs start from are among them: the row *before*.
        """
        before = [name for run in self.runs if (name := self.before(run)) and name not in self.runs]
        encoders = {name: self.encoder(name).has_text for name in [*self.evaluation.encoders, *before]}
        follow = {name: self.has_text(model.run) for name, model in self.derived().items()}
        return encoders | {name: self.has_text(name) for name in self.runs} | follow

    def derived(self) -> dict[str, derived.Derived]:
        """Models that follow from a run and are evaluated like one, by name."""
        return derived.of(
            {
                "evaluation": self.evaluation.model_dump(include={"curve", "interpolate"}),
                "runs": {
                    name: run.model_dump(include={"epochs": True, "checkpoints": {"keep_epochs"}})
                    for name, run in self.runs.items()
                },
            }
        )
