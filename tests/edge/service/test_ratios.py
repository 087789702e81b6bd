"""Two results of bench compared."""

import pytest
from mien_edge.errors import SettingsError
from mien_edge.service import ratios


def result(total: float, detector: float = 1.0, **more):
    milliseconds = {"total": total, "detector": detector, "classifier": 0.0}
    return {
        "model": "edge-1",
        "rate": 15.0,
        "scenes": {"moving face": {"milliseconds": milliseconds}},
        "rss_megabytes": 100.0,
        **more,
    }


def test_each_figure_that_both_have_gets_its_ratio():
    rows = ratios.ratios(result(8.0), result(2.0, rss_megabytes=110.0))
    values = {row.name: row.value for row in rows}
    assert values == {
        "moving face, total": 0.25,
        "moving face, detector": 1.0,
        "memory": pytest.approx(1.1),
    }


@pytest.mark.parametrize(
    ("before", "now", "meaning"),
    [
        (8.0, 2.0, "before it was 4.0 times as much"),
        (2.0, 8.0, "4.0 times as much as before"),
        (2.0, 2.05, "the same"),
    ],
)
def test_a_ratio_is_said_in_words(before, now, meaning):
    (row, *_) = ratios.ratios(result(before), result(now))
    assert row.as_text().endswith(meaning)


def test_what_else_differs_is_named():
    before = result(1.0, machine={"processor": "A", "numpy": "2"}, busy="by others")
    now = result(1.0, machine={"processor": "B", "numpy": "2"}) | {"model": "edge-2"}
    assert ratios.conditions(before, now) == [
        "model: edge-1 before, edge-2 now",
        "processor: A before, B now",
        "the machine was busy before (by others)",
    ]
    assert ratios.conditions(now, now) == []


@pytest.mark.parametrize("former", [{}, {"scenes": []}, {"scenes": {"moving face": {}}}])
def test_what_is_no_result_of_bench_is_refused(former):
    with pytest.raises(SettingsError, match="bench --json"):
        ratios.ratios(former, result(1.0))
