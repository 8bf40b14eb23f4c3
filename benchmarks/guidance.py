"""Prompts scored per second: ``choice`` against the published loop, on one model, in one run.

The published loop takes one prompt at a time and lets the model write up to 1,000 tokens; a model that answers tersely
ends earlier, so a loop that ends after a terse answer's eight tokens is measured beside it. Random weights write on to
the limit, which makes the first loop's length exact; speed does not depend on what is written. The lexical backend,
which needs no model, closes the table. Run it as

    python benchmarks/guidance.py --output benchmarks/results/guidance.json

or with ``--model`` for a chat model of the hub or a folder, on a GPU where there is one.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from genview.config.guidance import Guidance
from genview.data import scenes
from genview.guidance import lexical, rubric
from genview.guidance.chat_model import ChatModel
from genview.guidance.language_model import Scorer

sys.path.append(str(Path(__file__).parents[1] / "tests"))
import record
from chat_models import language_model

SIZES = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 6, "num_attention_heads": 4}
PUBLISHED_TOKENS, TERSE_TOKENS = 1000, 8


def rate(work: Callable[[], object], prompts: int) -> float:
    """Prompts per second; the device has finished when the clock stops."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return prompts / (time.perf_counter() - start)


def one_at_a_time(folder: str, captions: list[str], tokens: int, precision: torch.dtype) -> Callable[[], object]:
    """The published loop: a prompt, an answer of ``tokens`` tokens, the next prompt."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=precision).eval()
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    options = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None, "pad_token_id": 0}

    def loop() -> None:
        for caption in captions:
            text = tokenizer.apply_chat_template(rubric.question(caption), tokenize=False, add_generation_prompt=True)
            inputs = tokenizer(text, return_tensors="pt", add_special_tokens=False).to(model.device)
            with torch.inference_mode():
                made = model.generate(**inputs, max_new_tokens=tokens, min_new_tokens=tokens, **options)
            tokenizer.decode(made[0, inputs["input_ids"].shape[1] :])

    return loop


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="hub id or folder of a chat model; default: a small Llama with random weights")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "fp16", "bf16"])
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--prompts", type=int, default=512, help="prompts of choice; the loops take fewer")
    parser.add_argument("--loop-prompts", type=int, default=4)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    captions = [scenes.scene(index, seed=1).caption for index in range(options.prompts)]
    folder = options.model or str(language_model(Path(tempfile.mkdtemp()), sizes=SIZES))
    guidance = Guidance(
        backend="language_model", model=folder, batch_size=options.batch_size, precision=options.precision
    )
    scorer = Scorer(guidance)
    plain = ChatModel(scorer.model.model, scorer.model.processor, precision=options.precision, share_prefix=False)

    def in_batches(score: Callable[[list[str]], object]) -> Callable[[], None]:
        ordered = sorted(captions, key=len)
        return lambda: [
            score(ordered[start : start + options.batch_size]) for start in range(0, len(ordered), options.batch_size)
        ]

    for warm in (scorer.score, plain.probabilities):
        warm(captions[: options.batch_size])
    few = captions[: options.loop_prompts]
    one_at_a_time(folder, few[:1], TERSE_TOKENS, scorer.model.model.dtype)()
    kind = scorer.model.model.dtype
    rates = {
        "published_loop": rate(one_at_a_time(folder, few, PUBLISHED_TOKENS, kind), len(few)),
        "terse_loop": rate(one_at_a_time(folder, few * 8, TERSE_TOKENS, kind), len(few) * 8),
        "choice_without_shared_prefix": rate(in_batches(plain.probabilities), len(captions)),
        "choice": rate(in_batches(scorer.score), len(captions)),
        "lexical": rate(lambda: [lexical.answer(caption) for caption in captions * 4], len(captions) * 4),
    }
    ratio = rates["choice"] / rates["published_loop"]
    result = {
        "what": "prompts scored per second, one run",
        "results": [
            {"metric": f"{name}_prompts_per_second", "value": round(value, 4), "low": None, "high": None}
            for name, value in rates.items()
        ],
        "choice_over_published_loop": round(ratio, 1),
        "choice_over_terse_loop": round(rates["choice"] / rates["terse_loop"], 1),
        "parameters": sum(parameter.numel() for parameter in scorer.model.model.parameters()),
        "shared_prefix_tokens": 0 if scorer.model._cache is None else len(scorer.model._prefix),
        "batch_size": options.batch_size,
        "precision": options.precision,
        "model": options.model or "Llama, random weights",
    }
    record.write(result, options.output, "transformers")


if __name__ == "__main__":
    main()
