from pathlib import Path

from genview import provenance
from genview.config import load as configuration
from genview.errors import GenviewError

try:
    STUDY = configuration.parse(config)
except GenviewError as error:
    raise WorkflowError(str(error)) from None

RESULTS = f"{STUDY.results}/{STUDY.study}"
LOGS = f"{RESULTS}/logs"
COSTS = f"{RESULTS}/costs"
SHARDS = [f"{shard}-of-{STUDY.dataset.shards}" for shard in range(STUDY.dataset.shards)]


def code(*modules):
    """Files whose change re-runs a rule: the import closure of its modules inside the package."""
    here = Path.cwd()
    files = (Path(file) for file in provenance.sources(*modules))
    return [
        str(file.relative_to(here)) if file.is_relative_to(here) else str(file)
        for file in files
    ]


def settings(**blocks):
    """The blocks of the configuration that a rule reads, as plain values: the rule's parameters."""
    return {
        name: block.model_dump(mode="json") if hasattr(block, "model_dump") else block
        for name, block in blocks.items()
    }


wildcard_constraints:
    shard=r"\d+-of-\d+",
    encoder=r"[^/]+",
    view=r"[^/]+",
    run=r"[^/]+",
    dataset=r"[^/]+",
