"""Checkpoints that are complete or absent, bound to what made them: settings, data and code.

A checkpoint is a folder ``step-00001234``: one safetensors file per group of tensors, and ``state.json`` with the rest.
The learning rate, the order of the data, augmentation and dropout are functions of the step, so no generator is saved.
"""

import json
import logging
import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from genview import atomic, provenance, words
from genview.config.training import Checkpoints
from genview.errors import GenviewError

logger = logging.getLogger("genview")

_STEP = re.compile(r"step-(\d{8})")
STATE = "state.json"


@dataclass
class Checkpoint:
    """What a run needs to go on.

    Attributes:
        step: optimiser steps done.
        epoch: whole epochs done.
        finished: whether this was the run's last step.
        identity: what the run is made of; another identity may not go on from here.
        tensors: groups of tensors by name.
        values: anything JSON can hold.
    """

    step: int
    epoch: int
    finished: bool
    identity: dict[str, Any]
    tensors: dict[str, dict[str, Tensor]]
    values: dict[str, Any]


def split_optimizer(state: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimiser's state dictionary as tensors [...] and JSON values."""
    tensors, values = {}, {}
    for index, entries in state["state"].items():
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{name}"] = value
            else:
                values[f"{index}.{name}"] = value
    return tensors, {"groups": state["param_groups"], "values": values}


def join_optimizer(tensors: Mapping[str, Tensor], values: dict[str, Any]) -> dict[str, Any]:
    """The inverse of ``split_optimizer``; tensors keep their shapes [...]."""
    state: dict[int, dict[str, Any]] = {}
    for place, value in {**values["values"], **tensors}.items():
        index, name = place.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    return {"state": state, "param_groups": values["groups"]}


def _folders(root: Path) -> list[tuple[int, Path]]:
    """Complete checkpoints, oldest first."""
    found = []
    for path in root.iterdir() if root.is_dir() else ():
        match = _STEP.fullmatch(path.name)
        if match and (path / STATE).is_file():
            found.append((int(match[1]), path))
    return sorted(found)


def save(root: Path, checkpoint: Checkpoint, settings: Checkpoints) -> Path:
    """Write a checkpoint, then remove those that need not be kept.

    Raises:
        GenviewError: the disk is full or may not be written.
    """
    target = root / f"step-{checkpoint.step:08d}"
    with atomic.writing(target) as partial:
        partial.mkdir(parents=True)
        for group, tensors in checkpoint.tensors.items():
            save_file(
                {name: t.detach().cpu().contiguous() for name, t in tensors.items()}, partial / f"{group}.safetensors"
            )
        state = {
            "step": checkpoint.step,
            "epoch": checkpoint.epoch,
            "finished": checkpoint.finished,
            "groups": sorted(checkpoint.tensors),
            "identity": checkpoint.identity,
            "values": checkpoint.values,
        }
        atomic.write_json(partial / STATE, state)
    prune(root, settings)
    return target


def prune(root: Path, settings: Checkpoints) -> None:
    """Keep the newest checkpoints and those that end an epoch that is to be kept."""
    folders = _folders(root)
    for _, path in folders[: -settings.keep]:
        if _state(path).get("values", {}).get("ends_epoch") not in settings.keep_epochs:
            # Without its state a folder is not a checkpoint: an interrupted removal leaves nothing that looks whole.
            (path / STATE).unlink()
            shutil.rmtree(path)


def _state(path: Path) -> dict[str, Any]:
    try:
        return json.loads((path / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GenviewError(
            f"{path}: damaged checkpoint: {error}; remove this folder to go on from the one before"
        ) from error


def load(path: Path) -> Checkpoint:
    """Read one checkpoint into memory.

    Raises:
        GenviewError: it is damaged.
    """
    state = _state(path)
    try:
        tensors = {group: load_file(path / f"{group}.safetensors") for group in state["groups"]}
    except (OSError, SafetensorError) as error:
        raise GenviewError(
            f"{path}: damaged checkpoint: {error}; remove this folder to go on from the one before"
        ) from error
    return Checkpoint(state["step"], state["epoch"], state["finished"], state["identity"], tensors, state["values"])


CODES = "codes"
"""In a checkpoint's values: ``[step, digest]`` of each other code that the run was trained with, up to which step."""


def resume(root: Path, identity: dict[str, Any], accept: Collection[str] = ()) -> Checkpoint | None:
    """The newest checkpoint of this very run; None if there is none.

    Checkpoints of a *finished* run of other settings make room: they are removed, or, if epochs were kept for good,
    set aside in a folder beside. Those of an unfinished one are never touched.

    Args:
        root: the folder of the run's checkpoints.
        identity: what the run is made of.
        accept: digests of code with which the run may have been started; noted in the values, see `CODES`.

    Raises:
        GenviewError: the run is unfinished and was started with other settings, data or code; lists the differences.
    """
    folders = _folders(root)
    if not folders:
        return None
    path = folders[-1][1]
    state = _state(path)
    identity = json.loads(json.dumps(identity))
    changed = words.differences(state["identity"], identity)
    if not changed:
        return load(path)
    code = [(name, old) for name, old, _ in changed] == [("code", state["identity"].get("code"))]
    if not state["finished"] and code and state["identity"]["code"] in accept:
        found = load(path)
        found.values[CODES] = [*found.values.get(CODES, []), [found.step, found.identity["code"]]]
        logger.warning("going on with other code than that of the steps before %d (checkpoints.accept)", found.step)
        return found
    hint = (
        "\nIf the change of the code alters nothing of this run, let it go on with the setting\n  checkpoints: "
        f"{{accept: [{state['identity'].get('code')}]}}"
    )
    if not state["finished"]:
        raise GenviewError(
            f"{root}: holds an unfinished run (step {state['step']}) that was started otherwise:\n"
            + "\n".join(
                f"  - {name}: was {json.dumps(old)}, is {json.dumps(new)}" for name, old, new in sorted(changed)
            )
            + "\nSet these back to go on with it, or remove the folder to start anew."
            + (hint if code else "")
        )
    if state["identity"]["run"]["checkpoints"]["keep_epochs"]:
        aside = root.with_name(f"{root.name}-{provenance.digest(state['identity'])}")
        logger.info("checkpoints of a finished run with other settings are set aside in %s", aside)
        shutil.rmtree(aside, ignore_errors=True)
        root.rename(aside)
    else:
        logger.info("checkpoints of a finished run with other settings are removed from %s", root)
        shutil.rmtree(root)
    return None
