"""``python -m genview.training --job job.json``, alone or in each process that torchrun starts."""

import argparse
import logging
import os
import socket
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import torch
from pydantic import ValidationError

from genview import process, progress, shared_gpus
from genview.errors import GenviewError
from genview.training import alone, launch
from genview.training.job import Job
from genview.training.loop import trainer

logger = logging.getLogger("genview")


def place(environment: Mapping[str, str]) -> str:
    """Which of the run's processes this is, on which host, and the GPUs it was given, for the log."""
    rank, world = environment.get("RANK", "0"), environment.get("WORLD_SIZE", "1")
    host = environment.get("SLURMD_NODENAME") or socket.gethostname()
    return f"process {rank} of {world} on {host}, CUDA_VISIBLE_DEVICES={environment.get('CUDA_VISIBLE_DEVICES')}"


def main(arguments: list[str] | None = None) -> int:
    """Train the run that a job file describes; the exit status is 75 after a checkpoint at the cluster's warning."""
    parser = argparse.ArgumentParser(prog="python -m genview.training", description=__doc__)
    parser.add_argument("--job", required=True, help="JSON file: settings and paths of one run (genview.training.job)")
    options = parser.parse_args(arguments)
    process.end_with_starter()
    process.keep_freed_memory()
    shared_gpus.keep()
    progress.configure_logging()
    # The job's cores are one for each process and one for each loader; Snakemake told each process to use them all.
    torch.set_num_threads(1)
    try:
        job = Job.model_validate_json(Path(options.job).read_text(encoding="utf-8"))
        logger.info("run %s: %s", job.name, place(os.environ))
        with alone.in_folder(Path(job.checkpoints)) if os.environ.get("RANK", "0") == "0" else nullcontext():
            trainer.train(job)
    except process.Stopped as stopped:
        logger.warning("%s", stopped)
        launch.stopped_marker(job).touch()
        return process.STOPPED
    except (GenviewError, OSError, ValidationError) as error:
        logger.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
