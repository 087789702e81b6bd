"""Two results of `mien-edge bench` compared, line by line."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mien_edge.errors import SettingsError

SAME = 0.05
"""A ratio that differs from 1 by no more than this is called the same."""

_CONDITIONS = ("model", "detector_size", "rate", "environment")
_FIGURES = {
    "rss_megabytes": ("memory", "MB"),
    "start_up_cpu_seconds": ("start-up", "s CPU"),
}
_LEAST = 0.01  # milliseconds; what is shorter cannot be compared
_CORE_SHARE = "of a core"


@dataclass(frozen=True, slots=True)
class Ratio:
    """One figure of both results. unit: of `before` and `now`."""

    name: str
    unit: str
    before: float
    now: float

    @property
    def value(self) -> float:
        """How many times as much it is now; infinite where it was nothing."""
        return self.now / self.before if self.before else float("inf")

    def as_text(self) -> str:
        """The figure as a line: before, now, ratio and what it means."""
        figures = f"{self.before:>9.3f} -> {self.now:>8.3f} {self.unit:<9}"
        return f"{self.name:<28}{figures} x {self.value:<5.2f} {self._meaning()}"

    def _meaning(self) -> str:
        if abs(self.value - 1) <= SAME:
            return "the same"
        if self.value > 1:
            return f"{self.value:.1f} times as much as before"
        return f"before it was {self.before / self.now:.1f} times as much" if self.now else "gone"


def ratios(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Ratio]:
    """Every figure that both results of bench have.

    before, now: what `mien-edge bench --json` prints, without `--layers`.

    Raises SettingsError for something else.
    """
    try:
        rows = list(_ratios(before, now))
    except (AttributeError, KeyError, TypeError):
        rows = []
    if not rows:
        raise SettingsError("not a result of this version's mien-edge bench --json; make it anew")
    return rows


def conditions(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between the two results beside their figures, a sentence each."""
    differences = [
        f"{name}: {before.get(name)} before, {now.get(name)} now"
        for name in _CONDITIONS
        if before.get(name) != now.get(name)
    ]
    machine_before = before.get("machine") or {}
    machine_now = now.get("machine") or {}
    differences += [
        f"{name}: {machine_before.get(name)} before, {machine_now.get(name)} now"
        for name in {**machine_before, **machine_now}
        if machine_before.get(name) != machine_now.get(name)
    ]
    for name, result in (("before", before), ("now", now)):
        if result.get("busy"):
            differences.append(f"the machine was busy {name} ({result['busy']})")
    return differences


def _ratios(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Ratio]:
    for scene, values in now["scenes"].items():
        if scene not in before["scenes"]:
            continue
        former = before["scenes"][scene]["milliseconds"]
        for part, milliseconds in values["milliseconds"].items():
            if part in former and max(milliseconds, former[part]) > _LEAST:
                yield Ratio(f"{scene}, {part}", "ms", former[part], milliseconds)
    for key, (name, unit) in _FIGURES.items():
        if key in now and key in before:
            yield Ratio(name, unit, before[key], now[key])
    shares_before = before.get("cpu_share", {})
    for name, share in now.get("cpu_share", {}).items():
        if name in shares_before:
            yield Ratio(f"at {now['rate']:g} fps, {name}", _CORE_SHARE, shares_before[name], share)
