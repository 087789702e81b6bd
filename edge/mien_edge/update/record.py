"""What the store of bundles knows: the record in its state file, and its folder's state."""

from dataclasses import dataclass, field
from typing import Any

from mien_edge import schema


@dataclass(frozen=True, slots=True)
class ProbationResult:
    """How the last probation ended.

    name: the bundle, NAME-VERSION.
    passed: whether it was committed; False if it was rolled back.
    reason: a sentence for people.
    time: seconds since 1970.
    """

    name: str
    passed: bool = field(metadata={"key": "kept"})
    reason: str
    time: float


@dataclass(frozen=True, slots=True)
class StoreRecord:
    """The content of state.json.

    committed: bundles that have passed their probation, the newest first.
    highest: by a bundle's name, the highest version that was ever committed.
    last_result: how the last probation ended; None before the first.
    """

    committed: tuple[str, ...] = ()
    highest: dict[str, int] = field(default_factory=dict)
    last_result: ProbationResult | None = field(default=None, metadata={"key": "verdict"})


@dataclass(frozen=True, slots=True)
class ProbationProgress:
    """How far a probation is: the content of probation.json.

    name: the bundle on probation.
    seconds: how long it has been measured.
    labels: how many faces, by 'LABEL/LABEL': the new model's, and that of the one before.
    """

    name: str
    seconds: float
    labels: dict[str, int] = field(default_factory=dict)

    @property
    def faces(self) -> int:
        """Faces that both models have read."""
        return sum(self.labels.values())


@dataclass(frozen=True, slots=True)
class StartFailures:
    """Starts of the service that a bundle has ended: the content of its starts.json.

    count: how many in a row.
    is_open: whether the bundle is being loaded, or reads its first face, at this moment; if it is
    when a service starts, the one before ended there.
    """

    count: int = 0
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class StoreState:
    """What is installed, and what each bundle is for. Bundles are named NAME-VERSION.

    installed: all bundles in the folder, sorted.
    current: the one that runs; '' for the bundle that came with mien.
    pending: the one that the service takes next; '' for none.
    shadow: the one that is compared with `current`; '' for none.
    record: what the state file holds.
    failed: why installed bundles are not taken again, by name.
    """

    installed: tuple[str, ...]
    current: str
    pending: str = field(metadata={"key": "next"})
    shadow: str
    record: StoreRecord
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def on_probation(self) -> bool:
        """Whether `current` is not committed yet."""
        return bool(self.current) and self.current not in self.record.committed[:1]

    @property
    def rollback_targets(self) -> tuple[str, ...]:
        """Committed bundles that can replace `current`, the newest first."""
        return tuple(name for name in self.record.committed if name != self.current)

    @property
    def in_use(self) -> set[str]:
        """Bundles that must not be removed."""
        return {self.current, self.pending, self.shadow, *self.record.committed} - {""}

    def to_json(self) -> dict[str, Any]:
        """The state as `mien-edge models list --json` prints it."""
        return schema.to_dict(self) | {"on_probation": self.on_probation}


def display_name(name: str) -> str:
    """A bundle's name for people; '' is the bundle that came with mien."""
    return name or "the bundle that came with mien"
