"""The two procedures with a chat model: choose among four tokens, or have it write and read what it wrote."""

from collections.abc import Sequence

from genview.config.guidance import Guidance
from genview.guidance import answers, rubric
from genview.guidance.answers import Answer
from genview.guidance.chat_model import ChatModel


def choose(model: ChatModel, captions: Sequence[str], images: Sequence | None = None) -> list[Answer]:
    """Score captions by the probabilities of 1..4 at the answer's place; a model that gives NaN scores nothing."""
    made = []
    for row in model.probabilities(captions, images):
        if row.isfinite().all():
            made.append(answers.from_probabilities(row.tolist()))
        else:
            made.append(Answer(None, raw_answer="the model's probabilities are not finite; try precision: fp32"))
    return made


def generate(
    model: ChatModel, captions: Sequence[str], images: Sequence | None = None, *, guidance: Guidance
) -> list[Answer]:
    """Score captions by greedy answers (GenView++); those without a score are asked ``attempts`` times in all."""
    conversations = [model.question(caption, explain=guidance.explain) for caption in captions]
    made: list[Answer | None] = [None] * len(captions)
    for _ in range(guidance.attempts):
        waiting = [position for position, answer in enumerate(made) if answer is None or answer.score is None]
        if not waiting:
            break
        texts = model.reply(
            [conversations[position] for position in waiting],
            None if images is None else [images[position] for position in waiting],
            maximum_new_tokens=guidance.maximum_new_tokens,
            stop_at_score=not guidance.explain,
        )
        for position, text in zip(waiting, texts):
            score = answers.parse(text)
            if score is None:
                made[position] = Answer(None, raw_answer=text)
                conversations[position] = rubric.reminded(conversations[position], text)
            else:
                made[position] = Answer(score, explanation=text.strip() if guidance.explain else None)
    return made
