"""The backend of the published system: a causal language model of transformers reads the caption alone."""

from transformers import AutoModelForCausalLM, AutoTokenizer

from genview.guidance.chat_scorer import ChatScorer


class Scorer(ChatScorer):
    """Scores captions; the images play no part."""

    processor_class = AutoTokenizer
    model_class = AutoModelForCausalLM
