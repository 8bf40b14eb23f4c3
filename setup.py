"""What pyproject.toml cannot say: the workflow, the studies and the profiles go into the wheel, below the package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("workflow", "config", "profiles", "envs")


class WithWorkflow(build_py):
    """Copies the folders that lie beside the package in a checkout; an editable install finds them there."""

    def run(self) -> None:
        """Build the package, and put the workflow into it."""
        super().run()
        if self.editable_mode:
            return
        home = Path(self.build_lib) / "genview" / "shipped"
        shutil.rmtree(home, ignore_errors=True)
        for name in SHIPPED:
            shutil.copytree(
                Path(__file__).parent / name, home / name, ignore=shutil.ignore_patterns("__pycache__", ".*")
            )


setup(cmdclass={"build_py": WithWorkflow})
