"""The family's tokenizer: CLIP's byte-pair encoding, learnt on the scenes' words so that each is one token."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import torch
from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer

from genview.data import scenes

CONTEXT_LENGTH = 24
START, END = "<|startoftext|>", "<|endoftext|>"


def build() -> CLIPTokenizer:
    """CLIPTokenizer in which every scene word is one token and any other text falls back to bytes."""
    merges = _merges(scenes.vocabulary())
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = symbols + [symbol + "</w>" for symbol in symbols] + ["".join(pair) for pair in merges]
    vocabulary = {token: index for index, token in enumerate([*dict.fromkeys(tokens), START, END])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CONTEXT_LENGTH)


class WordTokenizer:
    """Scene captions to the ids of `build()`, by looking words up: training redraws captions by the thousand."""

    def __init__(self) -> None:
        tokenizer = build()
        self.vocabulary_size = len(tokenizer)
        self.start, self.end = tokenizer.bos_token_id, tokenizer.eos_token_id
        self.ids = {word: tokenizer(word).input_ids[1] for word in scenes.vocabulary()}

    def __call__(self, captions: list[str]) -> torch.Tensor:
        """Ids int64 [N, CONTEXT_LENGTH], padded with the end token as the transformers tokenizer does."""
        rows = torch.full((len(captions), CONTEXT_LENGTH), self.end)
        for row, text in zip(rows, captions, strict=True):
            ids = [self.start, *(self.ids[word] for word in text.split())]
            row[: len(ids)] = torch.tensor(ids)
        return rows


def _merges(words: list[str]) -> list[tuple[str, str]]:
    """Byte-pair merges, most frequent pair first, until every word is one symbol (Sennrich et al. 2016, algorithm 1).

    `tokenizers.BpeTrainer` breaks ties in an order that changes from call to call; ids must not.
    """
    split = [[*word[:-1], word[-1] + "</w>"] for word in words]
    merges = []
    while any(len(symbols) > 1 for symbols in split):
        pairs = Counter(pair for symbols in split for pair in pairwise(symbols))
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for symbols in split:
            position = 0
            while position < len(symbols) - 1:
                if (symbols[position], symbols[position + 1]) == best:
                    symbols[position : position + 2] = ["".join(best)]
                position += 1
    return merges
