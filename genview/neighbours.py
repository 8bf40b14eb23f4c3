"""k-nearest-neighbour classification by cosine."""

import torch
from torch import Tensor
from torch.nn import functional

TEMPERATURE = 0.07
SIMILARITIES_AT_ONCE = 2**26


def votes(
    train: Tensor, labels: Tensor, test: Tensor, classes: int, *, neighbours: int = 20, temperature: float = TEMPERATURE
) -> Tensor:
    """Votes [n, C] of the nearest training features, each with weight exp(cosine / temperature) (Wu et al. 2018).

    Args:
        train: [N, D].
        labels: int64 [N].
        test: [n, D].
        classes: C.
        neighbours: how many vote; all where there are fewer.
        temperature: of the weights.
    """
    train, test = functional.normalize(train, dim=1), functional.normalize(test, dim=1)
    neighbours = min(neighbours, len(train))
    chunk = max(1, SIMILARITIES_AT_ONCE // len(train))
    result = torch.zeros(len(test), classes, dtype=test.dtype, device=test.device)
    for start in range(0, len(test), chunk):
        cosine, index = (test[start : start + chunk] @ train.T).topk(neighbours, dim=1)
        # Relative to the nearest: the exponential cannot overflow, and the order of the votes is the same.
        weight = ((cosine - cosine[:, :1]) / temperature).exp()
        result[start : start + chunk].scatter_add_(1, labels[index], weight)
    return result
