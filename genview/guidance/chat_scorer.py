"""What the two backends of transformers share: a chat model and one of the two procedures."""

from collections.abc import Sequence

from genview import placement
from genview.config.guidance import Guidance
from genview.guidance import chat_model, procedures
from genview.guidance.answers import Answer
from genview.models import load


class ChatScorer:
    """Scores captions with a chat model, alone or with their images (PIL, RGB).

    Attributes:
        processor_class, model_class: what transformers loads.
    """

    is_costly = True
    processor_class: type
    model_class: type

    def __init__(self, guidance: Guidance):
        self.guidance = guidance
        self.batch_size = guidance.batch_size
        name = str(load.folder(guidance.model or "", "config.json", guidance.revision))
        options = {"trust_remote_code": guidance.trust_remote_code}
        processor = chat_model.load(self.processor_class, name, **options)
        device = placement.default()
        precision = placement.precision(guidance.precision, device, f"model {guidance.model}")
        model = chat_model.load(self.model_class, name, dtype=placement.DTYPES[precision], **options)
        model.to(device)
        self.model = chat_model.ChatModel(model, processor, precision=precision)

    def score(self, captions: Sequence[str], images: Sequence | None = None) -> list[Answer]:
        """One answer per caption."""
        if self.guidance.procedure == "choice":
            return procedures.choose(self.model, captions, images)
        return procedures.generate(self.model, captions, images, guidance=self.guidance)
