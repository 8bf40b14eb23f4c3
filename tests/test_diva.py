"""DIVA: what the diffusion model is conditioned on, what it should predict, and where its gradient goes."""

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from pydantic import ValidationError

from genview.config.diva import PRESETS, DiffusionModel, DivaCondition
from genview.diva.condition import Recap, compose_context, pool_tokens, select_tokens, token_indices
from genview.diva.loss import noise_prediction_loss, target
from genview.diva.teacher import Teacher
from genview.errors import GenviewError


def test_pooled_tokens_are_means_of_neighbours_and_the_rest_is_dropped():
    tokens = torch.arange(2 * 11 * 3, dtype=torch.float64).reshape(2, 11, 3)
    pooled = pool_tokens(tokens, 4)
    expected = np.stack([tokens[:, :4].numpy().mean(1), tokens[:, 4:8].numpy().mean(1)], axis=1)
    np.testing.assert_allclose(pooled.numpy(), expected, rtol=1e-12)
    assert pool_tokens(tokens, 11).shape == (2, 1, 3)
    for window in (0, 12):
        with pytest.raises(ValueError, match="window"):
            pool_tokens(tokens, window)


def test_the_prior_is_added_by_position_or_by_its_mean():
    random = np.random.default_rng(0)
    image, local, prior = random.normal(size=(2, 3)), random.normal(size=(2, 4, 3)), random.normal(size=(5, 3))
    tokens = np.concatenate([image[:, None], local], axis=1)
    as_tensors = [torch.from_numpy(value) for value in (image, local, prior)]
    np.testing.assert_allclose(compose_context(*as_tensors, mode="position").numpy(), tokens + prior[None], rtol=1e-12)
    np.testing.assert_allclose(compose_context(*as_tensors, mode="mean").numpy(), tokens + prior.mean(0), rtol=1e-12)
    with pytest.raises(ValueError, match="5, 4"):
        compose_context(as_tensors[0], as_tensors[1], as_tensors[2][:4], "position")
    with pytest.raises(ValueError, match="neither"):
        compose_context(*as_tensors, mode="sum")


@pytest.mark.parametrize(
    ("model", "tokens", "length"),
    [
        ("openai-vit-l-14-224", 256, 77),
        ("openai-vit-l-14-336", 576, 77),
        ("metaclip-vit-l-14-224", 256, 257),
        ("metaclip-vit-h-14-224", 256, 257),
        ("dfn-vit-h-14-224", 256, 257),
        ("dfn-vit-h-14-378", 729, 365),
        ("siglip-so400m-14-224", 256, 43),
        ("siglip-so400m-14-384", 729, 73),
    ],
)
def test_published_contexts_have_their_published_lengths(model, tokens, length):
    condition = PRESETS[model]
    assert condition.context_length(tokens) == length
    recap = Recap(6, torch.zeros(77, 4), condition, tokens=tokens)
    assert recap(torch.randn(2, 6), torch.randn(2, tokens, 6), [1, 2]).shape == (2, length, 4)


def test_a_draw_of_tokens_depends_on_the_image_alone():
    alone = token_indices(50, 8, [7])
    beside = token_indices(50, 8, [3, 7, 5])
    assert torch.equal(alone[0], beside[1])
    assert not torch.equal(beside[0], beside[2])
    many = token_indices(10, 200, [1])
    assert set(many.flatten().tolist()) == set(range(10))  # with replacement, each of them
    tokens = torch.randn(3, 50, 2)
    chosen = select_tokens(tokens, DivaCondition(tokens="random_count", count=8), [3, 7, 5])
    assert torch.equal(chosen[1], tokens[1, beside[1]])


def test_conditions_that_cannot_be_are_refused():
    with pytest.raises(ValidationError, match="position"):
        DivaCondition(tokens="all", prior="position")
    with pytest.raises(GenviewError, match="count: 76"):
        Recap(6, torch.zeros(77, 4), DivaCondition(tokens="random_count", count=10, prior="position"), tokens=49)
    with pytest.raises(GenviewError, match="window 60"):
        Recap(6, torch.zeros(77, 4), DivaCondition(tokens="pooled", window=60), tokens=49)


