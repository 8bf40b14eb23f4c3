"""The frozen judge of views: tokens and embeddings of the quality encoder, fed its own normalisation and resolution."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from genview.encoders.look import LoadedEncoder

PROCESSOR_CHUNK = 32
"""Images per pass without a GPU: the activations of more leave the processor's caches (0.7 against 0.5 ms an image)."""


class Scores(NamedTuple):
    """What the quality encoder makes of a batch: tokens [V, B, T, D] and embeddings [V, B, E], without gradient."""

    tokens: Tensor
    embeddings: Tensor


class Scorer:
    """Encodes training views with the quality encoder; one pass per view, no gradient, evaluation mode.

    Not a module on purpose: its weights belong to no checkpoint and to no optimiser.

    Attributes:
        component: oriented principal direction of the encoder's tokens [D].
    """

    def __init__(self, encoder: LoadedEncoder, component: Tensor, mean: Sequence[float], std: Sequence[float]):
        """Take an encoder.

        Args:
            encoder: the quality encoder.
            component: oriented principal direction of its tokens [D].
            mean, std: of the training views' normalisation, three floats each.
        """
        self.encoder = encoder
        self.component = component.to(encoder.device)
        mean, std = torch.as_tensor(mean), torch.as_tensor(std)
        own_mean, own_std = torch.as_tensor(encoder.mean), torch.as_tensor(encoder.std)
        self._scale = (std / own_std).view(1, 3, 1, 1).to(encoder.device)
        self._shift = ((mean - own_mean) / own_std).view(1, 3, 1, 1).to(encoder.device)

    def prepared(self, views: Tensor) -> Tensor:
        """[M, 3, S, S] as normalised for training to what the encoder was trained on, at its resolution."""
        size = (self.encoder.image_size, self.encoder.image_size)
        views = views * self._scale + self._shift
        if views.shape[-2:] == size:
            return views
        return F.interpolate(views, size, mode="bicubic", antialias=True, align_corners=False)

    @torch.no_grad()
    def __call__(self, views: Tensor, *, chunk: int | None = None) -> Scores:
        """Encode views [V, B, 3, S, S], ``chunk`` samples of all views at a time (None: what suits the device)."""
        count, samples = views.shape[:2]
        if chunk is None and views.device.type == "cpu":
            chunk = max(PROCESSOR_CHUNK // count, 1)
        tokens, embeddings = [], []
        for part in views.split(chunk or samples, dim=1):
            token, embedding = self.encoder.encode(self.prepared(part.flatten(0, 1)))
            tokens.append(token.unflatten(0, (count, -1)))
            embeddings.append(embedding.unflatten(0, (count, -1)))
        return Scores(torch.cat(tokens, dim=1), torch.cat(embeddings, dim=1))
