"""Where the workflow and the configurations that ship with the package are.

In a checkout they lie at its root, in an installation inside the package.
"""

from pathlib import Path

PACKAGE = Path(__file__).parent
HOME = PACKAGE / "shipped" if (PACKAGE / "shipped").is_dir() else PACKAGE.parent
"""Folder of ``workflow``, ``config``, ``profiles`` and ``envs``."""


def file(name: str | Path) -> Path:
    """A file of the repository, named as there: ``workflow/...``, ``config/...``, ``genview/...``."""
    name = Path(name)
    return PACKAGE.parent / name if name.parts[:1] == (PACKAGE.name,) else HOME / name


def found(name: str | Path) -> Path:
    """A file named by a user: in the working directory, else the one of that name that ships, else as it was named."""
    name = Path(name)
    return HOME / name if not name.exists() and (HOME / name).is_file() else name
