"""MMVP-VLM: pairs of images that differ in one visual pattern, and two statements that tell them apart.

A pair counts only if both statements choose the right one of its two images (Tong et al., arXiv 2401.06209). Nine
patterns of 15 pairs; one pair is .74 points of the whole, and independent guessing gives 25 %.
"""

from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from genview.config.evaluation import MmvpFeature
from genview.evaluation.mmvp_pairs import PAIRS, PAIRS_PER_PATTERN, PATTERNS

Array = TypeVar("Array", np.ndarray, Tensor)


def score(similarities: Array) -> Array:
    """Which pairs are right: statement 1 is nearer to image 1, and statement 2 is not.

    The published scorer asks whether a softmax over the two images gives image 1 more than one half, so a tie goes to
    image 2; scale and bias of the logits play no part.

    Args:
        similarities: [P, 2, 2], pair, image, statement; NumPy or torch.

    Returns:
        bool [P], of the same library.
    """
    first_chosen = similarities[:, 0, :] > similarities[:, 1, :]
    return first_chosen[:, 0] & ~first_chosen[:, 1]


def pattern_scores(correct: np.ndarray | Tensor) -> tuple[np.ndarray, float]:
    """Percentage of right pairs for each of the nine patterns, float64 [9], and their mean.

    Args:
        correct: bool [135], in the order of the data set: 15 pairs of each pattern.

    Raises:
        ValueError: not 135 pairs.
    """
    correct = np.asarray(correct, dtype=bool)
    if correct.shape != (PAIRS,):
        raise ValueError(f"{correct.shape} outcomes; MMVP-VLM has {PAIRS} pairs")
    shares = correct.reshape(len(PATTERNS), PAIRS_PER_PATTERN).mean(axis=1) * 100
    return shares, float(shares.mean())


RANDOM: tuple[MmvpFeature, ...] = ("with_random_tokens", "with_random_share")
"""Features that draw tokens: their score is that of several draws."""

RANDOM_TOKENS = 76
RANDOM_SHARE = 0.5


def image_feature(
    global_token: Tensor, local_tokens: Tensor, feature: MmvpFeature, generator: torch.Generator | None = None
) -> Tensor:
    """The image's side of the similarity (DIVA's published evaluation, one feature a family).

    Args:
        global_token: [B, E], the tower's embedding.
        local_tokens: [B, N, E], its patch tokens in the same space.
        feature: ``global``: the embedding alone, CLIP's own (DFN at 224 px, SigLIP). ``with_random_tokens`` (OpenAI):
            plus the mean of 76 tokens drawn with replacement. ``with_tokens`` (MetaCLIP): the normalised embedding plus
            the mean of the normalised tokens. ``with_random_share`` (DFN at 378 px): the same with half of the tokens,
            drawn with replacement, and not normalised again.
        generator: on the CPU, for the random ones.

    Returns:
        [B, E]; of unit length, but for ``with_random_share``.
    """
    if feature == "global":
        return F.normalize(global_token, dim=-1)
    if feature in RANDOM:
        number = local_tokens.shape[1]
        count = RANDOM_TOKENS if feature == "with_random_tokens" else int(RANDOM_SHARE * number)
        indices = torch.randint(number, (len(local_tokens), count), generator=generator).to(local_tokens.device)
        local_tokens = local_tokens.gather(1, indices[..., None].expand(-1, -1, local_tokens.shape[2]))
    if feature == "with_random_tokens":
        return F.normalize(global_token + local_tokens.mean(dim=1), dim=-1)
    combined = F.normalize(global_token, dim=-1) + F.normalize(local_tokens, dim=-1).mean(dim=1)
    return F.normalize(combined, dim=-1) if feature == "with_tokens" else combined


def similarities(images: Tensor, statements: Tensor) -> Tensor:
    """[P, 2, 2] (pair, image, statement) of image features [P, 2, E] and text embeddings [P, 2, E]."""
    return images @ F.normalize(statements, dim=-1).transpose(1, 2)
