"""The parts of ``on_gpu.py``: each measures one stage's work on the device, beside the plain way of doing it."""

import contextlib
import functools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import collection
import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms import v2

from genview import loading, placement
from genview.config import load as configuration
from genview.config.augmentation import PRESETS, Augmentation, Slot
from genview.config.dataset import Dataset
from genview.config.encoders import Encoder
from genview.config.training import Run
from genview.config.views import ViewSet
from genview.encoders import look
from genview.evaluation import logistic
from genview.foreground import pca
from genview.generation import pipelines
from genview.generation.plan import ViewRequest
from genview.generation.sampler import Sampler
from genview.guidance import rubric
from genview.guidance.chat_model import ChatModel
from genview.training.data import quality_features
from genview.training.data.augment import Augment
from genview.training.data.develop import Developer
from genview.training.data.samples import loader
from genview.training.job import Job, Quality
from genview.training.loop import trainer as loop
from genview.training.loop.operations import of_a_sample

sys.path.append(str(Path(__file__).parents[1] / "tests"))
import chat_models
import unclip_architecture
from transformers import LlamaConfig, LlamaForCausalLM

ROOT = Path(__file__).parents[1]


def operations(work, *arguments) -> float:
    """Floating-point operations of a call's matrix products and convolutions."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        work(*arguments)
    return float(counter.get_total_flops())


def ceilings(bench) -> None:
    """What the device can do: matrix products by type, copies."""
    side = 8192 if bench.on_gpu else 256
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        left, right = (torch.randn(side, side, device=bench.device).to(dtype) for _ in range(2))
        seconds = bench.seconds(torch.matmul, left, right, repeats=20, warm=3)
        bench.rates[dtype] = 2 * side**3 / seconds
    source = torch.randn(2**30 // 4 if bench.on_gpu else 2**16, device=bench.device)
    target = torch.empty_like(source)
    copied = 2 * source.nbytes / bench.seconds(lambda: target.copy_(source), repeats=20, warm=3)
    rates = {str(dtype).removeprefix("torch."): rate for dtype, rate in bench.rates.items()}
    bench.write("ceilings", matrix_operations_per_second=rates, copied_bytes_per_second=copied)


def one_by_one(pixels: torch.Tensor, settings: Augmentation):
    """The plain way on a device: torchvision's transforms of the second half, an image at a time."""
    transform = v2.Compose([
        v2.ToDtype(torch.float32, scale=True),
        v2.RandomHorizontalFlip(settings.flip),
        v2.RandomApply([v2.ColorJitter(*settings.jitter_strength)], settings.jitter),
        v2.RandomGrayscale(settings.grey),
        v2.RandomApply([v2.GaussianBlur(23, (0.1, 2.0))], settings.blur),
        v2.Normalize((0.5,) * 3, (0.2,) * 3),
    ])  # fmt: skip
    return lambda: [transform(image) for image in pixels]


def augmentation(bench) -> None:
    """The second half: compiled, eager, with the clean crop, with rotation and elastic; agreement with a CPU."""
    count, side = (512, 224) if bench.on_gpu else (4, 32)
    pixels = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, device=bench.device)
    figures: dict = {
        "views": count,
        "side": side,
        "plain": "torchvision.transforms.v2, an image at a time, on the device",
    }
    ways = {
        "compiled": (Augmentation(), {}),
        "eager": (Augmentation(), {"compile": False}),
        "compiled_with_clean_crop": (Augmentation(), {"clean": True}),
        "compiled_rotation_and_elastic": (Slot.model_validate(PRESETS["caug+"][0]), {}),
    }
    few = min(count, 32)
    for name, (settings, options) in ways.items():
        augment = Augment(settings, side)
        numbers = torch.stack([augment.numbers(seed) for seed in range(count)]).to(bench.device)
        developer = Developer(augment.steps, (0.5,) * 3, (0.2,) * 3, **options)
        bench.forget()
        seconds = bench.seconds(developer, pixels, numbers, repeats=20, warm=3)
        here = developer(pixels, numbers)[0][:few].cpu()
        there = developer(pixels[:few].cpu(), numbers[:few].cpu())[0]
        figures[name] = {
            "views_per_second": count / seconds,
            "peak_memory_bytes": bench.memory(),
            "largest_difference_from_a_cpu": float((here - there).abs().max()) * 0.2,
            "share_of_values_above_0.001": float(((here - there).abs() * 0.2 > 1e-3).float().mean()),
        }
        bench.write("augmentation", **figures)
    plain = bench.seconds(one_by_one(pixels[:64], Augmentation()), repeats=2)
    figures["plain_views_per_second"] = min(count, 64) / plain
    figures["ratio"] = figures["compiled"]["views_per_second"] / figures["plain_views_per_second"]
    bench.write("augmentation", **figures)


