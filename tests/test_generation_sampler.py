"""A batch gives what diffusers' own pipelines give one by one, whatever an image's neighbours."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from pipelines import EMBEDDING, save_text2image, save_unclip

from genview.config.views import ViewSet
from genview.errors import GenviewError
from genview.generation import members, pipelines, plan
from genview.generation.plan import ViewRequest
from genview.generation.sampler import Sampler

SCALES = (2.0, 4.0, 10.0, 1.0)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipelines")
    torch.set_num_threads(1)
    unclip = save_unclip(folder / "unclip")
    return {"img": unclip, "imgtxt": unclip, "txt": save_text2image(folder / "text2image")}


def view_of(folders, mode: str, **changes) -> ViewSet:
    return ViewSet(**({"mode": mode, "model": str(folders[mode]), "steps": 3, "batch_size": 5} | changes))


def some(mode: str, count: int = 5) -> tuple[list[ViewRequest], torch.Tensor]:
    requests = [
        ViewRequest(
            key=str(i), sample=0, caption="", prompt="" if mode == "img" else f"a red {i % 3}",
            noise_level=None if mode == "txt" else 100 * (i % 5), guidance_scale=SCALES[i % 4],
            seed=plan.image_seed(1, mode, str(i), 0),
        )
        for i in range(count)
    ]  # fmt: skip
    return requests, torch.randn(count, EMBEDDING, generator=torch.Generator().manual_seed(5))


def official(sampler: Sampler, request: ViewRequest, embedding: torch.Tensor) -> np.ndarray:
    """The same image by the pipeline's own call, float [H, W, 3] in 0..1."""
    pipeline = sampler.loaded.pipeline
    pipeline.set_progress_bar_config(disable=True)
    arguments = {
        "prompt": [request.prompt], "num_inference_steps": sampler.view.steps,
        "guidance_scale": request.guidance_scale, "output_type": "np",
        "generator": [torch.Generator().manual_seed(request.seed)],
    }  # fmt: skip
    if sampler.loaded.mode != "txt":
        arguments |= {"image_embeds": embedding[None], "noise_level": request.noise_level}
    return pipeline(**arguments).images[0]


def floats(sampler: Sampler, requests: list[ViewRequest], embeddings: torch.Tensor) -> np.ndarray:
    pipeline = sampler.loaded.pipeline
    with torch.inference_mode():
        latents = sampler.denoise(sampler.prepare(requests, embeddings))
        decoded = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor, return_dict=False)[0]
    return pipeline.image_processor.postprocess(decoded, output_type="np")


@pytest.mark.parametrize("mode", ["img", "txt", "imgtxt"])
@pytest.mark.parametrize("scheduler", [None, "DPMSolverMultistepScheduler", "EulerAncestralDiscreteScheduler"])
def test_one_at_a_time_equals_the_official_call(folders, mode, scheduler):
    view = view_of(folders, mode, batch_size=1, scheduler=scheduler)
    sampler = Sampler(pipelines.load(view, CPU), view)
    requests, embeddings = some(mode)
    for request, embedding in zip(requests[:3], embeddings):
        mine = floats(sampler, [request], embedding[None])[0]
        assert np.abs(mine - official(sampler, request, embedding)).max() < 1e-6


@pytest.mark.parametrize("mode", ["img", "txt", "imgtxt"])
def test_a_mixed_batch_equals_the_official_calls(folders, mode):
    view = view_of(folders, mode)
    sampler = Sampler(pipelines.load(view, CPU), view)
    requests, embeddings = some(mode)
    batch = floats(sampler, requests, embeddings)
    pixels = sampler.sample(requests, embeddings)
    for request, embedding, mine, rounded in zip(requests, embeddings, batch, pixels):
        theirs = official(sampler, request, embedding)
        # Rounding of a batch of another size; random weights and guidance 10 enlarge it. Trained weights: 1e-6.
        assert np.abs(mine - theirs).max() < 1e-5
        assert np.abs(rounded.astype(int) - (theirs * 255).round()).max() <= 1


@pytest.mark.parametrize("mode", ["img", "txt", "imgtxt"])
def test_neighbours_place_and_filling_change_no_bit(folders, mode):
    view = view_of(folders, mode)
    sampler = Sampler(pipelines.load(view, CPU), view)
    requests, embeddings = some(mode)
    digests = [hashlib.sha256(image.tobytes()).digest() for image in sampler.sample(requests, embeddings)]
    order = [3, 0, 4, 1, 2]
    permuted = sampler.sample([requests[i] for i in order], embeddings[order])
    assert [hashlib.sha256(image.tobytes()).digest() for image in permuted] == [digests[i] for i in order]
    latents = sampler.denoise(sampler.prepare(requests, embeddings))
    alone = sampler.denoise(sampler.prepare(requests[3:4], embeddings[3:4]))
    assert torch.equal(latents[3], alone[0])
    assert sampler.is_order_independent(requests, embeddings)


