"""DIVA's loss: how far the diffusion model's prediction is from what it should have predicted."""

from diffusers import SchedulerMixin
from torch import Tensor

from genview.errors import GenviewError


def noise_prediction_loss(predicted: Tensor, noise: Tensor) -> Tensor:
    """Mean squared error over all elements (DIVA, section 3.2); no weight by timestep.

    Args:
        predicted: any shape; half precision is raised to float32.
        noise: same shape; no gradient flows into it.

    Returns:
        Scalar, float64 for float64 inputs, float32 for others.
    """
    if predicted.shape != noise.shape:
        raise ValueError(f"shapes differ: {tuple(predicted.shape)} and {tuple(noise.shape)}")
    if predicted.element_size() < 4:
        predicted = predicted.float()
    return (predicted - noise.detach().to(predicted.dtype)).square().mean()


def target(scheduler: SchedulerMixin, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """What the diffusion model was trained to predict, by its scheduler's ``prediction_type``: noise or velocity.

    The published code takes the noise, which is right for Stable Diffusion 2.1-base and wrong for 2.1, a v-model.

    Args:
        scheduler: of the pipeline.
        latents: [B, c, h, w], without noise.
        noise: as added, same shape.
        timesteps: int64 [B].

    Raises:
        GenviewError: another prediction type.
    """
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return noise
    if kind == "v_prediction":
        return scheduler.get_velocity(latents, noise, timesteps)
    raise GenviewError(f"diva: the scheduler predicts {kind!r}; DIVA needs 'epsilon' or 'v_prediction'")
