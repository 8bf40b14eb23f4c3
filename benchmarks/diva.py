"""A step of DIVA beside its diffusion model's forward and backward pass alone: time and memory.

    python benchmarks/diva.py            # the shipped models
    python benchmarks/diva.py --real     # OpenAI's ViT-L/14 and Stable Diffusion 2.1-base's size, random weights

A step is what the training loop does with a batch: latents once, then for each draw the tower, the projection, the
UNet and a backward pass; at its end the optimiser. Beside it, in the same process and in turns: the UNet's forward pass
and its backward pass into the context, once for each draw; the tower's; the autoencoder's. The step cannot be shorter
than their sum, and ``ratio_to_the_parts`` says by how much it is longer. Each way of keeping activations is measured in
a process of its own, whose largest memory is reported.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import methods
import record
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel

from genview.config.encoders import Encoder
from genview.config.training import Run
from genview.diva.teacher import Teacher
from genview.encoders import build
from genview.encoders.architecture import describe
from genview.training.data.batch import Batch, Group
from genview.training.methods.diva import DIVA
from genview.training.methods.method import Step

sys.path.insert(0, str(Path(__file__).parent))
import unclip_architecture as unclip

OUTPUT = record.RESULTS / "diva.json"


def save_base(folder: Path) -> Path:
    """A pipeline of Stable Diffusion 2.1-base's architecture with random weights."""
    torch.manual_seed(0)
    plain = {"class_embed_type": None, "projection_class_embeddings_input_dim": None, "sample_size": 64}
    StableDiffusionPipeline(
        unet=UNet2DConditionModel(**{**unclip.UNET, **plain}),
        vae=AutoencoderKL(**{**unclip.AUTOENCODER, "sample_size": 512}),
        text_encoder=CLIPTextModel(unclip.TEXT),
        tokenizer=unclip.tokenizer(folder.parent / "tokenizer"),
        scheduler=DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def method_of(options: argparse.Namespace, device: torch.device, scratch: Path) -> DIVA:
    """The method as the training assembles it."""
    condition = "openai-vit-l-14-224" if options.real else {"tokens": "all", "prior": "mean"}
    teacher = {"model": str(save_base(scratch / "model")) if options.real else "small/text2image"}
    run = Run.model_validate(
        {
            "method": {
                "name": "diva",
                "draws": options.draws,
                "teacher": {**teacher, "gradient_checkpointing": options.checkpointing == "on"},
                "condition": condition,
            },
            "model": {"initial": "tower"},
        }
    )
    encoder = Encoder(model="ViT-L-14", pretrained="random") if options.real else Encoder()
    frozen = Teacher(run.method.teacher, run.method.condition.prompt, device)
    architecture = describe(run.model, text=False, image_size=None, initial=encoder)
    model = build.build(architecture, run.model, seed=0, projection=True)
    size = architecture.image_size
    return DIVA(run, model, frozen, architecture.preprocess_cfg, image_size=size, seed=0).to(device).train()


def alone(method: DIVA, batch: Batch, draws: int) -> dict[str, Callable[[], None]]:
    """The parts of a step, each by itself, as often as a step has them."""
    step, images = Step(0, 10, 10), batch.views[0]
    with torch.no_grad():
        latents = method.teacher.latents(method.pixels(batch))
        small = torch.nn.functional.interpolate(images, (method.image_size,) * 2, mode="bilinear", antialias=True)
        token, local = method.model.dense(small)
        context = method.recap(token, local, [0] * len(images))
    noise = method.teacher.draw(latents.shape, [0] * len(images))
    trained = [parameter for parameter in method.model.parameters() if parameter.requires_grad]

    def unet() -> None:
        for _ in range(draws):
            given = context.detach().requires_grad_()
            method.teacher.error(latents, given, noise).backward()

    def tower() -> None:
        for _ in range(draws):
            seen = method.model.dense(small)
            (seen[0].sum() + seen[1].sum()).backward()
        for parameter in trained:
            parameter.grad = None

    def autoencoder() -> None:
        method.teacher.latents(method.pixels(batch))

    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=1e-4, momentum=0.9)

    def whole() -> None:
        optimizer.zero_grad()
        prepared = method.prepared(batch)
        for draw in range(draws):
            terms, _ = method(prepared, step._replace(draw=draw))
            (terms["loss"] * method.share(draw, 1)).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()

    return {"unet": unet, "tower": tower, "autoencoder": autoencoder, "step": whole}


def measure(options: argparse.Namespace) -> dict:
    """Both ways of one kind of keeping activations, in this process."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as scratch:
        method = method_of(options, device, Path(scratch))
    side = method.teacher.size
    views = torch.randn(1, options.batch, 3, side, side, device=device)
    group = Group(views, None, (0,), torch.zeros(1, options.batch, dtype=torch.bool))
    batch = Batch([str(index) for index in range(options.batch)], (group,))
    seconds = methods.alternate(alone(method, batch, options.draws), options.repeats, device)
    parts = seconds["unet"] + seconds["tower"] + seconds["autoencoder"]
    held = torch.cuda.max_memory_allocated() if device.type == "cuda" else methods.largest_memory()
    return {
        "pixels": side,
        "seconds": seconds,
        "ratio_to_the_unet": seconds["step"] / seconds["unet"],
        "ratio_to_the_parts": seconds["step"] / parts,
        "peak_memory_bytes": held,
        "images_per_second": options.batch / seconds["step"],
    }


def main() -> None:
    """Measure both kinds, print, and write the results beside those of the other size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", action="store_true", help="the published models' size")
    parser.add_argument("--batch", type=int, help="images of a step; default 32 of the shipped, 1 of the real size")
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=None, help="default 7, of the real size 1")
    parser.add_argument("--checkpointing", choices=["on", "off"], help="one of these, in this process; prints it alone")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    options.batch = options.batch or (1 if options.real else 32)
    options.repeats = options.repeats or (1 if options.real else 7)
    if options.checkpointing:
        print(json.dumps(measure(options)))
        return
    size = "real" if options.real else "shipped"
    found: dict = {"batch": options.batch, "draws": options.draws}
    for kind in ("off", "on"):
        arguments = [f"--{name}={getattr(options, name)}" for name in ("batch", "draws", "repeats")]
        command = [sys.executable, __file__, "--checkpointing", kind, *arguments, *["--real"] * options.real]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found[f"gradient checkpointing {kind}"] = json.loads(done.stdout.splitlines()[-1])
    known = json.loads(options.output.read_text(encoding="utf-8")) if options.output.is_file() else {}
    found["conditions"] = record.conditions("diffusers", "open_clip_torch")
    record.write({**{name: known[name] for name in ("shipped", "real") if name in known}, size: found}, options.output)


if __name__ == "__main__":
    main()
