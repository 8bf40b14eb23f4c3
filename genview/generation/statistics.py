"""What happened while a shard was made: counts, reasons and times, for the log."""

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from genview.errors import GenviewError
from genview.generation.plan import ViewRequest

SHOWN = 20
"""Failures that a message lists."""

logger = logging.getLogger(__name__)


@dataclass
class Statistics:
    """Counts of one shard."""

    maximum_rejects: float
    """Share of the shard's images that may fail before the study stops."""
    requested: int = 0
    made: int = 0
    resumed: int = 0
    taken_over: int = 0
    """From the shards before, of images that did not change."""
    failed: dict[ViewRequest, str] = field(default_factory=dict)
    """Reason by image."""
    prompts_truncated: int = 0
    embedding_from: str | None = None
    order_independent: bool | None = None
    """Whether an image's bits were found not to depend on its place in a batch; None: not looked at."""
    finished: bool = False
    seconds: Counter[str] = field(default_factory=Counter)
    """Loading, encoding, denoising, decoding, writing (in threads, beside the others), packing, total."""

    def fail(self, request: ViewRequest, reason: str) -> None:
        """Note an image that cannot be made.

        Raises:
            GenviewError: too large a share of the shard's images failed; lists them.
        """
        self.failed[request] = reason
        logger.warning("%s, sample %d: %s", request.key, request.sample, reason)
        if len(self.failed) > self.maximum_rejects * self.requested:
            listed = [f"  - {r.key}, sample {r.sample}: {why}" for r, why in self.failed.items()][:SHOWN]
            raise GenviewError(
                f"{len(self.failed)} of {self.requested} images failed; dataset.maximum_rejects allows a share of "
                f"{self.maximum_rejects}:\n" + "\n".join(listed)
            )

    def to_json(self) -> dict[str, Any]:
        """Plain values; failures counted by reason, and listed."""
        return {
            "requested": self.requested,
            "made": self.made,
            "resumed": self.resumed,
            "taken_over": self.taken_over,
            "failed": dict(sorted(Counter(self.failed.values()).items())),
            "failed_images": [{"key": r.key, "sample": r.sample, "reason": why} for r, why in self.failed.items()],
            "prompts_truncated": self.prompts_truncated,
            "embedding_from": self.embedding_from,
            "order_independent": self.order_independent,
            "finished": self.finished,
            "seconds": {name: round(value, 3) for name, value in sorted(self.seconds.items())},
        }
