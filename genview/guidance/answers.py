"""A caption's score as a backend gives it, and how the words of a model become one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

SCORES = (1, 2, 3, 4)

# "[score: 3]", "Score = **3**", "score is 3.0", "rating: 3/4"; then, failing that, an answer that is only a number.
_NUMBER = r"[\s*_`\"'\[({<]*([1-4])(?:\.0+)?(?![\d.]*\d)(?:\s*/\s*4)?"
_NAMED = re.compile(rf"(?:score|rating)[\s*_`\"'\])]*(?:is|of|[:=])?{_NUMBER}", re.IGNORECASE)
_BARE = re.compile(rf"^{_NUMBER}[\s*_`\"'\])}}>.,;:!]*$")
_LEADING = re.compile(rf"^{_NUMBER}[\s*_`\"'\])}}>]*[.,;:\n-]")


@dataclass(frozen=True)
class Answer:
    """What a backend says about one caption; ``score`` is None where it could not be scored."""

    score: int | None
    probabilities: tuple[float, float, float, float] | None = None
    """Probability of the scores 1, 2, 3 and 4, normalised over the four."""
    explanation: str | None = None
    raw_answer: str | None = None
    """The backend's own words, where they could not be scored."""

    @property
    def expectation(self) -> float | None:
        """Expected score, in [1, 4]."""
        if self.probabilities is None:
            return None
        return sum(score * probability for score, probability in zip(SCORES, self.probabilities))


def from_probabilities(probabilities: Sequence[float], explanation: str | None = None) -> Answer:
    """The most probable score (the lower one where two are equal), from four probabilities that sum to 1."""
    best = max(range(4), key=lambda index: (probabilities[index], -index))
    return Answer(SCORES[best], tuple(float(value) for value in probabilities), explanation)


def parse(text: str) -> int | None:
    """The score in a model's answer, however it is dressed; None if there is none, or two that disagree.

    A named score counts before a bare number; reasoning between ``<think>`` tags is left out.
    """
    text = re.sub(r"<think>.*?(</think>|$)", "", text, flags=re.DOTALL).strip()
    named = {int(number) for number in _NAMED.findall(text)}
    if named:
        return named.pop() if len(named) == 1 else None
    for pattern in (_BARE, _LEADING):
        found = pattern.match(text)
        if found:
            return int(found.group(1))
    return None