def encoding(bench) -> None:
    """Frozen encoders of the paper's study, images on the device."""
    study = configuration.load(ROOT / "config" / "cc3m.yaml")
    encoders = {
        name: study.encoders[name].model_copy(update={"pretrained": "random", "revision": None, "sha256": None})
        for name in ("vit_h", "convnext")
    }
    if not bench.on_gpu:
        encoders = {"small": Encoder(model="small/clip")}
    for name, settings in encoders.items():
        bench.forget()
        loaded = look.load(settings, bench.device)
        images = torch.randn(1024 if bench.on_gpu else 4, 3, loaded.image_size, loaded.image_size, device=bench.device)
        single = operations(loaded.encode, images[:1])
        dtype, sizes = loaded.autocast or torch.float32, [1, 64, 256, 1024] if bench.on_gpu else [1, 4]
        found = {
            "model": settings.model, "precision": settings.precision, "operations_per_image": single, "batches": {},
            "plain": "open_clip's encode_image, float32, batch 256",
        }  # fmt: skip
        for size in sizes:
            bench.forget()
            seconds = bench.seconds(loaded.encode, images[:size], repeats=5)
            found["batches"][size] = {
                "images_per_second": size / seconds,
                "share_of_peak": bench.share(size * single, seconds, dtype),
                "peak_memory_bytes": bench.memory(),
            }
        size = sizes[-2]
        loaded.model.to(bench.device)
        with torch.no_grad():
            plain = bench.seconds(loaded.model.encode_image, images[:size], repeats=2)
        found["plain_images_per_second"] = size / plain
        found["ratio"] = found["batches"][size]["images_per_second"] * plain / size
        bench.write("encoding", **{name: found})


@contextlib.contextmanager
def unclip(bench, view: ViewSet):
    """The pipeline of Stable Diffusion 2.1 unCLIP with random weights; the small one without a GPU."""
    with tempfile.TemporaryDirectory() as scratch:
        if bench.on_gpu:
            folder = unclip_architecture.save_random(Path(scratch) / "model", placement.DTYPES[view.precision])
            view = view.model_copy(update={"model": str(folder)})
        loaded = pipelines.load(view, bench.device)
    loaded.pipeline.set_progress_bar_config(disable=True)
    yield loaded


def batch_of(bench, loaded, view: ViewSet, size: int) -> dict:
    """Seconds of a batch of images, from the conditions to pixels."""
    sampler = Sampler(loaded, view.model_copy(update={"batch_size": size, "decode_batch_size": min(size, 8)}))
    wanted = [ViewRequest(str(i), 0, f"a picture {i}", f"a picture {i}", 200, 8.0, i) for i in range(size)]
    vectors = torch.randn(size, loaded.embedding_dim, generator=torch.Generator().manual_seed(0))
    bench.forget()
    seconds = bench.seconds(sampler.sample, wanted, vectors, repeats=2)
    return {
        "seconds_per_image": seconds / size,
        "peak_memory_bytes": bench.memory(),
        "seconds_of_a_batch_by_part": {name: value / 3 for name, value in sampler.seconds.items()},
    }


def generation(bench) -> None:
    """Views at 768 px: batches of one form, eager and compiled, against one diffusers call an image."""
    view = ViewSet(mode="imgtxt", steps=20 if bench.on_gpu else 2, precision="fp16" if bench.on_gpu else "fp32")
    sizes = [1, 8, 16, 32] if bench.on_gpu else [1, 2]
    with unclip(bench, view) as loaded:
        single = view.model_copy(update={"batch_size": 1})
        wanted = [ViewRequest("0", 0, "a picture", "a picture", 200, 8.0, 0)]
        work = operations(Sampler(loaded, single).sample, wanted, torch.zeros(1, loaded.embedding_dim))
        figures = {
            "model": "SD 2.1 unCLIP" if bench.on_gpu else "small/unclip", "pixels": loaded.size, "steps": view.steps,
            "precision": view.precision, "operations_per_image": work, "eager": {}, "compiled": {},
            "plain": "diffusers' pipeline, one call an image, which encodes the original too",
        }  # fmt: skip
        picture = np.full((256, 256, 3), 90, np.uint8)

        def call() -> None:
            loaded.pipeline(
                image=[Image.fromarray(picture)], prompt=["a picture"], noise_level=200, guidance_scale=8.0,
                num_inference_steps=view.steps, generator=[torch.Generator().manual_seed(0)],
            )  # fmt: skip

        figures["plain_seconds_per_image"] = bench.seconds(call, repeats=2)
        for size in sizes:
            figures["eager"][size] = batch_of(bench, loaded, view, size)
            bench.write("generation", **figures)
        if bench.on_gpu and bench.left() > 150:
            loaded.pipeline.unet.compile(dynamic=False)
            loaded.pipeline.vae.decoder.compile(dynamic=False)
            figures["compiled"][16] = batch_of(bench, loaded, view, 16)
        for found in (figures["eager"], figures["compiled"]):
            for value in found.values():
                value["share_of_peak"] = bench.share(work, value["seconds_per_image"], loaded.dtype)
                value["ratio"] = figures["plain_seconds_per_image"] / value["seconds_per_image"]
        bench.write("generation", **figures)


