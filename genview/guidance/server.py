"""Any server that speaks OpenAI's chat protocol (vLLM, SGLang, llama.cpp, ...): the same rubric over HTTP.

``choice`` asks for one token and the probabilities of its alternatives. A server that gives none, or a model that
begins with something else than a digit, is asked for words instead, which the parser of ``generate`` reads.
"""

import logging
import math
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from genview.config.guidance import Guidance
from genview.errors import GenviewError
from genview.guidance import answers, rubric
from genview.guidance.answers import Answer

try:
    import openai
except ImportError:
    raise GenviewError("guidance.backend 'server' needs the OpenAI client: pip install 'genview[server]'") from None

_LOG = logging.getLogger(__name__)
# The protocol's largest number of alternatives.
_ALTERNATIVES = 20
# Least probability that the four digits must have together to count as the model's choice.
_LEAST_MASS = 0.5
_MOST_CONNECTIONS = 64
_SECONDS = 600.0
_NEWER_NAMES = {"max_tokens": "max_completion_tokens"}
"""Parameters that newer servers know by another name."""
_OPTIONAL = ("max_completion_tokens", "temperature")
"""Parameters that a server may refuse and that can be left out: its own defaults stand then."""


def digit_probabilities(alternatives: Sequence[tuple[str, float]]) -> tuple[float, ...] | None:
    """Probabilities of 1..4 from (token, log probability) pairs; None if the digits have less than half of the mass.

    Spellings of a digit ("3" and " 3") add up; a digit that is not listed counts as 0.
    """
    mass = dict.fromkeys("1234", 0.0)
    for token, log_probability in alternatives:
        if token.strip() in mass:
            mass[token.strip()] += math.exp(log_probability)
    total = sum(mass.values())
    return tuple(value / total for value in mass.values()) if total >= _LEAST_MASS else None


def _names_parameter(error: openai.APIStatusError, name: str) -> bool:
    """Whether a refusal is of this parameter."""
    if getattr(error, "param", None):
        return error.param == name
    return re.search(rf"\b{name}\b", _words(error)) is not None


def _words(error: openai.APIError) -> str:
    """What the server said, wherever its reply says it; the client quotes OpenAI's own form of replies alone."""
    said = str(error)
    response = getattr(error, "response", None)
    try:
        text = response.text.strip() if response is not None else ""
    except Exception:  # a reply that was not read
        text = ""
    return said if not text or text in said else f"{said}: {text[:500]}"


def _first(reply: Any) -> Any:
    """The first answer of a reply.

    Raises:
        GenviewError: the reply holds none.
    """
    if not getattr(reply, "choices", None):
        raise GenviewError(f"guidance.server: the reply holds no answer: {str(reply)[:200]}")
    return reply.choices[0]


class Scorer:
    """Scores captions with a model behind a server; the images play no part."""

    is_costly = True

    def __init__(self, guidance: Guidance):
        self.guidance = guidance
        self.batch_size = guidance.batch_size
        self.gives_probabilities = guidance.procedure == "choice"
        self._names: dict[str, str] = {}
        self._left_out: set[str] = set()
        self.client = openai.OpenAI(
            base_url=guidance.server,
            api_key=os.environ.get(guidance.api_key_variable) or "none",
            max_retries=guidance.attempts,
            timeout=_SECONDS,
        )

    def score(self, captions: Sequence[str], images: Sequence | None = None) -> list[Answer]:
        """One answer per caption.

        Raises:
            GenviewError: the server does not answer, or refuses the key or the model.
        """
        with ThreadPoolExecutor(min(len(captions), _MOST_CONNECTIONS)) as pool:
            return list(pool.map(self._one, captions))

    def _complete(self, **options: Any) -> Any:
        """Ask in the form that the server takes: a parameter that it refuses by name is renamed or left out."""
        while True:
            given = {self._names.get(name, name): value for name, value in options.items()}
            given = {name: value for name, value in given.items() if name not in self._left_out}
            try:
                return self.client.chat.completions.create(**given)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if not self._adapts(error, given):
                    raise

    def _adapts(self, error: openai.APIStatusError, given: Mapping[str, Any]) -> bool:
        """Whether the next question will be asked otherwise than the refused one."""
        named = [name for name in (*_NEWER_NAMES, *_OPTIONAL) if name in given and _names_parameter(error, name)]
        if not named:
            return False
        name = named[0]
        if name in _NEWER_NAMES:
            self._names[name] = _NEWER_NAMES[name]
        else:
            self._left_out.add(name)
        how = f"asked with {self._names[name]}" if name in self._names else "asked without"
        _LOG.warning("the server does not take %s; %s: %s", name, how, _words(error)[:200])
        return True

    def _one(self, caption: str) -> Answer:
        try:
            answer = self._choose(caption) if self.gives_probabilities else None
            return answer or self._ask(caption)
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            return Answer(None, raw_answer=f"the server refused the prompt: {_words(error)}")
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise GenviewError(
                f"guidance.server {self.guidance.server}: refuses the key in {self.guidance.api_key_variable}: {error}"
            ) from error
        except openai.NotFoundError as error:
            raise GenviewError(
                f"guidance.server {self.guidance.server}: has no model {self.guidance.model!r}, or the address lacks "
                f"its /v1: {error}"
            ) from error
        except openai.APIError as error:
            raise GenviewError(
                f"guidance.server {self.guidance.server}: no answer after {self.guidance.attempts} more attempts: "
                f"{error}; what was scored is kept: run the same command again when the server is back"
            ) from error

    def _choose(self, caption: str) -> Answer | None:
        try:
            reply = self._complete(
                model=self.guidance.model,
                messages=rubric.question(caption, form=rubric.FORM_DIGIT),
                max_tokens=1,
                temperature=0,
                logprobs=True,
                top_logprobs=_ALTERNATIVES,
            )
            reply = _first(reply)
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            # Either the server knows no log probabilities or it refuses this caption; asking for words tells which.
            _LOG.warning("the server gives no probabilities; asking for words: %s", _words(error)[:200])
            answer = self._ask(caption)
            self.gives_probabilities = False
            return answer
        content = reply.logprobs.content if reply.logprobs else None
        if not content:
            return None
        found = digit_probabilities([(item.token, item.logprob) for item in content[0].top_logprobs])
        return answers.from_probabilities(found) if found else None

    def _ask(self, caption: str) -> Answer:
        form = rubric.FORM_EXPLAINED if self.guidance.explain else rubric.FORM
        conversation = rubric.question(caption, form=form)
        text = ""
        for _ in range(self.guidance.attempts):
            reply = self._complete(
                model=self.guidance.model,
                messages=conversation,
                max_tokens=self.guidance.maximum_new_tokens,
                temperature=0,
            )
            # Half a character, as a cut answer may end with, could not be written to the table.
            text = (_first(reply).message.content or "").encode("utf-8", "ignore").decode()
            score = answers.parse(text)
            if score is not None:
                return Answer(score, explanation=text.strip() if self.guidance.explain else None)
            conversation = rubric.reminded(conversation, text)
        return Answer(None, raw_answer=text)
