"""Progress of something long, where nobody looks at a bar."""

from mien_edge.progress import ProgressLines


def lines(steps, total=None, done=0, seconds=10.0):
    """What is printed of steps that take so many seconds each."""
    now = [0.0]
    printed = []
    progress = ProgressLines("reading", "rows", total, done, lambda: now[0], printed.append)
    for _ in range(steps):
        now[0] += seconds
        progress.update()
    return printed


def test_what_is_short_prints_nothing():
    assert lines(steps=100, total=100, seconds=0.2) == []


def test_a_line_appears_every_half_a_minute_and_says_how_long_it_takes():
    assert lines(steps=7, total=10) == [
        "reading: 3 of 10 rows (30%), about 1:10 left\n",
        "reading: 6 of 10 rows (60%), about 0:40 left\n",
    ]


def test_a_slow_step_prints_a_line_at_its_end():
    assert lines(steps=2, total=30, done=10, seconds=4000) == [
        "reading: 11 of 30 rows (37%), about 21:06:40 left\n",
        "reading: 12 of 30 rows (40%), about 20:00:00 left\n",
    ]


def test_without_a_total_it_says_how_long_it_has_taken():
    assert lines(steps=4000, seconds=0.01) == ["reading: 3,000 rows in 0:30\n"]


def test_nothing_to_do_is_no_error():
    assert lines(steps=1, total=0, seconds=31) == ["reading: 1 of 0 rows (100%)\n"]
