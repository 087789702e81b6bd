"""Many devices: their names in an inventory, their work in parallel, their roll-out in waves."""

import difflib
import itertools
import math
import threading
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mien_edge import textfiles
from mien_edge.commands.models import NOT_JUDGED
from mien_edge.errors import DeployError, MienError

from mien_deploy import process
from mien_deploy.remote import Device, UnreachableError

MAX_PARALLEL = 50
"""How many devices are worked on at the same time."""

MAX_FOLLOWED = 200
"""How many devices can be followed: each takes a connection that stays."""

_MAX_DEPTH = 20  # of groups in groups
_MISSPELT = 0.85  # of difflib's ratio: one letter in a name of five

_COLOURS = (36, 33, 35, 32, 34, 31)  # of a terminal: cyan, yellow, magenta, green, blue, red

Progress = Callable[[str, str], None]
"""Called with a device's host and a line about it, from several threads."""


class OutcomeKind(StrEnum):
    """How the work on a device ended."""

    DONE = "done"
    NOT_JUDGED = "not judged"
    """The bundle was accepted; the timeout was over before its probation."""
    FAILED = "failed"
    UNREACHABLE = "unreachable"
    NOT_BEGUN = "not begun"
    """A wave before failed."""

    @property
    def exit_code(self) -> int:
        """The exit code of a command for one device: 0, 3 for NOT_JUDGED, 1 for a failure."""
        if self == OutcomeKind.DONE:
            return 0
        if self == OutcomeKind.NOT_JUDGED:
            return NOT_JUDGED
        return 1


@dataclass(frozen=True, slots=True)
class Result:
    """What the work on one device led to, and a line about it."""

    kind: OutcomeKind
    text: str


Work = Callable[[Device, Progress], Result]
"""The work on one device. May raise DeployError."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One row of the table of a roll-out.

    wave: from 1; 0 for a device that was not begun.
    seconds: how long the work took.
    """

    host: str
    wave: int
    kind: OutcomeKind
    text: str
    seconds: float = 0.0


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """Return the exit code for all devices: 1 if any failed, else 3 if any was not judged, else 0.

    A device that is unreachable or not begun counts as failed.
    """
    exit_codes = {outcome.kind.exit_code for outcome in outcomes}
    if 1 in exit_codes:
        return 1
    return max(exit_codes, default=0)


def hosts(names: Sequence[str], inventory: Path | None) -> list[str]:
    """Return the hosts that names stand for, each once, in order.

    names: hosts as ssh knows them, groups of the inventory, or `all` for every host in it. With an
    inventory, a host that is not in it is written as user@name, or as an address with a dot or a
    colon: any other name is taken for a misspelt one.
    inventory: a TOML file of lists, such as `lobby = ["pi@camera-1", "pi@camera-2"]`; a group may
    contain other groups. A host whose name is almost a group's is taken for a misspelt group,
    unless it is written as user@name.

    Raises DeployError for an inventory that cannot be read, a name that is not in it, what cannot
    be a host's name, and if there is no host.
    """
    groups = _read_inventory(inventory) if inventory else {}
    if inventory:
        _refuse_misspelt_groups(groups, inventory)
        _refuse_unknown(names, groups, inventory)
    groups.setdefault("all", list(groups))
    if inventory is None and "all" in names:
        raise DeployError("'all' means all hosts of an inventory; name its file with --inventory")
    hosts_by_group: dict[str, list[str]] = {}
    all_hosts = [host for name in names for host in _expand(name, groups, (), hosts_by_group)]
    if not all_hosts:
        raise DeployError(f"{' '.join(names)}: the inventory has no host there; add some to it")
    return list(dict.fromkeys(all_hosts))


def _read_inventory(path: Path) -> dict[str, list[str]]:
    advice = 'write lines such as lobby = ["pi@camera-1"]'
    text = textfiles.read_text(path, DeployError, advice)
    try:
        groups = tomllib.loads(text)
    except (RecursionError, tomllib.TOMLDecodeError) as problem:
        raise DeployError(f"{path}: cannot be read ({problem}); {advice}") from None
    for group, members in groups.items():
        if not _is_list_of_names(members):
            reason = f"the group {group!r} must be a list of names, not {members!r}"
            raise DeployError(f"{path}: {reason}; change it")
    return groups


def _is_list_of_names(members: object) -> bool:
    if not isinstance(members, list):
        return False
    return all(isinstance(member, str) and member for member in members)


