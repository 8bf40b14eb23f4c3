"""Every dataset of a study's evaluation, by its name: the configuration's own first, then the table's."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genview.config.dataset import Dataset
from genview.config.evaluation import LocalDataset
from genview.evaluation import catalogue, local, official, third_party
from genview.evaluation.splits import LabelledDataset, Purpose


@dataclass(frozen=True)
class Request:
    """Which dataset is wanted, and where it is found.

    Attributes:
        name: its name.
        block: its block in ``evaluation.datasets``; None: a dataset of ``genview.evaluation.catalogue``.
        root: folder of torchvision's datasets.
        download: let torchvision fetch what is missing.
        seed: of every drawn part.
        source: the study's own dataset, for ``own_labels``.
        manifest: the study's manifest, for ``own_labels``.
        purpose: what the study uses it for first, where one opening serves several uses.
    """

    name: str
    block: LocalDataset | None = None
    root: str | Path = "datasets"
    download: bool = False
    seed: int = 0
    source: Dataset | None = None
    manifest: str | Path | None = None
    purpose: Purpose = "probe"

    @classmethod
    def of_rule(cls, settings: dict[str, Any], manifest: str | Path | None = None) -> "Request":
        """From the parameters of a rule (``workflow/rules/evaluation_inputs.smk``)."""
        block, source = settings["block"], settings["source"]
        return cls(
            name=settings["dataset"],
            block=LocalDataset.model_validate(block) if block else None,
            root=settings["root"],
            download=settings["download"],
            seed=settings["seed"],
            source=Dataset.model_validate(source) if source else None,
            manifest=manifest,
            purpose=settings.get("purpose", "probe"),
        )

    def load(self, purpose: Purpose = "probe") -> LabelledDataset:
        """Open the dataset.

        Args:
            purpose: what for; a set for retrieval needs no labels, one for zero-shot classification no training part.

        Raises:
            GenviewError: unknown, missing or incomplete; says what to do.
        """
        if self.block is not None:
            return local.load(
                self.name,
                self.block,
                seed=self.seed,
                source=self.source,
                manifest_path=self.manifest,
                purpose=purpose,
            )
        if self.name not in catalogue.ENTRIES or purpose == "retrieval":
            if not third_party.known(self.name):
                catalogue.find(self.name)
            return third_party.load(self.name, self.root, download=self.download, purpose=purpose)
        return official.load(self.name, root=self.root, download=self.download, seed=self.seed)