def test_the_loss_is_a_plain_mean_and_leaves_the_target_alone():
    predicted = torch.randn(2, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    noise = torch.randn(2, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    loss = noise_prediction_loss(predicted, noise)
    loss.backward()
    difference = (predicted - noise).detach().numpy()
    assert loss.item() == pytest.approx((difference**2).mean(), rel=1e-12)
    np.testing.assert_allclose(predicted.grad.numpy(), 2 * difference / difference.size, rtol=1e-12)
    assert noise.grad is None and loss.dtype == torch.float64
    assert noise_prediction_loss(predicted.detach().bfloat16(), noise.detach()).dtype == torch.float32
    with pytest.raises(ValueError, match="shapes"):
        noise_prediction_loss(predicted, noise[:1])


def test_the_target_follows_the_prediction_type():
    latents, noise = torch.randn(2, 4, 2, 2), torch.randn(2, 4, 2, 2)
    steps = torch.tensor([3, 900])
    plain = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    assert torch.equal(target(plain, latents, noise, steps), noise)
    velocity = DDPMScheduler.from_config(plain.config, prediction_type="v_prediction")
    kept = plain.alphas_cumprod[steps].reshape(-1, 1, 1, 1)
    torch.testing.assert_close(
        target(velocity, latents, noise, steps), kept.sqrt() * noise - (1 - kept).sqrt() * latents
    )
    with pytest.raises(GenviewError, match="sample"):
        target(DDPMScheduler.from_config(plain.config, prediction_type="sample"), latents, noise, steps)


@pytest.fixture(scope="module")
def teacher():
    return Teacher(DiffusionModel(), "a photo of a .", torch.device("cpu"))


def test_gradients_reach_the_projection_and_the_tokens_and_nothing_else(teacher):
    recap = Recap(6, teacher.prior, DivaCondition(), tokens=9)
    image, local = torch.randn(2, 6, requires_grad=True), torch.randn(2, 9, 6, requires_grad=True)
    latents = teacher.latents(torch.rand(2, 3, teacher.size, teacher.size))
    before = [parameter.clone() for parameter in teacher.unet.parameters()]
    losses = []
    optimizer = torch.optim.Adam([*recap.parameters(), image, local], lr=0.03)
    draw = teacher.draw(latents.shape, [1, 2])
    for _ in range(15):
        loss = teacher.error(latents, recap(image, local, [1, 2]), draw)
        optimizer.zero_grad()
        loss.backward()
        assert all(value.grad.abs().sum() > 0 for value in (image, local, *recap.parameters()))
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]  # a fixed batch is learnt
    assert all(p.grad is None for p in (*teacher.unet.parameters(), *teacher.vae.parameters()))
    assert all(torch.equal(now, old) for now, old in zip(teacher.unet.parameters(), before))


def test_recomputing_activations_changes_no_gradient(teacher):
    stored = Teacher(DiffusionModel(gradient_checkpointing=False), "a photo of a .", torch.device("cpu"))
    latents = teacher.latents(torch.rand(2, 3, teacher.size, teacher.size))
    context = torch.randn(2, 5, teacher.prior.shape[1], requires_grad=True)
    draw = teacher.draw(latents.shape, [1, 2])
    gradients = [torch.autograd.grad(model.error(latents, context, draw), context)[0] for model in (teacher, stored)]
    torch.testing.assert_close(*gradients)


def test_a_draw_of_noise_depends_on_the_image_alone(teacher):
    shape = torch.Size([3, 4, 8, 8])
    batch, alone = teacher.draw(shape, [5, 6, 7]), teacher.draw(torch.Size([1, 4, 8, 8]), [6])
    assert torch.equal(batch.noise[1], alone.noise[0]) and batch.timesteps[1] == alone.timesteps[0]
    assert batch.timesteps.min() >= 0 and batch.timesteps.max() < 1000


def test_the_autoencoder_sees_its_own_range(teacher):
    pixels = torch.rand(1, 3, teacher.size, teacher.size)
    with torch.no_grad():
        mean = teacher.vae.encode(pixels * 2 - 1).latent_dist.mean
    torch.testing.assert_close(teacher.latents(pixels), mean * teacher.vae.config.scaling_factor)


def test_a_model_with_an_image_embedding_is_refused():
    with pytest.raises(GenviewError, match="StableUnCLIP"):
        Teacher(DiffusionModel(model="small/unclip"), "a photo of a .", torch.device("cpu"))
