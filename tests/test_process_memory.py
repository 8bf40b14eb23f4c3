"""A job keeps the memory that it has freed: without it the kernel clears the same pages for every view."""

import subprocess
import sys

SCRIPT = """
import resource, sys
from genview import process
from genview.training.data import develop
import torch
torch.set_num_threads(1)
if sys.argv[1] == "kept":
    process.keep_freed_memory()
images = torch.rand(1, 3, 224, 224)
turns = torch.full((1, 1, 1, 1), 0.1)
def step():
    return develop.shift_hue(images, turns)
for _ in range(20):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(200):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(memory: str) -> int:
    done = subprocess.run([sys.executable, "-c", SCRIPT, memory], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_freed_blocks_are_not_taken_from_the_kernel_again():
    kept = faults("kept")
    assert kept < 3000, f"{kept} pages for 200 views; where nothing is kept some 15,000 to 70,000"
