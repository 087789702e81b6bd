"""Several trained networks as one teacher: their probabilities averaged, weighted by what validation rows say.

An ensemble's folder needs nothing else: ensemble.json holds each member's recipe, weight, temperatures and every
figure, NAME.npz its network (kernels in half precision), ensemble.png draws them. The weights are chosen on validation
rows only; PublicTest is reported.
"""

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras
from mien_edge import files, schema
from mien_edge.contract import LABELS, softmax
from mien_edge.errors import RunError
from numpy.typing import NDArray

from mien_train import metrics, plots
from mien_train.data import read, splits
from mien_train.training import loop, networks, pretrained
from mien_train.training import run as runs
from mien_train.training import samples as materials
from mien_train.training.recipes import Recipe
from mien_train.training.run import Run

_ROUNDS = 40


@dataclass(frozen=True, eq=False)
class Member:
    """A trained network. facts: what it must have in common with others, see `facts`. start: what its weights began as.
    share: how much it counts (the shares of an ensemble sum to 1). temperatures: one for each head.
    """

    name: str
    recipe: Recipe
    command: str
    facts: dict[str, Any]
    weights: list[NDArray[Any]]
    start: str
    share: float = 0.0
    temperatures: tuple[float, ...] = ()

    def network(self) -> tf_keras.Model:
        """The network with its weights."""
        model = networks.build(self.recipe, precision=self.recipe.precision)
        model.set_weights(self.weights)
        return model

    def has_shape_of(self, recipe: Recipe) -> bool:
        """Whether the recipe's network is the same, by the same arguments, but for its weights."""
        kinds = [(each.network, each.arguments, each.heads, each.preprocess.size) for each in (self.recipe, recipe)]
        own, other = (json.dumps(each, sort_keys=True) for each in kinds)  # in JSON a tuple is a list
        return own == other

    def logits(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(n, heads, 7) of toned (n, s, s) crops."""
        return loop.predict(self.network(), crops).reshape(len(crops), -1, len(LABELS))

    def calibrated(self, logits: NDArray[Any]) -> NDArray[np.float64]:
        """(n, heads, 7) probabilities of the member's logits."""
        return softmax(logits / np.array(self.temperatures)[:, None])  # type: ignore[return-value]


@dataclass(frozen=True, eq=False)
class Ensemble:
    """The members; they have the same facts."""

    members: tuple[Member, ...]

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(n, heads, 7) probabilities of toned (n, s, s) crops."""
        asked = [member for member in self.members if member.share]
        return sum(member.share * member.calibrated(member.logits(crops)) for member in asked)  # type: ignore[return-value]


def load(folder: Path) -> Ensemble:
    """The ensemble of a folder. Raises RunError where there is none, or a damaged one."""
    path = folder / "ensemble.json"
    try:
        found = json.loads(path.read_text())
        facts = found["facts"] | {"split": splits.split_name(found["facts"]["split"])}
        return Ensemble(tuple(_read(folder, each, facts) for each in found["members"]))
    except FileNotFoundError as problem:
        raise RunError(
            f"{problem.filename}: not here; make the ensemble with: mien-train ensemble {folder} MEMBER …"
        ) from None
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile) as problem:
        raise RunError(f"{path} is damaged ({problem}); make it again with: mien-train ensemble") from None


def _read(folder: Path, found: dict[str, Any], facts: dict[str, Any]) -> Member:
    path = folder / f"{found['name']}.npz"
    if files.sha256(path) != found["sha256"]:
        raise RunError(f"{path}: not the file that ensemble.json names; copy the folder again")
    with np.load(path) as stored:
        weights = [stored[f"w{i}"].astype(np.float32) for i in range(len(stored.files))]
    recipe = runs.parse_recipe(found["recipe"])
    temperatures = tuple(found["temperatures"][head] for head in recipe.heads)
    start = found.get("start") or pretrained.origin(recipe)
    return Member(found["name"], recipe, found["command"], facts, weights, start, found["share"], temperatures)


def members(path: Path) -> list[Member]:
    """The members of an ensemble's folder, or a run as the only one. Raises RunError where its training is not over."""
    if (path / "ensemble.json").exists():
        return list(load(path).members)
    run = runs.load(path)
    if not loop.is_over(run.history("fit"), run.recipe.fit):
        raise RunError(f"{path}: its training is not finished; resume it with: mien-train fit {run.recipe.name}")
    weights = halved(loop.best_weights(run.stage("fit")))
    return [Member(path.name, run.recipe, run.record["command"], of_run(run), weights, run.began)]


def halved(weights: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Kernels in half precision: as they are kept, so that what is measured is what teaches."""
    return [each.astype(np.float16).astype(np.float32) if each.ndim > 1 else each for each in weights]


def of_run(run: Run) -> dict[str, Any]:
    """The facts of a run's network."""
    dataset = run.dataset()
    return facts(dataset, run.split(dataset), run.record["split"], run.recipe)


def facts(dataset: read.Dataset, parts: splits.Split, split: str, recipe: Recipe) -> dict[str, Any]:
    """What networks must have in common to be averaged, or to teach one another. Other held rows would let a teacher
    tell a student what the student is measured on.
    """
    held = splits.held_digest(dataset, parts)
    return {
        "held rows": held, "split": split, "heads": list(recipe.heads), "preprocessing": schema.to_dict(recipe.preprocess),
    }  # fmt: skip


def check_alike(name: str, known: dict[str, Any], other_name: str, other: dict[str, Any]) -> None:
    """Raise RunError unless the facts of two networks are the same."""
    differing = [key for key, value in known.items() if other.get(key) != value]
    if differing:
        fact = differing[0].replace("held rows", "validation rows")
        raise RunError(f"{other_name} has other {fact} than {name}; they must be the same")


def make(folder: Path, found: Sequence[Member], dataset: read.Dataset) -> dict[str, Any]:
    """Weigh the members on validation rows, measure each and the whole, and write the ensemble's folder.

    Raises RunError where members differ in data, split, heads or preprocessing, or share a name.
    """
    first = found[0]
    for member in found[1:]:
        check_alike(first.name, first.facts, member.name, member.facts)
    parts = splits.with_test(splits.split(dataset, first.facts["split"]))
    given = first.facts | {"held rows": splits.held_digest(dataset, parts)}
    check_alike(first.name, first.facts, "the data given", given)
    if len({member.name for member in found}) < len(found):
        raise RunError(f"{folder}: two members have the same name; leave one out, or rename a run's folder")
    recipe = first.recipe
    chosen = np.concatenate([parts.validation, parts.test])
    crops = recipe.preprocess.normalize(dataset.images[chosen])
    labels = materials.labels(dataset.take(chosen), recipe.heads)
    held = slice(len(parts.validation))
    logits = [member.logits(crops) for member in found]
    fitted = [
        replace(member, temperatures=_temperatures(each[held], labels[held]))
        for member, each in zip(found, logits, strict=True)
    ]
    told = [member.calibrated(each) for member, each in zip(fitted, logits, strict=True)]
    shares = best_weights([each[held] for each in told], labels[held])
    rows = {
        "validation": np.arange(len(parts.validation)),
        parts.test_name: np.arange(len(parts.validation), len(chosen)),
    }
    rows[f"{parts.test_name} unseen"] = rows[parts.test_name][splits.unseen(dataset, parts)]

    def figures(probabilities: NDArray[Any]) -> dict[str, Any]:
        return {name: _figures(probabilities[at], labels[at], recipe.heads) for name, at in rows.items() if len(at)}

    result = {
        "facts": first.facts,
        "members": [
            {
                "name": member.name, "share": round(float(share), 4), "sha256": _write(folder, member),
                "temperatures": dict(zip(recipe.heads, member.temperatures, strict=True)), "figures": figures(each),
                "recipe": member.recipe.to_dict(), "command": member.command, "start": member.start,
            }
            for member, share, each in zip(fitted, shares, told, strict=True)
        ],
        "figures": figures(np.tensordot(shares, np.stack(told), 1)),
        "equal": figures(np.mean(told, axis=0)),
    }  # fmt: skip
    files.write_text(folder / "ensemble.json", json.dumps(result, indent=1) + "\n")
    files.write_bytes(folder / "ensemble.png", _picture(result))
    return result


def _write(folder: Path, member: Member) -> str:
    """Keep the member's weights in the folder; returns the file's sha256."""
    path = folder / f"{member.name}.npz"
    arrays = {f"w{i}": each.astype(np.float16) if each.ndim > 1 else each for i, each in enumerate(member.weights)}
    with files.atomic_write(path) as temporary:
        np.savez(temporary, **arrays)  # type: ignore[arg-type]
    return files.sha256(path)


def origin(folder: Path) -> list[dict[str, Any]]:
    """What a card says of a teacher: each member that counts, with its share, recipe and command."""
    return [
        {
            "name": member.name,
            "share": member.share,
            "recipe": member.recipe.to_dict(),
            "command": member.command,
            "start": member.start,
        }
        for member in load(folder).members
        if member.share
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
    heads = result["facts"]["heads"]
    columns = [f"{part} {head}" for part in parts for head in heads]
    rows = [(f"{each['name']} ({each['share']:.2f})", each["figures"]) for each in result["members"]]
    rows += [("equal weights", result["equal"]), ("ensemble", result["figures"])]
    width = max(len(name) for name, _ in rows)
    lines = [" " * width + "".join(f"{column:>28}" for column in columns)]
    for name, figures in rows:
        cells = [f"{figures[part][head]['accuracy']:>28.2%}" for part in parts for head in heads]
        lines.append(f"{name:<{width}}" + "".join(cells))
    return "\n".join(lines)


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
    values = {head: [figures[test][head]["accuracy"] for _, figures in rows] for head in result["facts"]["heads"]}
    return plots.bars(values, [name for name, _ in rows], f"accuracy on {test}", floor=0.5)
