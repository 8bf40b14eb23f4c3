"""Captions where a text mode needs them."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow.compute as pc

from genview.data import manifest as manifests
from genview.errors import GenviewError

TEXT_MODES = ("txt", "imgtxt")

SHOWN = 20
"""Keys that a message names."""


def missing(manifest: str | Path) -> list[str]:
    """Keys of the images without a caption, in the manifest's order."""
    table = manifests.read(manifest, columns=["key", "caption"])
    return table.filter(pc.is_null(table["caption"]))["key"].to_pylist()


def check(manifest: str | Path, modes: Mapping[str, str]) -> None:
    """Refuse a study whose views need captions that are not there.

    Args:
        manifest: the study's manifest.
        modes: view set -> mode.

    Raises:
        GenviewError: images have no caption although a view set is made from captions; lists their keys.
    """
    views = [name for name, mode in modes.items() if mode in TEXT_MODES]
    if not views:
        return
    keys = missing(manifest)
    if keys:
        more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
        raise GenviewError(
            f"view sets {', '.join(views)} are made from captions, but {len(keys)} images have none: "
            f"{', '.join(keys[:SHOWN])}{more}. Add captions, leave these images out (dataset.exclude), or leave the "
            "view sets out."
        )
