"""What a run writes while it goes on: measured values, without times; throughput, apart; TensorBoard's events."""

import json
import time
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter


class Metrics:
    """Lines of ``metrics.jsonl`` and the same values as TensorBoard events.

    The file belongs to the checkpoints: what it says of steps after the one that a run goes on from is cut off, so
    that a stopped and resumed run leaves the same file as an undisturbed one.
    """

    def __init__(self, path: Path, events: Path, first_step: int):
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = _lines_up_to(path, first_step) if first_step else []
        path.write_text("".join(kept), encoding="utf-8")
        self._file = path.open("a", encoding="utf-8")
        self._writer = SummaryWriter(str(events), purge_step=first_step + 1 if first_step else None)

    def write(self, step: int, values: dict[str, float]) -> None:
        """One line."""
        self._file.write(json.dumps({"step": step, **values}, allow_nan=False) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Finish both."""
        self._file.close()
        self._writer.close()


def _lines_up_to(path: Path, step: int) -> list[str]:
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else ():
        try:
            if not line.endswith("\n") or json.loads(line)["step"] > step:
                break
        except ValueError:  # the last line of a killed run
            break
        kept.append(line)
    return kept


class Throughput:
    """Samples and images per second and the share of time spent waiting for data, to a log: these are times.

    Args:
        path: the log.
        peak_samples: samples per second at which the devices' peak would be reached; None: it is not known.
    """

    def __init__(self, path: Path, peak_samples: float | None = None):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")
        self._peak_samples = peak_samples
        self._start_anew()

    def _start_anew(self) -> None:
        self._start, self._waited, self._samples, self._images = time.perf_counter(), 0.0, 0, 0

    def waited(self, seconds: float) -> None:
        """Add time that was spent waiting for data."""
        self._waited += seconds

    def step(self, samples: int, images: int) -> None:
        """Add a step's samples and images, of all processes."""
        self._samples += samples
        self._images += images

    def write(self, step: int, **values: Any) -> None:
        """One line about the time since the line before."""
        seconds = time.perf_counter() - self._start
        line = {
            "step": step,
            "seconds": round(seconds, 4),
            "samples_per_second": round(self._samples / seconds, 3),
            "images_per_second": round(self._images / seconds, 3),
            "data_wait_share": round(self._waited / seconds, 4),
            **values,
        }
        if self._peak_samples:
            line["peak_share"] = round(self._samples / seconds / self._peak_samples, 4)
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        self._start_anew()
