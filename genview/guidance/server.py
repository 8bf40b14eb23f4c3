"""Any server that speaks OpenAI's chat protocol (vLLM, SGLang, llama.cpp, ...): the same rubric over HTTP.

``choice`` asks for one token and the probabilities of its alternatives. A server that gives none, or a model that
begins with something else than a digit, is asked for words instead, which the parser of ``generate`` reads.
"""

import logging
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

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


class Scorer:
    """Scores captions with a model behind a server; the images play no part."""

    is_costly = True

    def __init__(self, guidance: Guidance):
        self.guidance = guidance
        self.batch_size = guidance.batch_size
        self.gives_probabilities = guidance.procedure == "choice"
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

    def _one(self, caption: str) -> Answer:
        try:
            answer = self._choose(caption) if self.gives_probabilities else None
            return answer or self._ask(caption)
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            return Answer(None, raw_answer=f"the server refused the prompt: {error}")
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
            reply = self.client.chat.completions.create(
                model=self.guidance.model,
                messages=rubric.question(caption, form=rubric.FORM_DIGIT),
                max_tokens=1,
                temperature=0,
                logprobs=True,
                top_logprobs=_ALTERNATIVES,
            ).choices[0]
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            # Either the server knows no log probabilities or it refuses this caption; asking for words tells which.
            _LOG.warning("the server gives no probabilities; asking for words: %s", str(error)[:200])
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
            reply = self.client.chat.completions.create(
                model=self.guidance.model,
                messages=conversation,
                max_tokens=self.guidance.maximum_new_tokens,
                temperature=0,
            )
            text = reply.choices[0].message.content or ""
            score = answers.parse(text)
            if score is not None:
                return Answer(score, explanation=text.strip() if self.guidance.explain else None)
            conversation = rubric.reminded(conversation, text)
        return Answer(None, raw_answer=text)
