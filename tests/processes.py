"""A function in each of two processes of a gloo group."""

import os
import tempfile

import started
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

WORLD = 2


def _enter(rank, function, arguments, folder, results):
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORLD)
    try:
        results[rank] = function(rank, *arguments)
        dist.barrier()
    finally:
        dist.destroy_process_group()


def in_two_processes(function, *arguments):
    """The function's result in each of two processes of a gloo group."""
    with mp.Manager() as manager, tempfile.TemporaryDirectory() as folder:
        results = manager.dict()
        mp.start_processes(_enter, (function, arguments, folder, results), nprocs=WORLD, start_method=started.METHOD)
        return [results[rank] for rank in range(WORLD)]
