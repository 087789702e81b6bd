"""Several trained runs as one teacher: their probabilities averaged, weighted by what validation rows say.

ensemble.json holds the members (run folder, weight, a temperature for each head) and every figure; ensemble.png draws
them. The weights are chosen on validation rows only; PublicTest is reported.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mien_edge import files
from mien_edge.contract import LABELS, softmax
from mien_edge.errors import RunError
from numpy.typing import NDArray

from mien_train import data, loop, metrics, networks, plots, runs
from mien_train import material as materials
from mien_train.runs import Run

_ROUNDS = 40


@dataclass(frozen=True, eq=False)
class Member:
    """A fitted run, how much it counts (the weights of an ensemble sum to 1), and a temperature for each head."""

    run: Run
    weight: float
    temperatures: tuple[float, ...]

    def logits(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(n, heads, 7) of toned (n, s, s) crops."""
        return _logits(self.run, crops)

    def calibrated(self, logits: NDArray[Any]) -> NDArray[np.float64]:
        """(n, heads, 7) probabilities of the member's logits."""
        return softmax(logits / np.array(self.temperatures)[:, None])  # type: ignore[return-value]


@dataclass(frozen=True, eq=False)
class Ensemble:
    """The members that count, and what their heads are."""

    heads: tuple[str, ...]
    members: tuple[Member, ...]

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(n, heads, 7) probabilities of toned (n, s, s) crops."""
        return sum(  # type: ignore[return-value]
            member.weight * member.calibrated(member.logits(crops)) for member in self.members if member.weight
        )


def load(folder: Path) -> Ensemble:
    """The ensemble of a folder. Raises RunError where there is none."""
    path = folder / "ensemble.json"
    try:
        found = json.loads(path.read_text())
        members = [
            Member(runs.load(Path(each["run"])), each["weight"], tuple(each["temperatures"].values()))
            for each in found["members"]
        ]
        digests = [each["sha256"] for each in found["members"]]
    except FileNotFoundError:
        raise RunError(f"{path}: no ensemble here; make one with: mien-train ensemble {folder} RUN …") from None
    except (json.JSONDecodeError, KeyError, TypeError) as problem:
        raise RunError(f"{path} is damaged ({problem}); make it again with: mien-train ensemble") from None
    for member, digest in zip(members, digests, strict=True):
        if _digest(member.run) != digest:
            raise RunError(f"{member.run.folder} was trained on since {path} was made; make the ensemble again")
    return Ensemble(tuple(found["heads"]), tuple(members))


def _digest(run: Run) -> str:
    path = run.stage("fit") / "best.npz"
    return files.sha256(path) if path.exists() else ""


def make(folder: Path, members: Sequence[Run]) -> dict[str, Any]:
    """Weigh the members on validation rows, measure each and the whole, and write ensemble.json and ensemble.png.

    Raises RunError where a member's training is not over, or members differ in data, split, heads or preprocessing.
    """
    first = members[0]
    for member in members:
        check_alike(first, member)
        if not loop.is_over(member.stage("fit"), member.recipe.fit):
            raise RunError(
                f"{member.folder}: its training is not over; go on with: mien-train fit {member.recipe.name}"
            )
    recipe, dataset = first.recipe, first.dataset()
    parts = data.with_test(first.split(dataset))
    chosen = np.concatenate([parts.validation, parts.test])
    crops = recipe.preprocess.toned(dataset.images[chosen])
    labels = materials.labels(dataset.take(chosen), recipe.heads)
    part = {"validation": slice(len(parts.validation)), parts.test_name: slice(len(parts.validation), None)}
    logits = [_logits(run, crops) for run in members]
    on = part["validation"]
    temperatures = [_temperatures(each[on], labels[on]) for each in logits]
    told = [
        Member(run, 0, given).calibrated(each) for run, given, each in zip(members, temperatures, logits, strict=True)
    ]
    weights = best_weights([each[on] for each in told], labels[on])
    whole = np.tensordot(weights, np.stack(told), 1)
    unseen = data.unseen(dataset, parts)

    def figures(probabilities: NDArray[Any]) -> dict[str, Any]:
        found = {name: _figures(probabilities[rows], labels[rows], recipe.heads) for name, rows in part.items()}
        seen = part[parts.test_name]
        if unseen.any():
            found[f"{parts.test_name} unseen"] = _figures(
                probabilities[seen][unseen], labels[seen][unseen], recipe.heads
            )
        return found

    result = {
        "heads": list(recipe.heads),
        "members": [
            {
                "run": str(run.folder.resolve()), "name": run.folder.name, "sha256": _digest(run),
                "weight": round(float(weight), 4),
                "temperatures": dict(zip(recipe.heads, given, strict=True)), "figures": figures(each),
            }
            for run, weight, given, each in zip(members, weights, temperatures, told, strict=True)
        ],
        "figures": figures(whole),
        "equal": figures(np.mean(told, axis=0)),
    }  # fmt: skip
    files.write_text(folder / "ensemble.json", json.dumps(result, indent=1) + "\n")
    files.write_bytes(folder / "ensemble.png", _picture(result))
    return result


def origin(folder: Path) -> list[dict[str, Any]]:
    """What a card says of a teacher: each member that counts, with its weight, recipe and seed."""
    return [
        {"weight": member.weight, "recipe": member.run.record["recipe"], "command": member.run.record["command"]}
        for member in load(folder).members
        if member.weight
    ]


def best_weights(told: Sequence[NDArray[Any]], labels: NDArray[Any]) -> NDArray[np.float64]:
    """Weights that sum to 1: starting from nothing, the member is added, again and again, that makes the sum's
    negative log-likelihood least (greedy selection with replacement, Caruana et al. 2004).
    """
    counts = np.zeros(len(told))
    total = np.zeros_like(told[0])
    for _ in range(_ROUNDS):
        losses = [_nll((total + each) / (counts.sum() + 1), labels) for each in told]
        counts[int(np.argmin(losses))] += 1
        total = total + told[int(np.argmin(losses))]
    return counts / counts.sum()


def as_text(result: dict[str, Any]) -> str:
    """A row per member, then the whole by chosen and by equal weights."""
    parts = list(result["figures"])
    columns = [f"{part} {head}" for part in parts for head in result["heads"]]
    rows = [(f"{each['name']} ({each['weight']:.2f})", each["figures"]) for each in result["members"]]
    rows += [("equal weights", result["equal"]), ("ensemble", result["figures"])]
    width = max(len(name) for name, _ in rows)
    lines = [" " * width + "".join(f"{column:>28}" for column in columns)]
    for name, figures in rows:
        cells = [f"{figures[part][head]['accuracy']:>28.2%}" for part in parts for head in result["heads"]]
        lines.append(f"{name:<{width}}" + "".join(cells))
    return "\n".join(lines)


def check_alike(first: Run, other: Run) -> None:
    """Raise RunError unless two runs can be averaged, or one teach the other: a split of its own would let a teacher
    tell a student what the student is measured on.
    """
    for name, a, b in (
        ("data", first.record["data"]["sha256"], other.record["data"]["sha256"]),
        ("split", first.record["split"], other.record["split"]),
        ("heads", first.recipe.heads, other.recipe.heads),
        ("preprocessing", first.recipe.preprocess, other.recipe.preprocess),
    ):
        if a != b:
            raise RunError(f"{other.folder} has other {name} than {first.folder}; they must be the same")


def _logits(run: Run, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    model = networks.build(run.recipe, precision=run.recipe.precision)
    model.set_weights(loop.best_weights(run.stage("fit")))
    return loop.predict(model, crops).reshape(len(crops), -1, len(LABELS))


def _temperatures(logits: NDArray[Any], labels: NDArray[Any]) -> tuple[float, ...]:
    known = labels >= 0
    return tuple(
        metrics.fit_temperature(logits[known[:, i], i], labels[known[:, i], i]) for i in range(labels.shape[1])
    )


def _nll(probabilities: NDArray[Any], labels: NDArray[Any]) -> float:
    known = labels >= 0
    return sum(
        metrics.nll(np.log(np.maximum(probabilities[known[:, i], i], 1e-9)), labels[known[:, i], i], 1.0)
        for i in range(labels.shape[1])
    )


def _figures(probabilities: NDArray[Any], labels: NDArray[Any], heads: Sequence[str]) -> dict[str, Any]:
    known = labels >= 0
    logits = np.log(np.maximum(probabilities, 1e-9))
    return {head: metrics.figures(logits[known[:, i], i], labels[known[:, i], i]) for i, head in enumerate(heads)}


def _picture(result: dict[str, Any]) -> bytes:
    test = next(name for name in result["figures"] if name != "validation")
    rows = [(each["name"], each["figures"]) for each in result["members"]] + [("ensemble", result["figures"])]
    values = {head: [figures[test][head]["accuracy"] for _, figures in rows] for head in result["heads"]}
    return plots.bars(values, [name for name, _ in rows], f"accuracy on {test}", floor=0.5)