def guidance(bench) -> None:
    """Scores of captions by a chat model of seven billion parameters; the published loop writes answers."""
    tokenizer = chat_models.tokenizer()
    small = {"vocab_size": len(tokenizer) + 8, **chat_models.SIZES}
    config = LlamaConfig(**({"max_position_embeddings": 4096} if bench.on_gpu else small))  # its defaults: 7 billion
    kind = torch.bfloat16 if bench.on_gpu else torch.float32
    torch.set_default_dtype(kind)
    with bench.device:
        model = LlamaForCausalLM(config).eval()
    torch.set_default_dtype(torch.float32)
    scorer = ChatModel(model, tokenizer, precision="bf16" if bench.on_gpu else "fp32")
    captions = [f"three small boats number {index} on a calm lake at night" for index in range(256)]
    figures = {
        "model": "Llama", "parameters": sum(p.numel() for p in model.parameters()), "precision": str(kind),
        "batches": {}, "plain": "a prompt at a time, answers written token by token",
    }  # fmt: skip
    for size in [64, 256] if bench.on_gpu else [2]:
        bench.forget()
        seconds = bench.seconds(scorer.probabilities, captions[:size], repeats=3)
        figures["batches"][size] = {"captions_per_second": size / seconds, "peak_memory_bytes": bench.memory()}
    text = tokenizer.apply_chat_template(rubric.question(captions[0]), tokenize=False, add_generation_prompt=True)
    inputs = tokenizer(text, return_tensors="pt", add_special_tokens=False).to(bench.device)
    figures["prompt_tokens"] = inputs["input_ids"].shape[1]
    options = {"do_sample": False, "pad_token_id": 0}

    @torch.inference_mode()
    def answer(tokens: int) -> None:
        model.generate(**inputs, max_new_tokens=tokens, min_new_tokens=tokens, **options)

    taken = {tokens: bench.seconds(answer, tokens, repeats=2) for tokens in (8, 72)}
    figures["plain_captions_per_second"] = {
        "8 tokens (measured)": 1 / taken[8],
        "1000 tokens (from the time of 8 and of 72)": 1 / (taken[8] + (taken[72] - taken[8]) * 992 / 64),
    }
    best = max(value["captions_per_second"] for value in figures["batches"].values())
    figures["ratio_to_8_tokens"] = best * taken[8]
    bench.write("guidance", **figures)


SMALL_SLOTS = {"slots": [{"image_size": 32}, {"image_size": 32, "crops": 2}]}


def run_of(bench, study, name: str, batch: int, epochs: int, workers: int) -> Run:
    """A method's run on ViT-B/16; of genviewpp the paper's, with all terms from the first epoch."""
    shape = {
        "epochs": epochs, "batch_size": batch, "gpus_per_node": 1, "nodes": 1, "log_every_steps": 5,
        "precision": "bf16" if bench.on_gpu else "fp32", "compile": bench.on_gpu, "checkpoints": {"keep": 1},
        "optimizer": {"warmup_epochs": 0}, "data": {"workers": workers}, "model": {"architecture": "base"},
    }  # fmt: skip
    if name == "genviewpp":
        run = study.runs["genviewpp"]
        method = {**run.method.model_dump(), "switch_epoch": 0}
        shape["data"].update(minimum_views=4)
    else:
        method = {"name": name}
        if not bench.on_gpu:
            shape["data"].update(SMALL_SLOTS)
    if not bench.on_gpu:
        shape["model"] = {"architecture": "tiny"}
        method.update({"projector": [32, 16]} if name == "genviewpp" else {})
    return Run.model_validate({**shape, "method": method})


