"""How captions are scored, and the guidance scale of each score."""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, model_validator

from genview.config.base import Block, FilePath, ModelPath, Scale, Share

SCALES = (8.0, 6.0, 4.0, 2.0)
"""GenView++'s guidance scales of the scores 1, 2, 3 and 4."""


_CHAT = ("procedure", "model", "revision", "trust_remote_code", "batch_size", "precision", "attempts")
_ANSWERS = ("maximum_new_tokens", "explain")


@dataclass(frozen=True)
class Backend:
    """What a backend needs of a study, and which settings reach its scores."""

    settings: tuple[str, ...]
    loads_model: bool = False
    """It runs a model here, on a GPU."""
    sees_images: bool = False


BACKENDS = {
    "lexical": Backend(("explain",)),
    "language_model": Backend((*_CHAT, *_ANSWERS), loads_model=True),
    "vision_language_model": Backend((*_CHAT, *_ANSWERS), loads_model=True, sees_images=True),
    "server": Backend((*_CHAT, "server", "api_key_variable", *_ANSWERS)),
}
"""Each is the module of its name in ``genview.guidance``, with a class ``Scorer``."""


class Guidance(Block):
    """From caption to rubric score to guidance scale."""

    strategy: Literal["adaptive", "constant", "random"] = "adaptive"
    constant: Scale = 10.0
    scales: tuple[Scale, Scale, Scale, Scale] = SCALES
    """Guidance scale of the scores 1, 2, 3 and 4; ``random`` draws from them."""
    default_scale: Scale = 6.0
    """For captions that could not be scored; flagged in the tables and counted in the report."""
    maximum_unscored: Share = 0.05
    """The study stops before generation if a larger share of the captions could not be scored."""
    backend: Literal["lexical", "language_model", "vision_language_model", "server"] = "lexical"
    """``lexical``: a transparent count. The models: transformers. ``server``: any OpenAI-compatible server."""
    procedure: Literal["choice", "generate"] = "choice"
    """``choice``: probabilities of 1..4 at the answer's place, one forward pass. ``generate``: the published loop."""
    model: ModelPath | None = None
    """Hub id or local directory of the model, or the name that the server knows."""
    revision: str | None = None
    trust_remote_code: bool = False
    server: str | None = None
    """Base address of the server, such as ``http://localhost:8000/v1``."""
    api_key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the server's key, if it wants one."""
    batch_size: int = Field(64, ge=1)
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    attempts: int = Field(5, ge=1, le=20)
    """``generate`` and ``server``: how often a caption is asked for before it counts as not scored."""
    maximum_new_tokens: int = Field(1000, ge=1, le=8192)
    """``generate``: longest answer, in tokens; it ends as soon as the score is there."""
    explain: bool = False
    """Keep the reasons: the constraints that ``lexical`` counted, or the model's words with ``generate``."""
    given: FilePath | None = None
    """A CSV in place of the stage: the published ``guidance_scale.csv`` (image, prompt, guidance_scale)."""

    @property
    def needs(self) -> Backend:
        """What the backend needs."""
        return BACKENDS[self.backend]

    @property
    def scores_captions(self) -> bool:
        """Whether scales follow from scores."""
        return self.strategy == "adaptive" and not self.given

    def scoring(self) -> dict[str, Any]:
        """The settings that reach the scores, as plain values."""
        return self.model_dump(mode="json", include={"backend", *self.needs.settings})

    @model_validator(mode="after")
    def _complete(self) -> "Guidance":
        if self.backend != "lexical" and not self.model and not self.given:
            raise ValueError(f"backend {self.backend!r} needs a model")
        if self.backend == "server" and not self.server and not self.given:
            raise ValueError("backend 'server' needs the server's address")
        if self.explain and self.backend != "lexical" and self.procedure == "choice":
            raise ValueError("explain needs procedure 'generate': a choice of one token gives no reasons")
        return self
