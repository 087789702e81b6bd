"""Results computed ahead by other processes, so that a device never waits for pictures."""

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

from loky import ProcessPoolExecutor

Task = TypeVar("Task")
Result = TypeVar("Result")

_MAX_PROCESSES = 8
_PARENT_SECONDS = 2.0  # after which a process notices that the one that began it has died
_AHEAD = 4  # results a process that wait to be taken

_function: Callable[[Any], Any]


def default_processes() -> int:
    """Return how many processes help: all cores but one, at least one and at most eight."""
    return min(max((os.cpu_count() or 1) - 1, 1), _MAX_PROCESSES)


def compute_ahead(
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    processes: int,
) -> Generator[Result, None, None]:
    """Yield the function's results of the tasks, in order, some of them computed ahead.

    function: can be pickled; it is sent to each process once. tasks: may have no end. processes: 0
    for a thread of this process. What the function raises is raised here. The processes end with
    the iterator, and when this process dies.
    """
    executor = _executor(function, processes)
    call = _call if processes else function
    remaining = iter(tasks)
    waiting: deque[Future[Result]] = deque()
    try:
        for task in islice(remaining, _AHEAD * max(processes, 1)):
            waiting.append(executor.submit(call, task))
        while waiting:
            result = waiting.popleft().result()
            for task in islice(remaining, 1):
                waiting.append(executor.submit(call, task))
            yield result
    finally:
        for future in waiting:
            future.cancel()
        executor.shutdown()


def _executor(function: Callable[[Any], Any], processes: int) -> Executor:
    if not processes:
        return ThreadPoolExecutor(1)
    # Loky's processes are not forked, for the threads of TensorFlow and JAX would be left behind
    # holding their locks; nor do they run the program of this one again.
    return ProcessPoolExecutor(processes, initializer=_begin, initargs=(function, os.getpid()))


def _begin(function: Callable[[Any], Any], parent: int) -> None:
    """Prepare a process: one thread each, deaf to Ctrl-C, which is for the one that began it."""
    global _function
    _function = function
    import cv2

    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_SECONDS)
    os._exit(1)


def _call(task: Any) -> Any:
    return _function(task)