def test_noise_that_depends_on_neighbours_would_be_noticed(folders):
    view = view_of(folders, "img")
    sampler = Sampler(pipelines.load(view, CPU), view)
    normal = sampler.predict
    sampler.predict = lambda inputs, *rest: normal(inputs, *rest) + 1e-7 * torch.arange(len(inputs)).view(-1, 1, 1, 1)
    assert not sampler.is_order_independent(*some("img"))


def test_conditions_change_what_is_made(folders):
    view = view_of(folders, "imgtxt")
    sampler = Sampler(pipelines.load(view, CPU), view)
    (request, *_), embeddings = some("imgtxt")
    variants = [request, *(replace(request, **c) for c in (
        {"noise_level": 400}, {"guidance_scale": 9.0}, {"prompt": "another"}, {"seed": 1},
    ))]  # fmt: skip
    made = sampler.sample(variants, embeddings[:1].expand(5, -1))
    assert len({image.tobytes() for image in made}) == 5
    repeated = sampler.sample([request] * 2, embeddings[:1].expand(2, -1))
    assert repeated[0].tobytes() == repeated[1].tobytes() == made[0].tobytes()


def test_without_guidance_half_the_work_is_done(folders):
    sizes = []
    for scale in (1.0, 2.0):
        view = view_of(folders, "txt", guidance_scale=scale)
        sampler = Sampler(pipelines.load(view, CPU), view)
        normal = sampler.predict
        sampler.predict = lambda inputs, *rest, normal=normal: (sizes.append(len(inputs)), normal(inputs, *rest))[1]
        sampler.sample(some("txt")[0])
    assert sizes == [5] * 3 + [10] * 3


