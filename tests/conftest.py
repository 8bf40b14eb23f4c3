"""Fixtures that several test files share."""

import os

# Threads beyond the cores of a small machine only wait for each other; two test workers share two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
