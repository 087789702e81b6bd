"""When something is due, by a clock that the test sets."""

import pytest
from mien_edge.publish.timer import Backoff, Timer


class Clock:
    """Seconds that the test sets."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_a_timer_is_due_at_once_and_again_after_its_interval(clock):
    timer = Timer(10.0, clock)
    assert timer.due()
    timer.restart()
    assert not timer.due()
    clock.now += 9.9
    assert not timer.due()
    clock.now += 0.1
    assert timer.due()


def test_a_timer_that_expired_is_due_at_once(clock):
    timer = Timer(10.0, clock)
    timer.restart()
    timer.expire()
    assert timer.due()


def test_the_pause_doubles_with_each_failure_up_to_the_longest(clock):
    backoff = Backoff(1.0, 5.0, clock)
    assert backoff.remaining() == 0
    pauses = []
    for _ in range(5):
        backoff.failed()
        pauses.append(backoff.remaining())
        clock.now += pauses[-1]
        assert backoff.remaining() == 0
    assert pauses == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_after_a_success_the_next_pause_is_the_first_again(clock):
    backoff = Backoff(1.0, 5.0, clock)
    backoff.failed()
    backoff.failed()
    backoff.succeeded()
    clock.now += 60
    backoff.failed()
    assert backoff.remaining() == 1.0
