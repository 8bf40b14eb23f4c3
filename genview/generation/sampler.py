"""Batched sampling with a noise level, a guidance scale and a generator per image.

The components, their order and their arithmetic are those of diffusers' ``StableUnCLIPImg2ImgPipeline`` and
``StableDiffusionPipeline``, whose ``__call__`` takes only one noise level and one guidance scale for a whole batch.

Every batch has the same shape: a short one is filled up. The library then runs the same kernels for all of them, and
an image comes out the same, bit for bit, whatever its neighbours and its place in the batch; ``is_order_independent``
looks whether that holds on this machine.
"""

import time
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from genview.config.views import ViewSet
from genview.generation.pipelines import LoadedPipeline
from genview.generation.plan import ViewRequest

PROMPTS_KEPT = 1024
"""Embeddings of prompts that are kept; one of Stable Diffusion 2.1 takes 150 KB in half precision."""


@dataclass(frozen=True)
class Inputs:
    """Inputs of the denoising loop; B = batch size, padded."""

    latents: torch.Tensor
    """[B, C, h, w]"""
    prompts: torch.Tensor
    """[B, tokens, width]"""
    class_labels: torch.Tensor | None
    """Noised embedding and embedding of the noise level, [B, 2 E]; None in txt mode."""
    guidance: torch.Tensor
    """[B, 1, 1, 1]"""
    generators: list[torch.Generator]


def _generator(seed: int) -> torch.Generator:
    """On the CPU, whose numbers are the same for every device, batch and worker."""
    return torch.Generator("cpu").manual_seed(seed)


