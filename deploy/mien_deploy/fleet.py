"""Many devices: their names in an inventory, their work at once, their roll-out in waves."""

import math
import threading
import time
import tomllib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from mien_edge.errors import DeployError, MienError

from mien_deploy.remote import Device, UnreachableError

AT_ONCE = 50
_COLOURS = (36, 33, 35, 32, 34, 31)

Say = Callable[[str, str], None]
"""Told a device's name and a line about it."""


def hosts(named: Sequence[str], inventory: Path | None) -> list[str]:
    """Hosts by name, or by the group of an inventory: a TOML file of lists, `lobby = ["pi@camera-1", "pi@camera-2"]`.

    A group may hold other groups; the group `all` holds every host of the inventory. Raises DeployError.
    """
    groups = _read(inventory) if inventory else {}
    groups.setdefault("all", list(groups))
    if not groups["all"] and "all" in named:
        raise DeployError("'all' are the hosts of an inventory; name one with --inventory")
    found: dict[str, None] = {}
    for name in named:
        for host in _expanded(name, groups, ()):
            found[host] = None
    if not found:
        raise DeployError(f"{' '.join(named)}: no host is in there; add some to the inventory")
    return list(found)


def _read(path: Path) -> dict[str, list[str]]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise DeployError(f'{path}: cannot be read ({problem}); write lines such as lobby = ["pi@camera-1"]') from None
    for group, members in content.items():
        if not isinstance(members, list) or not all(isinstance(each, str) and each for each in members):
            raise DeployError(f"{path}: the group {group!r} must be a list of names, not {members!r}; change it")
    return content


def _expanded(name: str, groups: dict[str, list[str]], above: tuple[str, ...]) -> Iterable[str]:
    if name in above:
        raise DeployError(f"the group {name!r} holds itself; take it out of the inventory")
    if name not in groups:
        if name.startswith("-"):
            raise DeployError(f"{name!r} is no name of a host; change it")
        return [name]
    return [host for each in groups[name] for host in _expanded(each, groups, (*above, name))]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one device. kind: 'done', 'not judged', 'failed', 'unreachable' or 'not begun'."""

    host: str
    wave: int
    kind: str
    text: str
    seconds: float = 0.0


Work = Callable[[Device, Say], tuple[str, str]]
"""Does the work on one device: the kind of outcome, and a line about it. May raise DeployError."""


def waves(plan: str, count: int) -> list[int]:
    """How many devices have been reached after each wave of a plan such as '1,10%,100%'. Raises DeployError."""
    reached = []
    for part in plan.split(","):
        try:
            wished = float(part[:-1]) * count / 100 if part.endswith("%") else int(part)
        except ValueError:
            wished = math.nan
        if not 0 < wished < math.inf:
            raise DeployError(f"--waves {plan}: {part!r} is neither a number nor a share; write 1,10%,100%")
        reached.append(min(max(round(wished), 1), count))
    if reached != sorted(reached) or reached[-1] != count:
        raise DeployError(f"--waves {plan}: waves must grow, and the last reach all; write 1,10%,100%")
    return reached


def roll_out(devices: Sequence[Device], work: Work, plan: str, say: Say) -> list[Outcome]:
    """Work on the devices, wave after wave, those of a wave at once. A wave in which any device failed or was not
    judged, or none could be reached, is the last one; the others are then 'not begun'.
    """
    outcomes: list[Outcome] = []
    for number, reached in enumerate(waves(plan, len(devices)), start=1):
        batch = devices[len(outcomes) : reached]
        outcomes += on_each(batch, work, say, number)
        now = outcomes[len(outcomes) - len(batch) :]
        stops = any(each.kind in ("failed", "not judged") for each in now)
        if now and (stops or all(each.kind == "unreachable" for each in now)):
            break
    left = devices[len(outcomes) :]
    return outcomes + [Outcome(device.host, 0, "not begun", "a wave before failed") for device in left]


def on_each(devices: Sequence[Device], work: Work, say: Say, wave: int = 1) -> list[Outcome]:
    """Work on all devices at once; one that fails does not stop the others. Outcomes in the devices' order."""

    def attempt(device: Device) -> Outcome:
        start = time.monotonic()
        try:
            kind, text = work(device, say)
        except (MienError, OSError) as problem:
            kind = "unreachable" if isinstance(problem, UnreachableError) else "failed"
            text = str(problem).removeprefix(f"{device.host}: ")
        return Outcome(device.host, wave, kind, text, time.monotonic() - start)

    if not devices:
        return []
    done: dict[str, Outcome] = {}
    with ThreadPoolExecutor(min(len(devices), AT_ONCE)) as pool:
        try:
            for future in as_completed([pool.submit(attempt, device) for device in devices]):
                outcome = future.result()
                done[outcome.host] = outcome
                say(outcome.host, f"[{len(done)}/{len(devices)}] {outcome.kind}: {outcome.text}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C: nobody else is begun with
            raise
    return [done[device.host] for device in devices]


def table(outcomes: Sequence[Outcome]) -> str:
    """The outcomes as lines: device, wave, outcome, seconds, why."""
    width = max(len(each.host) for each in outcomes)
    rows = [f"{'device':<{width}}  wave  outcome       seconds  "]
    for each in outcomes:
        wave = str(each.wave or "-")
        rows.append(f"{each.host:<{width}}  {wave:>4}  {each.kind:<12}  {each.seconds:7.1f}  {each.text}")
    return "\n".join(rows)


class Printer:
    """Prints lines about devices, whole, each after the device's name: coloured on a terminal."""

    def __init__(self, hosts: Sequence[str], write: Callable[[str], object], coloured: bool) -> None:
        self._write, self._coloured, self._lock = write, coloured, threading.Lock()
        self._number = {host: number for number, host in enumerate(hosts)}
        self._width = max(map(len, hosts), default=0)

    def __call__(self, host: str, line: str) -> None:
        """One line."""
        name = f"{host:<{self._width}}"
        if self._coloured:
            name = f"\033[{_COLOURS[self._number.get(host, 0) % len(_COLOURS)]}m{name}\033[0m"
        with self._lock:
            self._write(f"{name}  {line}\n")