@pytest.mark.parametrize(
    ("interval", "sizes"), [(None, "111111"), ([0, 1], "111111"), ([0, 0.5], "111000"), ([0.2, 0.7], "001110")]
)
def test_guidance_holds_in_its_interval_and_costs_nothing_outside(folders, interval, sizes):
    view = view_of(folders, "imgtxt", steps=6, scheduler="DDIMScheduler", guidance_interval=interval)
    sampler, seen = Sampler(pipelines.load(view, CPU), view), []
    sampler.loaded.pipeline.unet.register_forward_pre_hook(lambda _, given: seen.append(len(given[0]) // 5 - 1))
    requests, embeddings = some("imgtxt")
    inputs = sampler.prepare(requests, embeddings)
    latents = sampler.denoise(inputs)
    assert "".join(map(str, seen)) == sizes
    # The same by hand, an image at a time: outside the interval the scale is 1, which is the conditioned prediction.
    scheduler, first = sampler.loaded.pipeline.scheduler, inputs.latents[:1] * 1.0
    empty = sampler._prompt_embeddings([""])
    with torch.inference_mode():
        for number, step in enumerate(scheduler.timesteps):
            with_it = sampler.predict(first, step, inputs.prompts[:1], inputs.class_labels[:1])
            without = sampler.predict(first, step, empty, torch.zeros_like(inputs.class_labels[:1]))
            scale = requests[0].guidance_scale if sizes[number] == "1" else 1.0
            first = scheduler.step(without + scale * (with_it - without), step, first).prev_sample
    torch.testing.assert_close(latents[:1], first, atol=1e-5, rtol=1e-4)


def test_an_interval_that_is_none_is_refused_and_no_interval_leaves_the_metadata_as_it_was(folders):
    with pytest.raises(ValueError, match="the smaller share comes first"):
        view_of(folders, "img", guidance_interval=[0.5, 0.5])
    view = view_of(folders, "img")
    loaded = pipelines.load(view, CPU)
    (request,) = some("img", 1)[0]
    assert "guidance_interval" not in members.metadata(request, view, loaded, None, None)["view"]
    early = view_of(folders, "img", guidance_interval=[0, 0.5])
    assert members.metadata(request, early, loaded, None, None)["view"]["guidance_interval"] == [0, 0.5]


def test_each_prompt_is_encoded_once(folders):
    view = view_of(folders, "txt")
    sampler = Sampler(pipelines.load(view, CPU), view)
    seen = []
    encode = sampler.loaded.pipeline.encode_prompt
    sampler.loaded.pipeline.encode_prompt = lambda prompts, *rest: (seen.extend(prompts), encode(prompts, *rest))[1]
    requests, _ = some("txt")
    sampler.sample(requests)
    sampler.sample(requests)
    assert [seen.count(f"a red {i}") for i in range(3)] == [1, 1, 1]


def test_values_that_are_not_finite_are_no_image(folders):
    view = view_of(folders, "img")
    sampler = Sampler(pipelines.load(view, CPU), view)
    requests, embeddings = some("img")
    embeddings[2] = torch.nan
    assert [image is None for image in sampler.sample(requests, embeddings)] == [False, False, True, False, False]


def test_decoding_in_parts_changes_rounding_only(folders):
    requests, embeddings = some("img", 4)
    made = []
    for part in (None, 2):
        view = view_of(folders, "img", batch_size=4, decode_batch_size=part)
        made.append(
            [image.tobytes() for image in Sampler(pipelines.load(view, CPU), view).sample(requests, embeddings)]
        )
    differences = [
        np.abs(np.frombuffer(a, np.uint8).astype(int) - np.frombuffer(b, np.uint8)).max() for a, b in zip(*made)
    ]
    assert max(differences) <= 1


def test_another_batch_size_changes_rounding_only(folders):
    """The stated tolerance: one level of 255, in fewer than one value of a thousand."""
    requests, embeddings = some("imgtxt", 6)
    made = []
    for size in (1, 6):
        view = view_of(folders, "imgtxt", batch_size=size)
        sampler = Sampler(pipelines.load(view, CPU), view)
        made.append(
            np.stack([
                image
                for start in range(0, 6, size)
                for image in sampler.sample(requests[start : start + size], embeddings[start : start + size])
            ])
        )  # fmt: skip
    difference = np.abs(made[0].astype(int) - made[1])
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


def test_attention_slicing_and_other_sizes_work(folders):
    requests, embeddings = some("img", 2)
    view = view_of(folders, "img", attention_slicing=True, image_size=48, batch_size=2)
    made = Sampler(pipelines.load(view, CPU), view).sample(requests, embeddings)
    assert [image.shape for image in made] == [(48, 48, 3)] * 2


@pytest.mark.slow
def test_compiled_with_fixed_shapes_is_the_same_within_rounding(folders, tmp_path):
    requests, embeddings = some("img", 3)
    made = []
    model = str(save_unclip(tmp_path / "unclip", blocks=1))  # compiling takes its time, block by block
    for compiled in (False, True):
        view = view_of(folders, "img", model=model, compile=compiled)
        sampler = Sampler(pipelines.load(view, CPU), view)
        made.append([sampler.sample(requests, embeddings), sampler.sample(requests[:1], embeddings[:1])])
    assert np.abs(np.stack(made[0][0]).astype(int) - np.stack(made[1][0])).max() <= 1
    assert np.array_equal(made[1][0][0], made[1][1][0])


def test_wrong_pipelines_are_refused_with_what_to_do(folders, tmp_path):
    def load(mode, **changes):
        return pipelines.load(view_of(folders, mode, **changes), CPU)

    with pytest.raises(GenviewError, match="knows no noise level"):
        load("img", model=str(folders["txt"]))
    with pytest.raises(GenviewError, match="cannot be driven by text alone"):
        load("txt", model=str(folders["img"]))
    with pytest.raises(GenviewError, match=r"no readable model_index\.json"):
        load("img", model=str(tmp_path))
    with pytest.raises(GenviewError, match="not the expected 0000"):
        load("img", sha256="0" * 64)
    with pytest.raises(GenviewError, match="did you mean 'DPMSolverMultistepScheduler'"):
        load("img", scheduler="DPMSolverMultistepSheduler")
    with pytest.raises(GenviewError, match="noise depends on the batch"):
        load("img", scheduler="DPMSolverSDEScheduler")
    with pytest.raises(GenviewError, match="not a multiple of 2"):
        load("img", image_size=33)


def test_noise_of_the_embedding_is_the_pipelines_own(folders):
    """sqrt(alpha_bar) of the squared-cosine schedule; the paper's 'linear' schedule would give .946 at level 100."""
    schedule = pipelines.load(view_of(folders, "img"), CPU).pipeline.image_noising_scheduler.alphas_cumprod.sqrt()
    expected = {0: 1.000, 100: 0.986, 200: 0.948, 300: 0.886, 400: 0.804}
    assert all(abs(float(schedule[level]) - value) < 1e-3 for level, value in expected.items())
