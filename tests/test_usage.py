"""Time spent waiting, and what of the device was used: if these fail, a GPU idles for days and no report says so."""

import contextlib
import json
import logging
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_disk
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from training_study import study

from genview import costs, loading, usage
from genview.config.encoders import Encoder
from genview.encoders import look
from genview.training.loop import trainer as loop

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 451, 3), dtype=np.uint8))


def slow(batches, seconds):
    for batch in batches:
        time.sleep(seconds)
        yield batch


def test_the_share_of_waiting_is_that_of_the_loops_and_is_kept_with_the_costs(tmp_path):
    log = tmp_path / "logs/x.log"
    log.parent.mkdir()
    log.touch()
    with costs.counted(tmp_path / "count", log, "made", gpus=0):
        time.sleep(0.2)  # a model is loaded
        for _ in usage.reading(slow([[1], [2, 3]], 0.15)):
            time.sleep(0.05)
    kept = costs.read(tmp_path / "count")
    assert 0.6 < kept["waiting_share"] < 0.85 and "peak_share" not in kept
    assert "share of the device's peak: unknown" in usage.in_words(kept)
    with costs.counted(tmp_path / "other", log, "made", gpus=0):
        pass
    assert "waiting_share" not in costs.read(tmp_path / "other"), "one job's time must not count as the next one's"


def test_the_share_of_the_peak_is_of_the_time_in_which_images_were_read():
    usage.begin()
    for _ in usage.reading([[0] * 50, [0] * 50], of_an_image=2e6, peak=1e10):
        time.sleep(0.1)
    assert usage.shares()["peak_share"] == pytest.approx(2e8 / (0.2 * 1e10), rel=0.2)


@pytest.mark.parametrize(
    ("name", "half", "expected"),
    [("NVIDIA H100 80GB HBM3", True, 989e12), ("NVIDIA H100 PCIe", True, 756e12), ("NVIDIA L40S", False, 91.6e12),
     ("NVIDIA L4", True, 121e12), ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", True, None), ("Of next year", True, None)],
)  # fmt: skip
def test_a_known_device_has_a_peak_and_others_are_called_unknown(monkeypatch, name, half, expected):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: name)
    assert usage.peak(torch.device("cuda"), half) == expected
    assert usage.peak(torch.device("cpu"), half) is None


@pytest.mark.parametrize(
    "settings", [{}, {"library": "timm", "model": "resnet18", "pretrained": "random", "image_size": 64}]
)
def test_operations_are_counted_without_doing_them(settings):
    encoder = look.load(Encoder(**settings))
    shape = (1, 3, encoder.image_size, encoder.image_size)
    with FlopCounterMode(display=False) as counter:
        encoder.encode(torch.zeros(shape))
    assert usage.operations(encoder.encode, shape) == counter.get_total_flops() > 1e6
    assert usage.operations(lambda images: images.numpy(), shape) is None, "no job may fail of counting"


def test_a_training_on_a_known_device_logs_its_share_of_the_peak(tmp_path, monkeypatch):
    monkeypatch.setattr(usage, "peak", lambda device, half: 1e12)
    job = study(tmp_path, count=16, epochs=1, batch_size=8, method={"switch_epoch": 0})
    loop.train(job)
    rows = [json.loads(line) for line in (Path(job.logs) / "throughput.jsonl").read_text().splitlines()]
    assert rows and all(0 < row["peak_share"] < 1 for row in rows)


@pytest.mark.parametrize(
    "settings",
    [{}, {"model": "ViT-B-32", "pretrained": "random"}, {"library": "timm", "model": "convnext_atto",
                                                         "pretrained": "random"}],
)  # fmt: skip
def test_both_halves_of_a_transform_are_the_librarys_own_to_the_last_bit(settings):
    transform = look.load(Encoder(**settings)).transform
    pixels = transform.pixels(NOISE)
    assert transform.is_cut and pixels.dtype == torch.uint8
    assert torch.equal(transform.finish(pixels[None])[0], transform.whole(NOISE))


def test_pixels_of_an_encoder_are_a_byte_a_value_and_give_the_same_features():
    encoder = look.load(Encoder())
    pixels = encoder.transform.pixels(NOISE)[None]
    for one, other in zip(encoder.encode(pixels), encoder.encode(encoder.preprocess(NOISE)[None])):
        assert torch.equal(one, other)
    assert [batch.shape for batch in loading.ahead(iter([pixels]), torch.device("cpu"))] == [pixels.shape]


