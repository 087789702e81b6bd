"""What is computed ahead, by a thread or by processes."""

import itertools
import math
import operator
import os
import signal
import subprocess
import sys
import time

import pytest
from helpers import until
from mien_train.training.ahead import compute_ahead, default_processes


@pytest.mark.parametrize("processes", [0, 2])
def test_results_come_in_the_order_of_their_tasks(processes):
    results = compute_ahead(math.sqrt, itertools.count(10), processes)
    assert list(itertools.islice(results, 20)) == [math.sqrt(number) for number in range(10, 30)]
    results.close()


@pytest.mark.parametrize("processes", [0, 1])
def test_processes_are_others_and_a_thread_is_not(processes):
    results = compute_ahead(operator.call, itertools.repeat(os.getpid), processes)
    assert (next(results) != os.getpid()) == bool(processes)
    results.close()


@pytest.mark.parametrize("processes", [0, 1])
def test_what_a_task_raises_is_raised_where_its_result_is_taken(processes):
    results = compute_ahead(math.sqrt, [4, -1, 9], processes)
    assert next(results) == 2
    with pytest.raises(ValueError, match="math domain error"):
        next(results)


def test_there_is_always_a_process():
    assert 1 <= default_processes() <= 8


@pytest.mark.slow
def test_processes_end_when_the_one_that_began_them_is_killed():
    code = (
        "import itertools, operator, os, signal\n"
        "from mien_train.training.ahead import compute_ahead\n"
        "results = compute_ahead(operator.call, itertools.repeat(os.getpid), 1)\n"
        "print(next(results), flush=True)\n"
        "signal.pause()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    worker = int(process.stdout.readline())
    os.kill(worker, 0)
    process.send_signal(signal.SIGKILL)
    process.wait()

    def is_gone():
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
        return False

    until(is_gone, 1800)
