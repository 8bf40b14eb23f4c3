"""A run of DIVA: what learns and what must not, that it goes on where it stopped, and what it leaves behind."""

import json
import time
from pathlib import Path

import open_clip
import pytest
import torch
from processes import in_two_processes
from safetensors.torch import load_file
from training_study import study, weights

from genview.config import load
from genview.config.diva import PRESETS
from genview.config.encoders import Encoder
from genview.config.training import Run
from genview.encoders import look
from genview.errors import GenviewError
from genview.training import assembly
from genview.training.data.samples import Order, loader
from genview.training.loop import trainer
from genview.training.loop.step import Stepper
from genview.training.loop.stopping import Stopped
from genview.training.methods.method import Step

RANDOM = {"tokens": "random_count", "count": 5}


def a_job(folder, *, count=16, initial=True, **changes):
    """Two steps of eight images from the small encoder, by the small diffusion model."""
    method = {"name": "diva", "condition": RANDOM, "projector": None, **changes.pop("method", {})}
    job = study(
        folder, count=count, views=(), quality=False, epochs=1, data={"slots": "diva"}, method=method,
        **{"optimizer": {"base_learning_rate": 0.1, "warmup_epochs": 0, "scale_learning_rate": False}, **changes},
    )  # fmt: skip
    return job.model_copy(update={"initial": Encoder()}) if initial else job