class Numbers(torch.utils.data.Dataset):
    """Items that have no images."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, row):
        return torch.full((2,), row), f"item {row}"


@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize("workers", [0, 3])
def test_a_loader_keeps_the_order_and_starts_no_process_in_vain(count, workers):
    batches = loading.loader(Numbers(count), 2, workers)
    assert batches.num_workers == min(workers, -(-count // 2))
    found = list(loading.ahead(batches, torch.device("cpu")))
    assert [name for _, names in found for name in names] == [f"item {row}" for row in range(count)]
    assert [int(row[0]) for rows, _ in found for row in rows] == list(range(count))


class Recorded(torch.Tensor):
    """A tensor that notes what is done with it, as one on a GPU would be asked to."""

    label: str
    done: list[str]

    def to(self, *arguments, **options):
        self.done.append(f"copy {self.label}")
        assert arguments == (torch.device("cuda"),) and options == {"non_blocking": True}
        return self

    def record_stream(self, stream):
        self.done.append(f"keep {self.label} for {stream.name}")


def recorded(name, done):
    tensor = torch.zeros(1).as_subclass(Recorded)
    tensor.label, tensor.done = name, done
    return tensor


def test_on_a_gpu_the_next_batch_is_on_its_way_before_one_is_used(monkeypatch):
    done = []
    stream = types.SimpleNamespace(record_event=lambda: f"event {sum(word.startswith('copy') for word in done)}")
    used = types.SimpleNamespace(name="work", wait_event=lambda event: done.append(f"wait for {event}"))
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: used)
    batches: list[Any] = [[recorded(name, done), {"keys": [name]}] for name in "ab"]
    for batch, rest in loading.ahead(batches, torch.device("cuda")):
        done.append(f"use {batch.label}")
        assert rest == {"keys": [batch.label]}
    one, other = (["wait for event 1", "keep a for work", "use a"], ["wait for event 2", "keep b for work", "use b"])
    assert done == ["copy a", "copy b", *one, *other]


SMALL = """
import sys, torch
from pathlib import Path
from test_usage import Numbers
from training_study import study
from genview import loading
from genview.errors import GenviewError
from genview.training.loop import trainer
class Large(Numbers):
    def __getitem__(self, row):
        return torch.zeros(1 << 20, dtype=torch.uint8)
try:
    if sys.argv[1] == "train":
        trainer.train(study(Path(sys.argv[2]), count=32, epochs=1, batch_size=16, data={"workers": 2}))
    else:
        collate = {"own": {"collate_fn": torch.stack}, "default": {}}[sys.argv[1]]
        list(loading.ahead(loading.loader(Large(16), 4, 2, **collate), torch.device("cpu")))
except GenviewError as error:
    print(error)
"""


@pytest.mark.skipif(small_disk.reason_to_skip() is not None, reason=str(small_disk.reason_to_skip()))
@pytest.mark.parametrize(("what", "kilobytes"), [("own", 1024), ("default", 1024), ("train", 64)])
def test_too_little_shared_memory_is_said_and_not_waited_for(tmp_path, what, kilobytes):
    mount = f"mount -t tmpfs -o size={kilobytes}k tmpfs {loading.SHARED_MEMORY}"
    command = ["unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh", sys.executable, "-c", SMALL, what]
    done = subprocess.run(
        [*command, str(tmp_path)], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=120
    )
    assert "shared memory, of which there is too little" in done.stdout, done.stderr
    assert "--ipc=host" in done.stdout and "data.workers" in done.stdout


FAILING = """
import sys, torch
from test_usage import Numbers
from genview import loading, process
class Failing(Numbers):
    def __getitem__(self, row):
        raise RuntimeError("a defect")
batches = loading.loader(Failing(64), 4, 2, worker_init_fn=process.ignore_warnings)
list(loading.ahead(batches, torch.device("cpu")))
"""


def test_a_job_ends_although_its_loaders_processes_ignore_warnings():
    began = time.monotonic()
    command = [sys.executable, "-c", FAILING]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "a defect" in done.stderr and "worker" not in done.stderr.splitlines()[-1]
    assert time.monotonic() - began < 40


def test_a_job_says_at_its_end_how_long_it_waited(caplog):
    usage.begin()
    list(usage.reading([[0]]))
    with caplog.at_level(logging.INFO):
        assert "% of the time waiting for images" in usage.in_words(usage.shares())
    assert usage.in_words({}) == ""
