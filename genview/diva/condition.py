"""DIVA's visual condition: the global token and some local tokens, projected, on top of a constant text prior.

Tokens are in the tower's output space and not L2-normalised. B images, N local tokens, D the tower's output width,
C the width of the diffusion model's context, L positions of the text prior.
"""

import torch
from torch import Tensor, nn

from genview.config.diva import DivaCondition
from genview.errors import GenviewError


def pool_tokens(tokens: Tensor, window: int) -> Tensor:
    """Means of neighbouring tokens in raster order (DIVA's SigLIP models).

    Args:
        tokens: [B, N, D].
        window: tokens of a mean, and the step from one mean to the next; a shorter rest at the end is dropped. Windows
            run over the flattened grid, so that one may reach from the end of an image row into the next.

    Returns:
        [B, N // window, D], in the tokens' dtype.

    Raises:
        ValueError: the window is not in 1 .. N.
    """
    batch, number, width = tokens.shape
    if not 1 <= window <= number:
        raise ValueError(f"window {window} is not in 1 .. {number}, the number of tokens")
    groups = number // window
    return tokens[:, : groups * window].reshape(batch, groups, window, width).mean(dim=2)


def token_indices(tokens: int, count: int, seeds: list[int]) -> Tensor:
    """Which local tokens a draw keeps: uniform, with replacement, by each image's own seed.

    Args:
        tokens: N, local tokens of an image.
        count: how many are drawn.
        seeds: one for each image: of the run, epoch, key and draw of noise.

    Returns:
        int64 [B, count], on the CPU.
    """
    draws = [torch.randint(tokens, (count,), generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(draws)


def select_tokens(tokens: Tensor, condition: DivaCondition, seeds: list[int]) -> Tensor:
    """The local tokens that a condition uses.

    Args:
        tokens: [B, N, D], all local tokens.
        condition: which of them.
        seeds: one for each image, for the random choices.

    Returns:
        [B, n, D], n = ``condition.local_tokens(N)``.
    """
    if condition.tokens == "all":
        return tokens
    if condition.tokens == "pooled":
        return pool_tokens(tokens, condition.window)
    count = condition.local_tokens(tokens.shape[1])
    indices = token_indices(tokens.shape[1], count, seeds).to(tokens.device)
    return tokens.gather(1, indices[..., None].expand(-1, -1, tokens.shape[2]))


def compose_context(global_token: Tensor, local_tokens: Tensor, prior: Tensor, mode: str) -> Tensor:
    """The context of the diffusion model: global token first, then local ones, each with the text prior added.

    Args:
        global_token: [B, C], projected to the context's width.
        local_tokens: [B, N, C], likewise.
        prior: [L, C], hidden states of the constant prompt.
        mode: ``position``: the prior's state i is added to token i, which needs 1 + N = L; ``mean``: the mean of its
            states is added to every token.

    Returns:
        [B, 1 + N, C].

    Raises:
        ValueError: the mode is unknown, or the lengths differ in mode ``position``.
    """
    tokens = torch.cat([global_token[:, None], local_tokens], dim=1)
    if mode == "mean":
        return tokens + prior.mean(dim=0)
    if mode != "position":
        raise ValueError(f"mode {mode!r} is neither 'position' nor 'mean'")
    if tokens.shape[1] != len(prior):
        raise ValueError(
            f"mode 'position' needs as many tokens as the prior has states: {tokens.shape[1]}, {len(prior)}"
        )
    return tokens + prior


class Recap(nn.Module):
    """From a tower's dense features to the context of the diffusion model (DIVA's visual dense recap).

    The projection is the only part that is trained; the published initialisation is torch's own of a linear layer.
    """

    def __init__(self, width: int, prior: Tensor, condition: DivaCondition, *, tokens: int):
        """Make the projection.

        Args:
            width: D, of the tower's output space.
            prior: [L, C], hidden states of the constant prompt; kept as they are.
            condition: which tokens, and how they meet the prior.
            tokens: local tokens that the tower gives for an image.

        Raises:
            GenviewError: the condition does not fit the tower or the prior.
        """
        super().__init__()
        self.condition = condition
        self.projection = nn.Linear(width, prior.shape[1])
        self.register_buffer("prior", prior.detach().clone(), persistent=False)
        length = condition.context_length(tokens)
        if condition.tokens == "pooled" and condition.window > tokens:
            raise GenviewError(f"diva: window {condition.window} is larger than the tower's {tokens} local tokens")
        if condition.prior == "position" and length != len(prior):
            raise GenviewError(
                f"diva: prior: position needs {len(prior)} tokens, as many as the text has positions; the condition "
                f"has {length} (1 global, {length - 1} local): set count: {len(prior) - 1}, or prior: mean"
            )

    def forward(self, global_token: Tensor, local_tokens: Tensor, seeds: list[int]) -> Tensor:
        """Context [B, 1 + n, C] of global tokens [B, D] and local ones [B, N, D]; one seed an image for the choice."""
        chosen = select_tokens(local_tokens, self.condition, seeds)
        return compose_context(self.projection(global_token), self.projection(chosen), self.prior, self.condition.prior)