def train(bench, name: str) -> None:
    """A method's whole loop from JPEGs to steps, and what its loader gives alone."""
    study = configuration.load(ROOT / "config" / "cc3m.yaml")
    judge = study.encoders["convnext"].model_copy(update={"pretrained": "random", "sha256": None, "batch_size": 256})
    if not bench.on_gpu:
        judge = Encoder(model="small/clip")
    batch, count, epochs, workers = (64, 1280, 4, 15) if bench.on_gpu else (4, 8, 1, 0)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        collection.write(folder, count, (256, 256))
        dataset, manifest, quality = Dataset(source="folder", path=str(folder)), str(folder / "manifest.parquet"), None
        run = run_of(bench, study, name, batch, epochs, workers)
        if run.uses_quality:
            width = look.load(judge, "cpu").token_dim
            direction = np.random.default_rng(0).standard_normal(width)
            component = pca.PCA(np.zeros(width), direction / np.linalg.norm(direction), 0.5, 1, threshold=0.0)
            pca.save(component, folder / "pca")
            quality_features.run(
                dataset, judge, manifest=manifest, group="0-of-1", component=folder / "pca",
                output=folder / "quality", stamp=collection.STAMP, workers=workers,
            )  # fmt: skip
            quality = Quality(encoder=judge, component=str(folder / "pca"), features=(str(folder / "quality"),))
        job = Job(
            run=run, name="benchmark", dataset=dataset, manifest=manifest, quality=quality,
            model=str(folder / "model"), metrics=str(folder / "metrics.jsonl"),
            checkpoints=str(folder / "checkpoints"), logs=str(folder / "logs"),
        )  # fmt: skip
        bench.forget()
        trainer = loop.Trainer(job)
        samples = trainer.assembly.samples
        trainer.train()
        lines = [json.loads(line) for line in (folder / "logs" / "throughput.jsonl").read_text().splitlines()]
        steady = lines[len(lines) // 2 :]

        def median(key: str) -> float:
            return float(np.median([line[key] for line in steady]))

        work = of_a_sample(trainer.method.eval(), samples, trainer.device) or 0.0
        rate = median("samples_per_second")
        bench.write(
            f"training_{name}", model=run.model.architecture, judge=quality and judge.model, batch=batch,
            views={size: len(views) for size, views in zip(samples.sizes, samples.groups)}, precision=run.precision,
            workers=workers, images="JPEG, 256 x 256", samples_per_second=rate,
            views_per_second=median("images_per_second"), data_wait_share=median("data_wait_share"),
            operations_per_sample=work, share_of_peak=bench.share(work * rate, 1, torch.bfloat16),
            peak_memory_bytes=bench.memory(),
        )  # fmt: skip
        order = trainer.order
        steps = order.steps_per_epoch * (2 if bench.on_gpu else 1)
        batches = loader(samples, order, rank=0, first_step=0, last_step=steps, workers=workers, on_gpu=bench.on_gpu)

        def read() -> None:
            views = sum(part.developed().count for part in loading.ahead(batches, bench.device))
            assert views == steps * sum(map(len, samples.groups))

        seconds = bench.seconds(read, repeats=1, warm=0)
        views = sum(map(len, samples.groups))
        bench.write(f"training_{name}", loader_alone_views_per_second=steps * batch * views / seconds)


def training_step(bench) -> None:
    """The step of genviewpp by its parts, beside a plain transcription of the published one (``training.py``)."""
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "step.json"
        real = ["--architecture", "base", "--encoder", "convnext_base_w", "--batch", "64", "--precision", "bf16"]
        options = [*real, "--steps", "8"] if bench.on_gpu else ["--batch", "4", "--steps", "1"]
        command = [sys.executable, str(Path(__file__).with_name("training.py")), *options, "--output", str(output)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        result = json.loads(output.read_text())
    result.pop("conditions")
    bench.write("training_step", plain="the published step, not compiled; nor is ours here", **result)


def probe(bench) -> None:
    """The cached linear probe: all penalties at once, against one after the other."""
    rows, width, classes = (100_000, 768, 100) if bench.on_gpu else (200, 8, 4)
    generator = torch.Generator(bench.device).manual_seed(0)
    features = torch.randn(rows, width, device=bench.device, generator=generator)
    labels = (features[:, :classes] + torch.randn(rows, classes, device=bench.device, generator=generator)).argmax(1)
    penalties = torch.logspace(-6, 0, 10, dtype=torch.float64)
    bench.forget()
    ours = bench.seconds(lambda: logistic.fit(features, labels, penalties, classes, iterations=50), repeats=1)
    memory = bench.memory()
    plain = bench.seconds(
        lambda: [logistic.fit(features, labels, one, classes, iterations=50) for one in penalties.split(1)],
        repeats=1, warm=0,
    )  # fmt: skip
    bench.write(
        "probe", rows=rows, width=width, classes=classes, penalties=len(penalties), iterations=50, seconds=ours,
        plain="one penalty after the other, on the device", plain_seconds=plain, ratio=plain / ours,
        peak_memory_bytes=memory,
    )  # fmt: skip


PARTS = {
    "ceilings": (ceilings, 5),
    "augmentation": (augmentation, 90),
    "training_genviewpp": (functools.partial(train, name="genviewpp"), 120),
    "encoding": (encoding, 60),
    "generation": (generation, 100),
    "training_mocov3": (functools.partial(train, name="mocov3"), 90),
    "training_dino": (functools.partial(train, name="dino"), 90),
    "training_step": (training_step, 60),
    "guidance": (guidance, 40),
    "probe": (probe, 20),
}
"""Each part and the seconds that it takes on a large GPU, in order of what a minute of it tells."""