def _refuse_unknown(
    names: Sequence[str], groups: Mapping[str, Sequence[str]], inventory: Path
) -> None:
    members = [member for group in groups.values() for member in group]
    known = dict.fromkeys([*groups, *members, "all"])
    for name in names:
        if name in known or any(sign in name for sign in "@.:") or name.startswith("-"):
            continue
        problem = f"{name!r} is neither a group nor a host of it"
        nearest = _nearest(name, list(known))
        hint = f"did you mean {nearest!r}?" if nearest else f"write it as user@{name}, or add it"
        raise DeployError(f"{inventory}: {problem}; {hint}")


def _refuse_misspelt_groups(groups: Mapping[str, Sequence[str]], inventory: Path) -> None:
    """Raise DeployError for a member that is no group and is almost called like one.

    kitchen-1 is a host of the group kitchen, not a misspelt kitchen: numbers differ.
    """
    for group, members in groups.items():
        for member in members:
            if member in groups or any(sign in member for sign in "@.:"):
                continue
            others = [other for other in groups if _digits(other) == _digits(member)]
            for other in difflib.get_close_matches(member, others, n=1, cutoff=_MISSPELT):
                problem = f"{member!r} in {group!r} is not a group"
                hint = f"did you mean {other!r}? A host is written as user@{member}"
                raise DeployError(f"{inventory}: {problem}; {hint}")


def _digits(name: str) -> str:
    return "".join(filter(str.isdigit, name))


def _nearest(name: str, known: Sequence[str]) -> str | None:
    """Return the known name that is most like `name`, users aside; None if none is like it."""
    names = {other.rpartition("@")[2].lower(): other for other in known}
    matches = difflib.get_close_matches(name.lower(), names, n=1)
    return names[matches[0]] if matches else None


def _expand(
    name: str,
    groups: Mapping[str, Sequence[str]],
    parents: tuple[str, ...],
    hosts_by_group: dict[str, list[str]],
) -> list[str]:
    """Return the hosts of a group, each once, or the name itself if it is a host's.

    parents: the groups that this one was reached through.
    hosts_by_group: of the groups that were expanded before; gets this one's.
    """
    if name in parents:
        raise DeployError(f"the group {name!r} contains itself; take it out of the inventory")
    if name in groups:
        if len(parents) == _MAX_DEPTH:
            raise DeployError(f"the group {name!r} is nested too deep; name its hosts directly")
        if name not in hosts_by_group:
            path = (*parents, name)
            members = (_expand(member, groups, path, hosts_by_group) for member in groups[name])
            hosts_by_group[name] = list(dict.fromkeys(itertools.chain.from_iterable(members)))
        return hosts_by_group[name]
    host = name.rpartition("@")[2]
    if not host or host.startswith("-") or name.startswith("-") or not _is_one_word(name):
        raise DeployError(f"{name!r} is not the name of a host; change it")
    return [name]


def _is_one_word(name: str) -> bool:
    return name.isprintable() and not any(map(str.isspace, name))


def waves(plan: str, count: int) -> list[int]:
    """Return how many devices have been reached after each wave.

    plan: numbers and percentages of devices that grow to all of them, such as '1,10%,100%'.
    count: the number of all devices.

    Raises DeployError for a plan that is none.
    """
    reached = [_wave_size(part, plan, count) for part in plan.split(",")]
    if reached != sorted(reached) or reached[-1] != count:
        problem = "waves must grow, and the last reach all"
        raise DeployError(f"--waves {plan}: {problem}; write 1,10%,100%")
    return reached


def _wave_size(part: str, plan: str, count: int) -> int:
    size = _parse_size(part, count)
    if not 0 < size < math.inf:
        problem = f"{part!r} is neither a number nor a percentage"
        raise DeployError(f"--waves {plan}: {problem}; write 1,10%,100%")
    return min(max(round(size), 1), count)


def _parse_size(part: str, count: int) -> float:
    """Return the devices that a number or a percentage stands for; NaN for what is neither."""
    try:
        if part.endswith("%"):
            return float(part[:-1]) * count / 100
        return int(part)
    except ValueError:
        return math.nan


