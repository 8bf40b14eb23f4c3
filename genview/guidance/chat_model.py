"""A chat model of transformers, with words alone or with an image: probabilities of the four scores, or an answer.

``choice`` reads the probabilities of 1..4 at the answer's place: the conversation is rendered with the start of the
answer already written, and one forward pass gives the distribution of the next token. What all prompts have in
common, above all the rubric, is computed once and its keys and values are reused by every batch. Rows are padded on
the right: attention is causal, so padding cannot reach a row's own tokens, and batches change nothing but rounding.
"""

import copy
import inspect
import logging
from collections.abc import Sequence
from typing import Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from genview.errors import GenviewError
from genview.guidance import answers, rubric

_LOG = logging.getLogger(__name__)
# Largest difference of probabilities between the pass with the reused prefix and the plain one.
_TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 5e-2}
# Tokens at the end of an answer in which a score that is just finished is looked for.
_TAIL = 24


def load(auto_class: Any, name: str, **options: Any) -> Any:
    """``auto_class.from_pretrained`` with an error that names the model and the remedy."""
    try:
        return auto_class.from_pretrained(name, **options)
    except (OSError, ValueError) as error:
        raise GenviewError(
            f"guidance.model {name!r} cannot be loaded as {auto_class.__name__}: {str(error).splitlines()[0]}; "
            "give a hub id whose files `genview fetch` has brought into the cache, or a local directory"
        ) from error


class _ScoreGiven(StoppingCriteria):
    """Ends a row as soon as its answer holds a complete "[score: N]"."""

    def __init__(self, tokenizer: Any, prompt_length: int):
        self.tokenizer, self.prompt_length = tokenizer, prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        start = max(self.prompt_length, input_ids.shape[1] - _TAIL)
        texts = self.tokenizer.batch_decode(input_ids[:, start:], skip_special_tokens=True)
        done = [text.rstrip().endswith("]") and answers.parse(text) is not None for text in texts]
        return torch.tensor(done, device=input_ids.device)


