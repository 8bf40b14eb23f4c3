"""Work spread over processes, results in order, memory bounded, and no task lost when a process dies."""

import logging
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from genview import process

log = logging.getLogger(__name__)

Task = TypeVar("Task")
Result = TypeVar("Result")

# Fork: the other start methods would run the calling script again, and Snakemake's scripts have no guard for that.
_CONTEXT = multiprocessing.get_context("fork")


def _executor(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=_CONTEXT, initializer=process.end_with_pool)


def available(asked: int = 0) -> int:
    """Number of processes to use: as asked, or as many as this process may use cores."""
    return asked or len(os.sched_getaffinity(0))


def ordered_map(
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    *,
    workers: int,
    crashed: Callable[[Task], Result],
) -> Generator[Result, None, None]:
    """Results in the order of the tasks; a few tasks per worker are in flight at any time.

    Args:
        function: module-level function, or a partial of one, of one task.
        tasks: may be longer than memory.
        workers: processes; 1 works in this process.
        crashed: the result for a task that killed its process, run alone (a decoder that crashed, out of memory).
    """
    if workers == 1:
        yield from map(function, tasks)
        return
    tasks = iter(tasks)
    waiting: deque[tuple[Task, Future]] = deque()
    executor = _executor(workers)
    try:
        while True:
            while len(waiting) < 4 * workers:
                try:
                    task = next(tasks)
                except StopIteration:
                    break
                waiting.append((task, _submit(executor, function, task)))
            if not waiting:
                return
            task, future = waiting.popleft()
            try:
                result = future.result()
            except BrokenProcessPool:
                # Any of the tasks in flight may have done it: each is tried again in a process of its own.
                executor.shutdown()
                executor = _executor(workers)
                suspects = [task, *(other for other, _ in waiting)]
                waiting.clear()
                for suspect in suspects:
                    yield _alone(function, suspect, crashed)
                continue
            yield result
    finally:
        executor.shutdown(cancel_futures=True)


def _submit(executor: ProcessPoolExecutor, function: Callable[[Task], Result], task: Task) -> Future:
    try:
        return executor.submit(function, task)
    except BrokenProcessPool as error:
        future: Future = Future()
        future.set_exception(error)
        return future


def _alone(function: Callable[[Task], Result], task: Task, crashed: Callable[[Task], Result]) -> Result:
    with _executor(1) as executor:
        try:
            return executor.submit(function, task).result()
        except BrokenProcessPool:
            log.warning("a process died while working on its task")
    return crashed(task)
