"""The card of a trained model."""

from typing import Any

from genview import __version__
from genview.encoders.architecture import Architecture
from genview.training.job import Job

CARD = """\
---
library_name: open_clip
tags: [genview, contrastive-pretraining]
---
# {name}

Pretrained by GenView {version}, run `{name}` of study `{study}`.

| | |
|---|---|
| image tower | {tower}, {size} x {size} pixels |
| text tower | {text} |
| method | {method} |
| data | {images} originals; per sample {views} views{sets} |
| length | {epochs} epochs, {steps} steps of {samples} samples |

Weights: `open_clip_model.safetensors`{averaged}. `run.json` holds the effective configuration and the data's digests.

```python
model, _, preprocess = open_clip.create_model_and_transforms("local-dir:<this folder>")
tower = timm.create_model("local-dir:<this folder>/timm")  # the image tower alone
```
{warning}"""


def _text(architecture: Architecture) -> str:
    if architecture.keeps_text:
        return "of the initial encoder, unchanged"
    return "CLIP, trained" if architecture.has_text else "none: a placeholder"


def _other_code(record: dict[str, Any]) -> str:
    """What was accepted: steps that other code than the last made."""
    told = [f"up to step {step} with the code `{digest}`" for step, digest in record.get("codes", ())]
    if not told:
        return ""
    return f"\nTrained {', '.join(told)}, and on with `{record['code']}`: accepted by `checkpoints.accept`.\n"


def text(job: Job, architecture: Architecture, record: dict[str, Any]) -> str:
    """What ``README.md`` of the model says of a run."""
    run = job.run
    sets = ", ".join(f"{name} ({share:g})" for name, share in run.data.views.items())
    return CARD.format(
        name=job.name,
        version=__version__,
        study=job.study,
        tower=architecture.tower,
        size=architecture.image_size,
        text=_text(architecture),
        method=run.method.name,
        images=record["images"],
        views=record["views_per_sample"],
        sets=f", view sets: {sets}" if sets else ", no generated ones",
        epochs=run.epochs,
        steps=record["steps"],
        samples=record["samples_per_step"],
        averaged=f" (exponential moving average, decay {run.ema})" if run.ema else "",
        warning=_other_code(record)
        + (
            ""
            if architecture.has_text or architecture.keeps_text
            else "\nNo loss of this run used captions: the text tower is an untrained placeholder, without which\n"
            "open_clip cannot load a model. Use the image tower alone.\n"
        ),
    )
