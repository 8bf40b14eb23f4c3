"""Every figure that needs a GPU, by one command and without a network: random weights at the models' real size.

    python benchmarks/on_gpu.py --minutes 8                     # writes benchmarks/results/gpu.json
    python benchmarks/on_gpu.py --only augmentation encoding    # some parts; the others' figures are kept

Each part compares with the plain way of doing the same and says what that is; figures are written as soon as they are
there, and a part for which no time is left is skipped and said to be. Shares of the peak are of what a large matrix
product reached on the same device in the same type, measured at the start. Without a GPU all parts run at a small
size, which says that they work, not how fast they are.
"""

import argparse
import json
import logging
import statistics
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import gpu_parts
import record
import torch

from genview import atomic

OUTPUT = record.RESULTS / "gpu.json"
PACKAGES = ("torchvision", "timm", "open_clip_torch", "diffusers", "transformers", "accelerate")


class Bench:
    """What the parts measure with.

    Attributes:
        device, on_gpu: where they run; without a GPU they are small.
        rates: floating-point operations a second of a matrix product, by type.
    """

    def __init__(self, minutes: float, output: Path):
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.on_gpu = self.device.type == "cuda"
        self.rates: dict[torch.dtype, float] = {}
        self._end, self._output = time.monotonic() + 60 * minutes, output
        self._before = json.loads(output.read_text(encoding="utf-8")) if output.exists() else {}
        self.results: dict[str, dict] = self._before.get("parts", {})

    def left(self) -> float:
        """Seconds that are left."""
        return self._end - time.monotonic()

    def wait(self) -> None:
        """Until the device has done all that it was given."""
        if self.on_gpu:
            torch.cuda.synchronize()

    def forget(self) -> None:
        """Free what is not used and begin to count the memory anew."""
        if self.on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def seconds(self, work: Callable[..., object], *arguments: object, repeats: int = 5, warm: int = 1) -> float:
        """Median seconds of a call that ends with the device idle."""
        for _ in range(warm):
            work(*arguments)
        taken = []
        for _ in range(repeats if self.on_gpu else 1):
            self.wait()
            start = time.perf_counter()
            work(*arguments)
            self.wait()
            taken.append(time.perf_counter() - start)
        return statistics.median(taken)

    def share(self, operations: float, seconds: float, dtype: torch.dtype) -> float | None:
        """Of the rate that a matrix product of this type reached; None where that was not measured."""
        rate = self.rates.get(dtype)
        return None if rate is None else operations / seconds / rate

    def memory(self) -> int | None:
        """Largest number of bytes on the GPU since ``forget``; None without one."""
        return torch.cuda.max_memory_allocated() if self.on_gpu else None

    def write(self, part: str, **figures: object) -> None:
        """Add figures of a part to the results, on disk too."""
        self.results.setdefault(part, {}).update(figures)
        installed = [name for name in PACKAGES if record.is_installed(name)]
        conditions = {**record.conditions(*installed), "gpu_memory_bytes": None, "size": "small, without a GPU"}
        if self.on_gpu:
            conditions.update(
                gpu_memory_bytes=torch.cuda.get_device_properties(0).total_memory,
                size="real",
                cuda=torch.version.cuda,
                driver=record.driver(),
            )
        self.results[part]["conditions"] = conditions
        self._output.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_json(self._output, {"parts": self.results})


def main() -> int:
    """Run the parts in order of what a minute of them tells; returns 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8, help="begin no part later; the last may end later")
    parser.add_argument("--only", nargs="*", choices=list(gpu_parts.PARTS), default=list(gpu_parts.PARTS))
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    bench, failed = Bench(options.minutes, options.output), []
    for name, (part, needed) in gpu_parts.PARTS.items():
        if name not in options.only:
            continue
        if bench.on_gpu and bench.left() < needed:
            print(f"{name}: skipped, {bench.left():.0f} s are left of the {needed} s that it takes", flush=True)
            continue
        start = time.monotonic()
        bench.results.pop(name, None)
        try:
            bench.forget()
            part(bench)
        except Exception:  # one part's failure must not cost the others' figures
            failed.append(name)
            traceback.print_exc()
        print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
    print(json.dumps(bench.results, indent=1))
    if failed:
        print(f"failed: {', '.join(failed)}")
    return int(bool(failed))


if __name__ == "__main__":
    raise SystemExit(main())
