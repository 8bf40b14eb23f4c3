"""The backend of the published system: a causal language model of transformers reads the caption alone."""

from collections.abc import Sequence

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from genview.config.guidance import Guidance
from genview.guidance import chat_model, procedures
from genview.guidance.answers import Answer
from genview.models import load


class Scorer:
    """Scores captions with a chat model; the images play no part."""

    needs_images = False
    is_costly = True

    def __init__(self, guidance: Guidance):
        self.guidance = guidance
        self.batch_size = guidance.batch_size
        name = str(load.resolve(guidance.model))
        options = {"revision": guidance.revision, "trust_remote_code": guidance.trust_remote_code}
        tokenizer = chat_model.load(AutoTokenizer, name, **options)
        model = chat_model.load(AutoModelForCausalLM, name, dtype=chat_model.dtype(guidance.precision), **options)
        model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        self.model = chat_model.ChatModel(model, tokenizer, precision=guidance.precision)

    def score(self, captions: Sequence[str], images: Sequence | None = None) -> list[Answer]:
        """One answer per caption."""
        if self.guidance.procedure == "choice":
            return procedures.choose(self.model, captions)
        return procedures.generate(self.model, captions, guidance=self.guidance)