class ChatModel:
    """A causal model with its tokenizer, or with its processor where it takes images.

    Args:
        model: the model, on its device.
        processor: tokenizer, or processor with a ``tokenizer``; it must have a chat template.
        precision: name of the model's type, for the tolerance of the check below.
        share_prefix: reuse the keys and values of the shared prefix where a check shows that it changes nothing.

    Raises:
        GenviewError: no chat template, or a digit is more than one token (``choice`` needs one).
    """

    def __init__(self, model: Any, processor: Any, *, precision: str = "fp32", share_prefix: bool = True):
        self.model = model.eval()
        self.processor = processor
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self.takes_images = self.tokenizer is not processor
        template = getattr(processor, "chat_template", None) or self.tokenizer.chat_template
        if not template:
            raise GenviewError(
                f"guidance.model {self.tokenizer.name_or_path!r} has no chat template; choose one trained to chat"
            )
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token or self.tokenizer.unk_token
        # A thinking model would answer after its thoughts; the place of the answer is right after the question.
        self._template_options = {"enable_thinking": False} if "enable_thinking" in str(template) else {}
        # A caption may hold the text of a control token; as text it would end the turn or claim an image.
        self._control = sorted(set(self.tokenizer.all_special_tokens), key=len, reverse=True)
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._precision, self._wants_prefix = precision, share_prefix
        self._candidates: torch.Tensor | None = None
        self._prefix: torch.Tensor | None = None
        self._cache: Any = None

    # Rendering

    def question(self, caption: str, *, explain: bool = False) -> list[dict]:
        """The conversation for a caption, without control tokens in it."""
        for token in self._control:
            caption = caption.replace(token, " ")
        form = rubric.FORM_EXPLAINED if explain else rubric.FORM
        return rubric.question(caption, form=form, image=self.takes_images)

    def _text(self, conversation: list[dict], start: str = "") -> str:
        rendered = self.processor.apply_chat_template(
            conversation, tokenize=False, add_generation_prompt=True, **self._template_options
        )
        return rendered + start

    def _inputs(self, texts: Sequence[str], images: Sequence | None, side: str) -> dict[str, torch.Tensor]:
        self.tokenizer.padding_side = side
        # The template has written the first token already.
        options = {"return_tensors": "pt", "padding": True, "add_special_tokens": False}
        if self.takes_images:
            made = self.processor(text=list(texts), images=[[image] for image in images], **options)
        else:
            made = self.processor(list(texts), **options)
        kind = next(self.model.parameters()).dtype
        return {
            name: value.to(self.model.device, kind if value.is_floating_point() else None)
            for name, value in made.items()
            if isinstance(value, torch.Tensor)
        }

    # Choice

    def probabilities(self, captions: Sequence[str], images: Sequence | None = None) -> torch.Tensor:
        """Probabilities of the scores 1..4, normalised over the four: [n, 4] float32 on the CPU."""
        if self._candidates is None:
            self._prepare(images[0] if images else None)
        texts = [self._text(self.question(caption), rubric.ANSWER_START + "1") for caption in captions]
        return self._distribution(self._inputs(texts, images, "right"), self._cache)

    @torch.inference_mode()
    def _distribution(self, inputs: dict[str, torch.Tensor], cache: Any) -> torch.Tensor:
        """Probabilities of the candidates in place of each row's last token."""
        ids = inputs["input_ids"]
        skipped, prefix = 0, self._prefix
        if cache is not None and prefix is not None and (ids[:, : len(prefix)] == prefix).all():
            skipped = len(prefix)
            cache = copy.deepcopy(cache)
            cache.batch_repeat_interleave(len(ids))
            inputs = {**inputs, "past_key_values": cache, **self._positions(inputs, skipped)}
        # Whatever runs along the tokens, except the mask, is cut to the tokens that are new.
        inputs = {
            name: value[:, skipped:]
            if name != "attention_mask" and getattr(value, "shape", None) == ids.shape
            else value
            for name, value in inputs.items()
        }
        place = inputs["attention_mask"].sum(1) - 2 - skipped
        if self._keeps:
            kept, place = torch.unique(place, return_inverse=True)
            inputs["logits_to_keep"] = kept
        logits = self.model(**inputs, use_cache=True).logits
        logits = logits[torch.arange(len(ids), device=logits.device), place]
        return logits[:, self._candidates].float().softmax(-1).cpu()

    def _positions(self, inputs: dict[str, torch.Tensor], skipped: int) -> dict[str, torch.Tensor]:
        """Positions of the new tokens, for models (Qwen-VL) whose positions depend on the images' grids.

        Left to themselves, such models take positions after a cache from the prompt before.
        """
        index = getattr(getattr(self.model, "model", None), "get_rope_index", None)
        if index is None or not self.takes_images:
            return {}
        known = {name: inputs[name] for name in inspect.signature(index).parameters if name in inputs}
        return {"position_ids": index(**known)[0][..., skipped:]}

    def _prepare(self, image: Any) -> None:
        """Find the digits' tokens and the shared prefix, and check that reusing the prefix changes nothing."""
        probes = ["A dog.", "three small red boats on a calm lake at night, seen from above"]
        texts = [self._text(self.question(probe), rubric.ANSWER_START) for probe in probes]
        digits = [self._row(texts[0] + str(score), image) for score in answers.SCORES]
        if len({len(row) for row in digits}) > 1 or any((row[:-1] != digits[0][:-1]).any() for row in digits):
            raise GenviewError(
                f"guidance.model {self.tokenizer.name_or_path!r} writes the digits 1 to 4 with more than one token; "
                "use procedure: generate"
            )
        self._candidates = torch.stack([row[-1] for row in digits])
        if len(set(self._candidates.tolist())) < 4:
            raise GenviewError(
                f"guidance.model {self.tokenizer.name_or_path!r} has no token of its own for each of 1, 2, 3 and 4"
            )
        if self._wants_prefix:
            rows = [self._row(text + "1", image) for text in texts]
            length = min(map(len, rows))
            same = (rows[0][:length] == rows[1][:length]).long().cumprod(0).sum().item()
            self._share(rows[0][:same], [text + "1" for text in texts], image)

    def _row(self, text: str, image: Any) -> torch.Tensor:
        return self._inputs([text], None if image is None else [image], "right")["input_ids"][0]

    @torch.inference_mode()
    def _share(self, prefix: torch.Tensor, texts: list[str], image: Any) -> None:
        """Keep the prefix's keys and values if two probes score the same with and without them."""
        images = None if image is None else [image] * len(texts)
        plain = self._distribution(self._inputs(texts, images, "right"), None)
        prefix = prefix[: self._text_length(prefix)]
        if not len(prefix):
            return
        try:
            cache = self.model(input_ids=prefix[None], use_cache=True).past_key_values
            self._prefix = prefix
            shared = self._distribution(self._inputs(texts, images, "right"), cache)
            difference = (shared - plain).abs().max().item()
        except (RuntimeError, TypeError, AttributeError, ValueError, IndexError) as error:
            _LOG.warning("the shared prefix is computed for each prompt anew: %s", str(error).splitlines()[0])
            return
        if difference <= _TOLERANCE[self._precision]:
            self._cache = cache
            _LOG.info("%d tokens that all prompts share are computed once", len(prefix))
        else:
            _LOG.warning("the shared prefix is computed for each prompt anew: reuse changes scores by %g", difference)

    def _text_length(self, prefix: torch.Tensor) -> int:
        """Tokens before the first that stands for an image: those need the pixels."""
        special = [
            getattr(self.model.config, name, None)
            for name in ("image_token_id", "image_token_index", "vision_start_token_id", "boi_token_id")
        ]
        is_image = torch.isin(prefix, torch.tensor([token for token in special if token is not None]).to(prefix))
        return int((~is_image).long().cumprod(0).sum())

    # Generation

    @torch.inference_mode()
    def reply(
        self,
        conversations: Sequence[list[dict]],
        images: Sequence | None = None,
        *,
        maximum_new_tokens: int,
        stop_at_score: bool = True,
    ) -> list[str]:
        """The model's greedy answer to each conversation."""
        inputs = self._inputs([self._text(conversation) for conversation in conversations], images, "left")
        length = inputs["input_ids"].shape[1]
        made = self.model.generate(
            **inputs,
            max_new_tokens=maximum_new_tokens,
            do_sample=False,
            num_beams=1,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=self.tokenizer.pad_token_id,
            stopping_criteria=StoppingCriteriaList([_ScoreGiven(self.tokenizer, length)] if stop_at_score else []),
        )
        return self.tokenizer.batch_decode(made[:, length:], skip_special_tokens=True)
