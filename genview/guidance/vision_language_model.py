"""The same rubric over image and caption: a vision-language model of transformers."""

from collections.abc import Sequence

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from genview.config.guidance import Guidance
from genview.guidance import chat_model, procedures
from genview.guidance.answers import Answer
from genview.models import load


class Scorer:
    """Scores captions with their images (PIL, RGB)."""

    needs_images = True
    is_costly = True

    def __init__(self, guidance: Guidance):
        self.guidance = guidance
        self.batch_size = guidance.batch_size
        name = str(load.resolve(guidance.model))
        options = {"revision": guidance.revision, "trust_remote_code": guidance.trust_remote_code}
        processor = chat_model.load(AutoProcessor, name, **options)
        kind = chat_model.dtype(guidance.precision)
        model = chat_model.load(AutoModelForImageTextToText, name, dtype=kind, **options)
        model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        self.model = chat_model.ChatModel(model, processor, precision=guidance.precision)

    def score(self, captions: Sequence[str], images: Sequence | None = None) -> list[Answer]:
        """One answer per caption and image."""
        if self.guidance.procedure == "choice":
            return procedures.choose(self.model, captions, images)
        return procedures.generate(self.model, captions, images, guidance=self.guidance)