def roll_out(devices: Sequence[Device], work: Work, plan: str, progress: Progress) -> list[Outcome]:
    """Work on the devices wave after wave, on those of a wave in parallel.

    plan: as for `waves`.

    The first wave in which a device failed or was not judged, or in which none could be reached, is
    the last one. Returns an outcome for each device, in order; NOT_BEGUN after the last wave.
    Raises DeployError for a plan that is none.
    """
    outcomes: list[Outcome] = []
    for wave, reached in enumerate(waves(plan, len(devices)), start=1):
        wave_devices = devices[len(outcomes) : reached]
        wave_outcomes = on_each(wave_devices, work, progress, wave)
        outcomes += wave_outcomes
        if _stops_roll_out(wave_outcomes):
            break
    for device in devices[len(outcomes) :]:
        outcomes.append(Outcome(device.host, 0, OutcomeKind.NOT_BEGUN, "a wave before failed"))
    return outcomes


def _stops_roll_out(outcomes: Sequence[Outcome]) -> bool:
    if not outcomes:
        return False
    kinds = {outcome.kind for outcome in outcomes}
    if kinds & {OutcomeKind.FAILED, OutcomeKind.NOT_JUDGED}:
        return True
    return kinds == {OutcomeKind.UNREACHABLE}


def on_each(
    devices: Sequence[Device],
    work: Work,
    progress: Progress,
    wave: int = 1,
    report: Callable[[Outcome], None] | None = None,
    max_parallel: int = MAX_PARALLEL,
) -> list[Outcome]:
    """Work on all devices in parallel; one that fails does not stop the others.

    progress: called by the work; also with each outcome, where there is no `report`.
    wave: the wave's number in the outcomes.
    report: called with each outcome as soon as it is there.
    max_parallel: how many devices are worked on at the same time.

    Returns the outcomes in the devices' order. After Ctrl-C all programs are ended at once.
    """
    if not devices:
        return []
    outcomes: dict[str, Outcome] = {}
    pool = ThreadPoolExecutor(min(len(devices), max_parallel))
    try:
        futures = [pool.submit(_attempt, device, work, progress, wave) for device in devices]
        for future in as_completed(futures):
            outcome = future.result()
            outcomes[outcome.host] = outcome
            if report:
                report(outcome)
            else:
                counter = f"[{len(outcomes)}/{len(devices)}]"
                progress(outcome.host, f"{counter} {outcome.kind}: {outcome.text}")
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        process.stop_all()
        raise
    finally:
        pool.shutdown()
        process.allow()
    return [outcomes[device.host] for device in devices]


def _attempt(device: Device, work: Work, progress: Progress, wave: int) -> Outcome:
    """Work on one device; errors become outcomes."""
    start = time.monotonic()
    try:
        result = work(device, progress)
    except UnreachableError as problem:
        result = Result(OutcomeKind.UNREACHABLE, device.without_name(problem))
    except BrokenPipeError:  # of this program's output: nobody reads it any more
        raise
    except (MienError, OSError) as problem:
        result = Result(OutcomeKind.FAILED, device.without_name(problem))
    seconds = time.monotonic() - start
    return Outcome(device.host, wave, result.kind, result.text, seconds)


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the outcomes, at least one, as lines: device, wave, outcome, seconds and text."""
    width = max(len(outcome.host) for outcome in outcomes)
    rows = [f"{'device':<{width}}  wave  outcome       seconds  "]
    for outcome in outcomes:
        host = f"{outcome.host:<{width}}"
        wave = f"{outcome.wave or '-':>4}"
        kind = f"{outcome.kind:<12}"
        seconds = f"{outcome.seconds:7.1f}"
        rows.append("  ".join((host, wave, kind, seconds, outcome.text)))
    return "\n".join(rows)


class Printer:
    """Print lines about devices, each line as a whole behind the device's name. A Progress.

    hosts: all names, so that the lines align.
    write: called with a line and its end.
    coloured: whether each name has a colour of its own, as on a terminal.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        write: Callable[[str], object],
        coloured: bool,
    ) -> None:
        self._write = write
        self._coloured = coloured
        self._lock = threading.Lock()
        self._numbers = {host: number for number, host in enumerate(hosts)}
        self._width = max(map(len, hosts), default=0)

    def __call__(self, host: str, line: str) -> None:
        """Print one line."""
        name = f"{host:<{self._width}}"
        if self._coloured:
            colour = _COLOURS[self._numbers.get(host, 0) % len(_COLOURS)]
            name = f"\033[{colour}m{name}\033[0m"
        with self._lock:
            self._write(f"{name}  {line}\n")
