"""The same rubric over image and caption: a vision-language model of transformers."""

from transformers import AutoModelForImageTextToText, AutoProcessor

from genview.guidance.chat_scorer import ChatScorer


class Scorer(ChatScorer):
    """Scores captions with their images."""

    processor_class = AutoProcessor
    model_class = AutoModelForImageTextToText
