"""What every benchmark says beside its figures: when, where and with which versions they were measured."""

import datetime
import importlib.metadata
import json
import os
import platform
from pathlib import Path

import torch

from genview import atomic

RESULTS = Path(__file__).parent / "results"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def is_installed(package: str) -> bool:
    """Whether a package can be asked for its version."""
    return bool(list(importlib.metadata.distributions(name=package)))


def driver() -> str | None:
    """Version of the NVIDIA driver; None where there is no driver."""
    file = Path("/proc/driver/nvidia/version")
    return file.read_text(encoding="utf-8").splitlines()[0].split(": ")[-1].strip() if file.is_file() else None


def conditions(*packages: str) -> dict:
    """Date, hardware, threads, load, and versions of torch and of the packages that matter."""
    return {
        "date": datetime.date.today().isoformat(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "versions": {name: importlib.metadata.version(name) for name in ("torch", *packages)}
        | {"genview": importlib.metadata.version("genview") if is_installed("genview") else "not installed"},
    }


def write(result: dict, output: Path | None, *packages: str) -> None:
    """Print a result with its conditions, and write it where a path is given."""
    result = {**result, "conditions": conditions(*packages)}
    print(json.dumps(result, indent=2))
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_json(output, result)
