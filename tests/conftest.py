"""What concerns all test files."""

import os
from collections import defaultdict

# Threads beyond the cores of a small machine only wait for each other; two test workers share two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items):
    """The longest files go first, so that no worker is left alone with one at the end."""
    marks = defaultdict(set)
    for item in items:
        marks[item.path].update(mark.name for mark in item.iter_markers())
    items.sort(key=lambda item: ("slurm" not in marks[item.path], "slow" not in marks[item.path]))
