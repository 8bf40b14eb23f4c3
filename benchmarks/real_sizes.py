"""The published studies' models at their real size, with random weights: one step of each stage, its memory and time.

    python benchmarks/real_sizes.py                     # every step, each in a process of its own; writes the results
    python benchmarks/real_sizes.py --only cc3m.train   # some of them; the others' results are kept

Encoders, pipelines, losses and settings are those of ``config/cc3m.yaml`` and ``config/imagenet.yaml``, run by the
stages' own functions. On a GPU batch sizes and precision are the configuration's too, and memory is what torch
allocated on it. On a CPU the batches are the smallest that work, half precision is bfloat16, and memory is the largest
that the process held, with libraries (some 0.5 GB) and, for pipelines, the files that they were read from.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextModel

from genview import atomic, parquet, placement, tables
from genview.config import load as configuration
from genview.config.dataset import Dataset
from genview.config.encoders import Encoder
from genview.config.study import Study
from genview.config.training import Run
from genview.data import ingest, tars
from genview.encoders import look
from genview.foreground import pca
from genview.generation import embeddings, jpeg, pipelines
from genview.generation.plan import ViewRequest
from genview.generation.sampler import Sampler
from genview.training.data import quality_features
from genview.training.job import Job, Quality
from genview.training.loop import trainer as loop

sys.path.insert(0, str(Path(__file__).parent))
import record
import unclip_architecture as unclip

OUTPUT = record.RESULTS / "real_sizes.json"
STAMP = {"stage": "benchmark", "study": "benchmark", "parameters": "", "code": ""}
ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")


def parameters(*modules: torch.nn.Module) -> int:
    """Parameters of some modules."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of a call, and what it returned."""
    start = time.perf_counter()
    result = function()
    if ON_GPU:
        torch.cuda.synchronize()
    return time.perf_counter() - start, result


def random_encoder(study: Study, name: str) -> Encoder:
    """An encoder of the study without its weights."""
    return study.encoders[name].model_copy(update={"pretrained": "random", "revision": None, "sha256": None})


def encode(study: Study, name: str, batch: int) -> dict:
    """Tokens and embeddings of a batch."""
    config = random_encoder(study, name)
    loaded = look.load(config, DEVICE)
    images = torch.randn(batch, 3, loaded.image_size, loaded.image_size)
    seconds, (tokens, vectors) = timed(lambda: loaded.encode(images))
    assert tokens.isfinite().all() and vectors.isfinite().all()
    return {
        "model": config.model,
        "batch": batch,
        "precision": config.precision if ON_GPU else "fp32",
        "parameters": {"image tower": parameters(loaded.tower), "with text tower": parameters(loaded.model)},
        "weights_bytes": 4 * parameters(loaded.tower),
        "shapes": {"tokens": list(tokens.shape), "embeddings": list(vectors.shape)},
        "seconds": seconds,
    }


