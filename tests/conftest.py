"""What concerns all test files."""

import os
from collections import defaultdict

# Threads beyond the cores of a small machine only wait for each other; two test workers share two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

LONGEST = ("test_slurm", "test_study")


def pytest_collection_modifyitems(items):
    """Long files go first, so that no worker is left alone with one at the end."""
    slow = defaultdict(bool)
    for item in items:
        slow[item.path] |= item.get_closest_marker("slow") is not None
    items.sort(key=lambda item: (item.path.stem not in LONGEST, not slow[item.path]))