class Sampler:
    """Makes images from requests, a batch at a time.

    Args:
        loaded: the pipeline.
        view: settings of the view set.
    """

    def __init__(self, loaded: LoadedPipeline, view: ViewSet):
        self.loaded = loaded
        self.view = view
        self.batch_size = view.batch_size
        self.seconds: Counter[str] = Counter()
        self.prompts_truncated = 0
        self._prompts: OrderedDict[str, torch.Tensor] = OrderedDict()

    @torch.inference_mode()
    def sample(
        self, requests: Sequence[ViewRequest], embeddings: torch.Tensor | None = None
    ) -> list[np.ndarray | None]:
        """Make up to a batch of images.

        Args:
            requests: at most ``batch_size`` of them.
            embeddings: image embeddings, float32 [n, E], not normalised; None in txt mode.

        Returns:
            Per request an image, uint8 [size, size, 3], or None where a value was not finite.

        Raises:
            ValueError: no request, or more than a batch of them.
        """
        if not 0 < len(requests) <= self.batch_size:
            raise ValueError(f"{len(requests)} requests for a batch of {self.batch_size}")
        batch = self.prepare(requests, embeddings)
        with self._timed("denoising"):
            latents = self.denoise(batch)
        with self._timed("decoding"):
            pixels, finite = self.decode(latents)
            pixels, finite = pixels[: len(requests)].cpu().numpy(), finite[: len(requests)].cpu().tolist()
        return [image if good else None for image, good in zip(pixels, finite)]

    @torch.inference_mode()
    def prepare(self, requests: Sequence[ViewRequest], embeddings: torch.Tensor | None) -> Inputs:
        """Draw the noise of each image from its own generator (embedding first, then latents) and fill up the batch.

        ``embeddings`` are [B, E], of the requests' images.
        """
        pipeline, device, dtype = self.loaded.pipeline, self.loaded.device, self.loaded.dtype
        generators = [_generator(request.seed) for request in requests]
        labels = []
        if self.loaded.mode != "txt":
            for request, generator, embedding in zip(requests, generators, embeddings, strict=True):
                # On the CPU in float32, whatever the device and the precision: the same chance everywhere.
                noise = torch.randn(1, self.loaded.embedding_dim, generator=generator)
                labels.append(
                    pipeline.noise_image_embeddings(
                        embedding[None].to(device, dtype),
                        noise_level=request.noise_level,
                        noise=noise.to(device, dtype),
                    )
                )
        shape = (1, *self.loaded.latent_shape)
        latents = [torch.randn(shape, generator=generator) for generator in generators]
        missing = self.batch_size - len(requests)
        latents += latents[-1:] * missing
        labels += labels[-1:] * missing
        filled = [*requests, *[requests[-1]] * missing]
        return Inputs(
            latents=torch.cat(latents).to(device, dtype),
            prompts=self._prompt_embeddings([request.prompt for request in filled]),
            class_labels=torch.cat(labels) if labels else None,
            guidance=torch.tensor([r.guidance_scale for r in filled]).to(device, dtype).view(-1, 1, 1, 1),
            generators=generators + [_generator(requests[-1].seed) for _ in range(missing)],
        )

    @torch.inference_mode()
    def denoise(self, batch: Inputs) -> torch.Tensor:
        """Latents [B, C, h, w] after the last step."""
        pipeline, scheduler = self.loaded.pipeline, self.loaded.pipeline.scheduler
        scheduler.set_timesteps(self.view.steps, device=self.loaded.device)
        extra = pipeline.prepare_extra_step_kwargs(batch.generators, 0.0)
        latents = batch.latents * scheduler.init_noise_sigma
        prompts, labels = batch.prompts, batch.class_labels
        both_prompts = torch.cat([self._prompt_embeddings([""]).expand_as(prompts), prompts])
        # Without condition: the whole vector is zero, the embedding of the noise level too.
        both_labels = None if labels is None else torch.cat([torch.zeros_like(labels), labels])
        for number, step in enumerate(scheduler.timesteps):
            # Where no image is guided the unconditional half is not computed at all.
            guided = self.view.guides(number, len(scheduler.timesteps))
            inputs = scheduler.scale_model_input(torch.cat([latents, latents]) if guided else latents, step)
            given = (both_prompts, both_labels) if guided else (prompts, labels)
            predicted = self.predict(inputs, step, *given)
            if guided:
                without, conditioned = predicted.chunk(2)
                predicted = without + batch.guidance * (conditioned - without)
            latents = scheduler.step(predicted, step, latents, **extra, return_dict=False)[0]
        if self.loaded.device.type == "cuda":
            torch.cuda.synchronize()  # or the time would be booked on the decoder
        return latents

    def predict(
        self, inputs: torch.Tensor, step: torch.Tensor, prompts: torch.Tensor, labels: torch.Tensor | None
    ) -> torch.Tensor:
        """One pass of the UNet: latents [B, 4, h, w], prompts [B, L, D], class labels [B, C] to noise [B, 4, h, w]."""
        conditions = {} if labels is None else {"class_labels": labels}
        return self.loaded.pipeline.unet(inputs, step, encoder_hidden_states=prompts, return_dict=False, **conditions)[
            0
        ]

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels uint8 [B, size, size, 3], and whether all of an image's values were finite, bool [B]."""
        vae = self.loaded.pipeline.vae
        parts = (latents / vae.config.scaling_factor).split(self.view.decode_batch_size or self.batch_size)
        decoded = torch.cat([vae.decode(part, return_dict=False)[0] for part in parts])
        finite = decoded.isfinite().flatten(1).all(1)
        pixels = self.loaded.pipeline.image_processor.postprocess(decoded.float(), output_type="pt")
        return (pixels.nan_to_num() * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous(), finite

    @torch.inference_mode()
    def is_order_independent(self, requests: Sequence[ViewRequest], embeddings: torch.Tensor | None) -> bool:
        """Whether one step of the UNet and a decoding give the same bits to images in other places of a batch.

        ``embeddings`` is [B, E], of the requests.
        """
        batch = self.prepare(requests, embeddings)
        step = self._first_step()
        straight = self.predict(batch.latents, step, batch.prompts, batch.class_labels)
        rolled = self.predict(
            batch.latents.roll(1, 0),
            step,
            batch.prompts.roll(1, 0),
            None if batch.class_labels is None else batch.class_labels.roll(1, 0),
        )
        vae, part = self.loaded.pipeline.vae, self.view.decode_batch_size or self.batch_size
        decoded = vae.decode(straight[:part], return_dict=False)[0]
        decoded_rolled = vae.decode(straight[:part].roll(1, 0), return_dict=False)[0]
        return torch.equal(straight.roll(1, 0), rolled) and torch.equal(decoded.roll(1, 0), decoded_rolled)

    def _first_step(self) -> torch.Tensor:
        scheduler = self.loaded.pipeline.scheduler
        scheduler.set_timesteps(self.view.steps, device=self.loaded.device)
        return scheduler.timesteps[0]

    def _prompt_embeddings(self, prompts: Sequence[str]) -> torch.Tensor:
        """Text embeddings [n, tokens, width], each distinct prompt encoded once, in batches of the fixed shape."""
        wanted = dict.fromkeys(prompts)
        new = [prompt for prompt in wanted if prompt not in self._prompts]
        with self._timed("encoding"):
            for start in range(0, len(new), self.batch_size):
                part = new[start : start + self.batch_size]
                filled = part + [""] * (self.batch_size - len(part))
                encoded, _ = self.loaded.pipeline.encode_prompt(filled, self.loaded.device, 1, False)
                self._prompts.update(zip(part, encoded.unbind(), strict=False))
                self.prompts_truncated += sum(map(self._is_truncated, part))
        for prompt in wanted:
            self._prompts.move_to_end(prompt)
        result = torch.stack([self._prompts[prompt] for prompt in prompts])
        while len(self._prompts) > PROMPTS_KEPT:
            self._prompts.popitem(last=False)
        return result

    def _is_truncated(self, prompt: str) -> bool:
        tokenizer = self.loaded.pipeline.tokenizer
        return len(tokenizer(prompt).input_ids) > tokenizer.model_max_length

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[what] += time.perf_counter() - start