def save_text_to_image(folder: Path) -> Path:
    """A Stable Diffusion 2.1 pipeline with random weights of torch's default type."""
    plain = {"class_embed_type": None, "projection_class_embeddings_input_dim": None}
    StableDiffusionPipeline(
        unet=UNet2DConditionModel(**{**unclip.UNET, **plain}),
        vae=AutoencoderKL(**unclip.AUTOENCODER),
        text_encoder=CLIPTextModel(unclip.TEXT),
        tokenizer=unclip.tokenizer(folder.parent / "tokenizer"),
        scheduler=PNDMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
            skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False,
        ),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def generate(study: Study, name: str, batch: int) -> dict:
    """A batch of views at the pipeline's own size, one denoising step, decoded and compressed."""
    view = study.views[name]
    precision = view.precision if ON_GPU else "bf16"
    view = view.model_copy(
        update={"steps": 1, "batch_size": batch, "precision": precision, "variant": None, "compile": False}
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        torch.set_default_dtype(placement.DTYPES[precision])  # the weights are born in half precision: half the memory
        save_text_to_image(folder) if view.mode == "txt" else unclip.save_random(folder, placement.DTYPES[precision])
        torch.set_default_dtype(torch.float32)
        view = view.model_copy(update={"model": str(folder)})
        loaded = pipelines.load(view, DEVICE)
    if ON_GPU:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    vectors, encoding = None, 0.0
    if view.mode != "txt":
        picture = Image.new("RGB", (256, 256), (90, 120, 60))
        encoding, found = timed(lambda: embeddings.encode(loaded, [picture], 1))
        vectors = torch.from_numpy(np.repeat(found, batch, 0))
    level = None if view.mode == "txt" else 200
    caption = "" if view.mode == "img" else "a photograph of a dog on a beach"
    wanted = [ViewRequest(str(i), 0, caption, caption, level, 8.0, i) for i in range(batch)]
    sampler = Sampler(loaded, view)
    seconds, images = timed(lambda: sampler.sample(wanted, vectors))
    assert all(image is not None for image in images), "the image is not finite"
    parts = {key: part for key, part in loaded.pipeline.components.items() if isinstance(part, torch.nn.Module)}
    counted = {key: parameters(part) for key, part in parts.items()}
    return {
        "model": "SD 2.1" if view.mode == "txt" else "SD 2.1 unCLIP",
        "mode": view.mode,
        "batch": batch,
        "precision": precision,
        "denoising_steps": 1,
        "parameters": counted,
        "weights_bytes": sum(counted.values()) * torch.finfo(loaded.dtype).bits // 8,
        "shapes": {"latents": [batch, *loaded.latent_shape], "image": list(images[0].shape)},
        "jpeg_bytes": len(jpeg.encode(images[0], view)),
        "seconds": seconds,
        "seconds_by_part": {"encoding the original": encoding, **sampler.seconds},
    }


def train(study: Study, name: str, batch: int) -> dict:
    """One step of a run with all its losses, its checkpoint and its exported model; the quality features before."""
    run = study.runs[name]
    changes = {
        "epochs": 1, "batch_size": batch, "gpus_per_node": 1, "nodes": 1, "log_every_steps": 1,
        "method": {**run.method.model_dump(), "switch_epoch": 0},
        "optimizer": {**run.optimizer.model_dump(), "warmup_epochs": 0},
        "data": {**run.data.model_dump(), "workers": 0, "missing": "original"},
    }  # fmt: skip
    run = Run.model_validate({**run.model_dump(), **changes})
    with tempfile.TemporaryDirectory() as scratch:
        folder, dataset = Path(scratch), Dataset(source="scenes", count=batch, shards=1)
        manifest, judge = folder / "manifest.parquet", random_encoder(study, study.quality_encoder)
        judge = judge.model_copy(update={"batch_size": min(judge.batch_size, batch)})
        ingest.run(
            dataset, seed=1, manifest=manifest, rejected=folder / "rejected.parquet", images=folder / "images.tar",
            stamp=STAMP, failures=folder / "failures.csv",
        )  # fmt: skip
        views = {name: (empty_views(folder / name),) for name in run.data.views}  # originals stand in for them
        width = look.load(judge, "cpu").token_dim
        direction = np.random.default_rng(0).standard_normal(width)
        component = folder / "pca.safetensors"
        pca.save(pca.PCA(np.zeros(width), direction / np.linalg.norm(direction), 0.5, 1, threshold=0.0), component)
        features = ()
        if run.uses_text_quality:
            quality_features.run(
                dataset, judge, manifest=manifest, group="0-of-1", component=component,
                output=folder / "quality.safetensors", stamp=STAMP,
            )  # fmt: skip
            features = (str(folder / "quality.safetensors"),)
        job = Job(
            run=run, name=name, dataset=dataset, manifest=str(manifest), views=views,
            quality=Quality(encoder=judge, component=str(component), features=features),
            model=str(folder / "model"), metrics=str(folder / "metrics.jsonl"),
            checkpoints=str(folder / "checkpoints"), logs=str(folder / "logs"),
        )  # fmt: skip
        if ON_GPU:
            torch.cuda.reset_peak_memory_stats()
        seconds, trainer = timed(lambda: loop.Trainer(job))
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            step, _ = timed(trainer.train)
        for parameter in trainer.method.parameters():
            kept.pop(parameter.untyped_storage().data_ptr(), None)
        line = json.loads(Path(job.metrics).read_text().splitlines()[-1])
        saved = sum(path.stat().st_size for path in Path(job.checkpoints).rglob("*.safetensors"))
    trained = parameters(trainer.method.model, trainer.method.head)
    return {
        "model": f"{run.model.architecture} with {study.encoders[study.quality_encoder].model} as judge",
        "batch": batch,
        "precision": run.precision,
        "parameters": {"encoder": parameters(trainer.method.model), "with projector": trained},
        "weights_bytes": 16 * trained + 4 * parameters(trainer.method.scorer.encoder.tower),
        "bytes_kept_for_the_backward_pass": sum(kept.values()),
        "checkpoint_bytes": saved,
        "images_a_sample": 1 + len(run.data.views),
        "losses": {key: value for key, value in line.items() if key.endswith("loss")},
        "seconds": step,
        "seconds_of_loading": seconds,
    }


def empty_views(folder: Path) -> tuple[str, str]:
    """A shard of views without any."""
    folder.mkdir()
    with tars.writing(folder / "0-of-1.tar"):
        pass
    parquet.write({name: [] for name in tables.VIEWS.names}, tables.VIEWS, folder / "0-of-1.parquet", **STAMP)
    return str(folder / "0-of-1.tar"), str(folder / "0-of-1.parquet")


STEPS: dict[str, tuple[Callable, str, str, int]] = {
    "cc3m.encode.vit_h": (encode, "cc3m", "vit_h", 2),
    "cc3m.encode.convnext": (encode, "cc3m", "convnext", 2),
    "cc3m.generate.img": (generate, "cc3m", "img", 1),
    "cc3m.generate.txt": (generate, "cc3m", "txt", 1),
    "cc3m.generate.imgtxt": (generate, "cc3m", "imgtxt", 1),
    "cc3m.train": (train, "cc3m", "genviewpp", 2),
    "cc3m.train.twice": (train, "cc3m", "genviewpp", 4),
    "imagenet.generate.img": (generate, "imagenet", "img", 1),
    "imagenet.train": (train, "imagenet", "genview", 2),
    "imagenet.train.twice": (train, "imagenet", "genview", 4),
}
"""Function, study, name, and samples on a CPU. ImageNet's encoders are those of CC3M."""


def measure(name: str) -> dict:
    """One step, in this process."""
    function, study_name, part, batch = STEPS[name]
    study = configuration.load(f"config/{study_name}.yaml")
    if ON_GPU:
        block = {encode: study.encoders, generate: study.views, train: study.runs}[function][part]
        batch = block.batch_size * (2 if name.endswith("twice") else 1)
        torch.cuda.reset_peak_memory_stats()
    result = function(study, part, batch)
    result["peak_bytes_of_the_process"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if ON_GPU:
        result["peak_bytes_on_the_gpu"] = torch.cuda.max_memory_allocated()
    return result


def main() -> None:
    """Measure all steps, one process after the other, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=list(STEPS), choices=list(STEPS), metavar="STEP")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--step", choices=list(STEPS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(measure(options.step)))
        return
    results = json.loads(options.output.read_text())["steps"] if options.output.exists() else {}
    for name in options.only:
        command = [sys.executable, __file__, "--step", name]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"{name} failed")
        results[name] = json.loads(done.stdout.splitlines()[-1])
        results[name]["conditions"] = record.conditions("diffusers", "open_clip_torch")
        peak = results[name].get("peak_bytes_on_the_gpu", results[name]["peak_bytes_of_the_process"])
        print(f"{name}: {peak / 1e9:.1f} GB, {results[name]['seconds']:.1f} s", flush=True)
        atomic.write_json(options.output, {"steps": results})


if __name__ == "__main__":
    main()
