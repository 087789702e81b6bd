"""What the store of bundles keeps in its state file."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ProbationResult:
    """How the last probation ended: `kept` or not, why, and when (seconds since 1970)."""

    name: str
    kept: bool
    reason: str
    time: float


@dataclass(frozen=True, slots=True)
class Record:
    """state.json. committed: newest first. highest: per name the highest version that was ever committed."""

    committed: tuple[str, ...] = ()
    highest: dict[str, int] = field(default_factory=dict)
    verdict: ProbationResult | None = None


@dataclass(frozen=True, slots=True)
class StoreState:
    """What is installed, and what each bundle is for. `current` is '' for the bundle that came with mien."""

    installed: tuple[str, ...]
    current: str
    next: str
    shadow: str
    record: Record

    @property
    def on_probation(self) -> bool:
        """Whether `current` has still to prove itself."""
        return bool(self.current) and self.current not in self.record.committed[:1]

    @property
    def older(self) -> tuple[str, ...]:
        """Committed bundles that one can go back to from `current`."""
        return tuple(name for name in self.record.committed if name != self.current)

    @property
    def in_use(self) -> set[str]:
        """Bundles that must stay."""
        return {self.current, self.next, self.shadow, *self.record.committed} - {""}


def describe(name: str) -> str:
    return name or "the bundle that came with mien"
