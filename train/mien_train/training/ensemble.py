"""Several trained networks as one teacher: their probabilities averaged, weighted by what
validation rows say.

An ensemble's folder needs nothing else: ensemble.json holds each member's recipe, share,
temperatures and every figure, NAME.npz its network (kernels in half precision), ensemble.png draws
them. The shares are chosen on validation rows only; PublicTest is reported. Networks of others
(package_network) have no share; their weights stay in their own files.
"""

import json
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from mien_edge import files, schema
from mien_edge.contract import Preprocess
from mien_edge.errors import DataError, RunError

from mien_train import metrics, plots
from mien_train.arrays import Array, Doubles, Floats, Indices, Labels, Pixels
from mien_train.data import heads, splits
from mien_train.data.heads import Head, find_head, head_probabilities, split_heads
from mien_train.data.read import Dataset
from mien_train.data.splits import Split
from mien_train.progress import progress
from mien_train.training import loop, networks, package_network, pretrained
from mien_train.training.package_network import PackageNetwork
from mien_train.training.recipes import Recipe, parse_recipe

_SELECTIONS = 40
_FLOOR = 0.5  # of the accuracies that are drawn, where all are above it
_RENAMED_FACTS = {"held rows": "validation_rows"}
"""Keys in an ensemble.json of earlier versions, and what they are now."""


@dataclass(frozen=True)
class Facts:
    """What networks must have in common to be averaged, or to teach one another. With other
    validation rows a teacher would have been trained on the rows that its student is measured on.

    validation_rows: hexadecimal SHA-256 that names them. split: one of splits.SPLITS. heads: names.
    labels: of each head. preprocessing: of the crops.
    """

    validation_rows: str
    split: str
    heads: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    preprocessing: Preprocess

    @property
    def head_sizes(self) -> list[int]:
        """How many labels each head has."""
        return [len(labels) for labels in self.labels]

    def to_record(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "validation_rows": self.validation_rows,
            "split": self.split,
            "heads": list(self.heads),
            "labels": [list(labels) for labels in self.labels],
            "preprocessing": schema.to_dict(self.preprocessing),
        }

    @staticmethod
    def from_record(record: dict[str, Any]) -> "Facts":
        """Return the facts that `to_record` described, of this version or an earlier one. Raises
        KeyError, RunError.
        """
        values = {_RENAMED_FACTS.get(key, key): value for key, value in record.items()}
        crops = schema.from_dict(Preprocess, values["preprocessing"], "preprocessing", RunError)
        split = splits.current_split_name(values["split"])
        names = tuple(values["heads"])
        # Earlier versions had no heads but those whose labels are known.
        labels = values.get("labels") or [find_head(name).labels for name in names]
        return Facts(values["validation_rows"], split, names, tuple(map(tuple, labels)), crops)


@dataclass(frozen=True, eq=False)
class Member:
    """A trained network.

    facts: what it must have in common with others. weights: as `model.set_weights` takes them, of
    derived heads too, where it has some. start: what its weights were before its first epoch.
    share: how much it counts, 0..1; the shares of an ensemble sum to 1. temperatures: one for each
    head that learns from labels.
    """

    name: str
    recipe: Recipe
    command: str
    facts: Facts
    weights: list[Array]
    start: str
    share: float = 0.0
    temperatures: tuple[float, ...] = ()

    def network(self) -> keras.Model:
        """Build the network with its weights."""
        outputs = len(self.weights[-1])
        model = networks.build(self.recipe, outputs, self.recipe.precision)
        model.set_weights(self.weights)
        return model

    def has_shape_of(self, recipe: Recipe) -> bool:
        """Whether the recipe's network is the same, by the same arguments, but for its weights."""
        return _shape(self.recipe) == _shape(recipe)

    def logits(self, crops: Pixels) -> Floats:
        """Return (n, outputs) logits of normalized (n, s, s) crops, those of the heads that learn
        from labels.
        """
        return loop.predict(self.network(), crops)[:, : sum(self.facts.head_sizes)]

    def probabilities(self, logits: Array) -> Doubles:
        """Return (n, outputs) probabilities of the member's (n, outputs) logits, each head at its
        temperature.
        """
        return head_probabilities(logits, self.facts.head_sizes, self.temperatures)

    def predict(self, crops: Pixels, is_mirrored: bool = False) -> Doubles:
        """Return (n, outputs) probabilities of normalized (n, s, s) crops.

        is_mirrored: the mean of those on the crops and on their mirror images.
        """
        own = self.probabilities(self.logits(crops))
        return (own + self.predict_mirrored(crops)) / 2 if is_mirrored else own

    def predict_mirrored(self, crops: Pixels) -> Doubles:
        """Return (n, outputs) probabilities of the mirror images of crops."""
        return self.probabilities(self.logits(np.ascontiguousarray(crops[:, :, ::-1])))


@dataclass(frozen=True, eq=False)
class Ensemble:
    """The members of an ensemble's folder, which have the same facts, and networks of others, which
    teach derived heads alone.

    is_mirrored: whether its word is the mean of those on a crop and on its mirror image.
    """

    folder: Path
    members: tuple[Member, ...]
    packages: tuple[PackageNetwork, ...] = ()
    is_mirrored: bool = False

    def __call__(self, crops: Pixels) -> Doubles:
        """Return (n, outputs) probabilities of normalized (n, s, s) crops."""
        total = np.zeros(())
        for member in self.members:
            if member.share:
                total = total + member.share * member.predict(crops, self.is_mirrored)
        return total

    @property
    def facts(self) -> Facts:
        """What its members have in common."""
        return self.members[0].facts


def load_ensemble(folder: Path) -> Ensemble:
    """Load the ensemble of a folder. Raises RunError where there is none, or a damaged one."""
    with _damage_explained(folder) as path:
        try:
            record = json.loads(path.read_text())
            facts = Facts.from_record(record["facts"])
            members = [_load_member(folder, member, facts) for member in record["members"]]
            packages = _parse_packages(folder, record)
            is_mirrored = record.get("mirrored", False)
        except FileNotFoundError as problem:
            raise RunError(
                f"{problem.filename}: not here; make the ensemble with: mien-train ensemble "
                f"{folder} MEMBER …"
            ) from None
    return Ensemble(folder, tuple(members), tuple(packages), is_mirrored)


def read_facts(folder: Path) -> Facts:
    """Read what the members of an ensemble's folder have in common, without their networks. Raises
    RunError for a damaged ensemble.json.
    """
    with _damage_explained(folder) as path:
        return Facts.from_record(json.loads(path.read_text())["facts"])


def read_packages(folder: Path) -> list[PackageNetwork]:
    """Read which networks of others an ensemble's folder names, without its members' networks.
    Raises RunError for a damaged ensemble.json.
    """
    with _damage_explained(folder) as path:
        return _parse_packages(folder, json.loads(path.read_text()))


def _parse_packages(folder: Path, record: dict[str, Any]) -> list[PackageNetwork]:
    return [package_network.from_record(folder, entry) for entry in _packages(record)]


@contextmanager
def _damage_explained(folder: Path) -> Iterator[Path]:
    """Yield the path of a folder's ensemble.json. Raises RunError where what is in the folder
    proves to be damaged.
    """
    path = folder / "ensemble.json"
    try:
        yield path
    except (AttributeError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as problem:
        raise RunError(
            f"{path} is damaged ({problem}); make it again with: mien-train ensemble"
        ) from None


def facts(dataset: Dataset, split: Split, split_name: str, recipe: Recipe) -> Facts:
    """Return the facts of a network that the recipe trains on that split of the dataset."""
    own_heads = recipe.learned_heads
    labels = tuple(head.labels for head in heads.resolve(own_heads, dataset))
    rows = splits.validation_digest(dataset, split)
    return Facts(rows, split_name, own_heads, labels, recipe.preprocess)


def check_alike(name: str, own: Facts, other_name: str, other: Facts) -> None:
    """Raise RunError, which names what differs, unless the facts of two networks are the same."""
    for field in fields(Facts):
        if getattr(own, field.name) != getattr(other, field.name):
            what = field.name.replace("_", " ")
            raise RunError(
                f"{other_name} has other {what} than {name}; use networks that were trained on the "
                "same data, split and heads"
            )


def round_kernels(weights: Sequence[Array]) -> list[Array]:
    """Return float32 weights with kernels rounded to half precision, as they are stored, so that
    what is measured is what teaches.
    """
    return [_round(values).astype(values.dtype) for values in weights]


def make_ensemble(
    folder: Path,
    members: Sequence[Member],
    dataset: Dataset,
    packages: Sequence[PackageNetwork] = (),
    photographs: Dataset | None = None,
    is_mirrored: bool = False,
) -> dict[str, Any]:
    """Weigh the members on validation rows, measure each, all together, and the networks of others,
    and write the ensemble's folder.

    photographs: further rows to measure on. is_mirrored: see Ensemble. Returns the values of
    ensemble.json. Raises RunError where members differ in data, split, heads or preprocessing,
    where two networks share a name, and as PackageNetwork.probabilities does, and DataError for
    photographs with other labels.
    """
    first = members[0]
    split = splits.require_test(splits.split_dataset(dataset, first.facts.split))
    _refuse_unlike(members, facts(dataset, split, first.facts.split, first.recipe))
    _refuse_equal_names(folder, [*members, *packages])
    rows = _measured_rows(dataset, split, first, photographs)
    measured = [
        rows.measure(member, is_mirrored) for member in progress(members, "measuring", "members")
    ]
    probabilities = [member.probabilities for member in measured]
    shares = rows.select_shares(probabilities)
    package_records = [rows.package_record(package, folder) for package in packages]
    result = {
        "facts": first.facts.to_record(),
        "mirrored": is_mirrored,
        "members": _write_members(folder, rows, measured, shares),
        "figures": rows.figures(np.tensordot(shares, np.stack(probabilities), 1)),
        "equal": rows.figures(np.mean(probabilities, axis=0)),
        "packages": package_records,
    }
    files.write_text(folder / "ensemble.json", json.dumps(result, indent=1) + "\n")
    files.write_bytes(folder / "ensemble.png", _picture(result))
    return result


def select_shares(
    probabilities: Sequence[Array], labels: Array, head_sizes: Sequence[int]
) -> Doubles:
    """Return the members' shares, which sum to 1: starting from nothing, the member is added, again
    and again, that makes the mean's negative log-likelihood least (greedy selection with
    replacement, Caruana et al. 2004).

    probabilities: (n, outputs) of each member. labels: (n, heads), -1 for none. head_sizes: outputs
    of each head.
    """
    counts = np.zeros(len(probabilities))
    total = np.zeros_like(probabilities[0])
    for _ in range(_SELECTIONS):
        means = [(total + values) / (counts.sum() + 1) for values in probabilities]
        losses = [_nll(mean, labels, head_sizes) for mean in means]
        best = int(np.argmin(losses))
        counts[best] += 1
        total = total + probabilities[best]
    return counts / counts.sum()


def provenance(ensemble: Ensemble, student_heads: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return what a card says of a teacher: each member that counts, with its share, recipe,
    command and start; and for a student with a derived head each network of others, with its file,
    licence and data.
    """
    has_derived = heads.learned(student_heads) != tuple(student_heads)
    packages = ensemble.packages if has_derived else ()
    return [
        {
            "name": member.name,
            "share": member.share,
            "recipe": member.recipe.to_dict(),
            "command": member.command,
            "start": member.start,
        }
        for member in ensemble.members
        if member.share
    ] + [package.provenance() for package in packages]


def as_text(result: dict[str, Any]) -> str:
    """Return the accuracies, and in brackets the balanced accuracies, of an ensemble.json as a
    table: a row for each member, all by equal and by chosen shares, and the networks of others,
    below which stand their licences and data.
    """
    figures = {
        f"{member['name']} ({member['share']:.2f})": member["figures"]
        for member in result["members"]
    }
    figures["equal weights"] = result["equal"]
    figures["ensemble"] = result["figures"]
    for package in _packages(result):
        figures[f"{package['contract']['name']} (package)"] = package["figures"]
    columns = [(rows, head) for rows in result["figures"] for head in result["facts"]["heads"]]
    corner = "accuracy (balanced)"
    width = max(map(len, [corner, *figures]))
    lines = [f"{corner:<{width}}" + "".join(f"{f'{rows} {head}':>28}" for rows, head in columns)]
    for title, row in figures.items():
        cells = [f"{_accuracies_as_text(row[rows][head]):>28}" for rows, head in columns]
        lines.append(f"{title:<{width}}" + "".join(cells))
    for package in _packages(result):
        contract = package["contract"]
        lines.append(f"{contract['name']}: {contract['licence']}; trained on {contract['data']}")
    return "\n".join(lines)


def _accuracies_as_text(figures: dict[str, Any]) -> str:
    balanced = np.mean(list(figures["recall"].values()))
    return f"{figures['accuracy']:.2%} ({balanced:.2%})"


def _packages(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what an ensemble.json says of networks of others; earlier versions have none."""
    return record.get("packages", [])


@dataclass(frozen=True, eq=False)
class _MeasuredRows:
    """The rows that an ensemble is measured on.

    crops: normalized (n, s, s). labels: (n, heads), -1 for none. facts: of the members. sets: row
    numbers by 'validation', the test's name, that with ' unseen', for those without a near
    duplicate among the training rows, and 'photographs'. calibration_index: of the head whose
    labels networks of others are calibrated by.
    """

    crops: Pixels
    labels: Labels
    facts: Facts
    sets: dict[str, Indices]
    calibration_index: int

    def measure(self, member: Member, is_mirrored: bool) -> "_MeasuredMember":
        """Return the member, calibrated on validation rows, with its probabilities on all rows."""
        logits = member.logits(self.crops)
        rows = self.sets["validation"]
        sizes = self.facts.head_sizes
        temperatures = _fit_temperatures(logits[rows], self.labels[rows], sizes)
        calibrated = replace(member, temperatures=temperatures)
        probabilities = calibrated.probabilities(logits)
        if is_mirrored:
            probabilities = (probabilities + calibrated.predict_mirrored(self.crops)) / 2
        return _MeasuredMember(calibrated, probabilities)

    def select_shares(self, probabilities: Sequence[Array]) -> Doubles:
        """Return the shares of members with these (n, outputs) probabilities, selected on the
        validation rows.
        """
        rows = self.sets["validation"]
        own = [values[rows] for values in probabilities]
        return select_shares(own, self.labels[rows], self.facts.head_sizes)

    def figures(self, probabilities: Array) -> dict[str, Any]:
        """Return the figures of (n, outputs) probabilities: of each set of rows, by each head."""
        return {
            name: self._head_figures(probabilities[rows], self.labels[rows])
            for name, rows in self.sets.items()
            if len(rows)
        }

    def package_record(self, package: PackageNetwork, folder: Path) -> dict[str, Any]:
        """Return what ensemble.json says of a network of others, calibrated on validation rows and
        measured as if each head had its labels.
        """
        plain = replace(package, temperature=1.0).probabilities(self.crops)
        temperature = self._fit_package_temperature(plain)
        calibrated = replace(package, temperature=temperature)
        probabilities = package_network.tempered(plain, temperature)
        parts = [package.select(probabilities, labels) for labels in self.facts.labels]
        figures = self.figures(np.concatenate(parts, axis=1))
        return calibrated.to_record(folder) | {"figures": figures}

    def _fit_package_temperature(self, probabilities: Doubles) -> float:
        """Return the temperature for the (n, len(LABELS)) probabilities of a network of others, by
        the labels of the head that thresholds go by; rows with a label that it lacks are left out.
        """
        rows = self.sets["validation"]
        index = self.calibration_index
        own = PackageNetwork.select(probabilities[rows], self.facts.labels[index])
        labels = self.labels[rows, index]
        is_known = (labels >= 0) & (own[np.arange(len(own)), labels] > 0)
        return metrics.fit_temperature(_logarithms(own[is_known]), labels[is_known])

    def _head_figures(self, probabilities: Array, labels: Array) -> dict[str, Any]:
        logits = _logarithms(probabilities)
        figures = {}
        parts = split_heads(logits, self.facts.head_sizes)
        for index, head_logits in enumerate(parts):
            labelled = labels[:, index] >= 0
            head_metrics = metrics.classification_metrics(
                head_logits[labelled],
                labels[labelled, index],
                label_names=self.facts.labels[index],
            )
            figures[self.facts.heads[index]] = head_metrics.to_json()
        return figures


@dataclass(frozen=True, eq=False)
class _MeasuredMember:
    """A calibrated member and its (n, outputs) probabilities on the measured rows."""

    member: Member
    probabilities: Doubles


def _measured_rows(
    dataset: Dataset, split: Split, member: Member, photographs: Dataset | None
) -> _MeasuredRows:
    recipe = member.recipe
    own_heads = heads.resolve(member.facts.heads, dataset)
    rows = np.concatenate([split.validation, split.test])
    validation = np.arange(len(split.validation))
    test = np.arange(len(split.validation), len(rows))
    sets = {
        "validation": validation,
        split.test_name: test,
        f"{split.test_name} unseen": test[splits.without_near_duplicates(dataset, split)],
    }
    images = dataset.images[rows]
    labels = heads.stack_labels(dataset.take(rows), own_heads)
    if photographs is not None:
        sets["photographs"] = np.arange(len(rows), len(rows) + len(photographs))
        images = np.concatenate([images, photographs.images])
        labels = np.concatenate([labels, _photograph_labels(photographs, own_heads)])
    crops = recipe.preprocess.normalize(images)
    calibration_index = own_heads.index(heads.calibration_head(own_heads))
    return _MeasuredRows(crops, labels, member.facts, sets, calibration_index)


def _photograph_labels(photographs: Dataset, own_heads: Sequence[Head]) -> Labels:
    """Return (n, heads) labels, -1 for none: each head is measured by the photographs' own.

    Raises DataError for a head that has none of them.
    """
    by_own_labels = [replace(head, vote_columns=()) for head in own_heads]
    for head in by_own_labels:
        if not head.has_labels(photographs):
            raise DataError(
                f"the photographs have the labels {', '.join(photographs.label_names)}, and the "
                f"head {head.name} none of them; leave --photos out"
            )
    return heads.stack_labels(photographs, by_own_labels)


def _refuse_unlike(members: Sequence[Member], dataset_facts: Facts) -> None:
    first = members[0]
    for member in members[1:]:
        check_alike(first.name, first.facts, member.name, member.facts)
    check_alike(first.name, first.facts, "the data given", dataset_facts)


def _refuse_equal_names(folder: Path, networks: Sequence[Member | PackageNetwork]) -> None:
    if len({network.name for network in networks}) < len(networks):
        raise RunError(
            f"{folder}: two members have the same name; leave one out, or rename a run's folder"
        )


def _shape(recipe: Recipe) -> str:
    """Return what decides a network's shape, as JSON, in which a tuple is a list."""
    values = [recipe.network, recipe.arguments, recipe.learned_heads, recipe.preprocess.size]
    return json.dumps(values, sort_keys=True)


def _load_member(folder: Path, record: dict[str, Any], facts: Facts) -> Member:
    path = folder / f"{record['name']}.npz"
    if files.sha256(path) != record["sha256"]:
        raise RunError(f"{path}: not the file that ensemble.json names; copy the folder again")
    with np.load(path) as stored:
        weights = [stored[f"w{index}"].astype(np.float32) for index in range(len(stored.files))]
    recipe = parse_recipe(record["recipe"])
    return Member(
        name=record["name"],
        recipe=recipe,
        command=record["command"],
        facts=facts,
        weights=weights,
        start=record.get("start") or pretrained.describe(recipe),
        share=record["share"],
        temperatures=tuple(record["temperatures"][head] for head in facts.heads),
    )


def _member_record(member: Member, sha256: str, figures: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": member.name,
        "share": member.share,
        "sha256": sha256,
        "temperatures": dict(zip(member.facts.heads, member.temperatures, strict=True)),
        "figures": figures,
        "recipe": member.recipe.to_dict(),
        "command": member.command,
        "start": member.start,
    }


def _write_members(
    folder: Path,
    rows: _MeasuredRows,
    measured: Sequence[_MeasuredMember],
    shares: Doubles,
) -> list[dict[str, Any]]:
    """Write the members' networks; return what ensemble.json says of each."""
    records = []
    for entry, share in zip(measured, shares, strict=True):
        member = replace(entry.member, share=round(float(share), 4))
        sha256 = _write_weights(folder, member)
        records.append(_member_record(member, sha256, rows.figures(entry.probabilities)))
    return records


def _write_weights(folder: Path, member: Member) -> str:
    """Write the member's weights into the folder; return the file's SHA-256."""
    path = folder / f"{member.name}.npz"
    arrays = {f"w{index}": _round(values) for index, values in enumerate(member.weights)}
    with files.atomic_write(path) as temporary:
        np.savez(temporary, **arrays)  # type: ignore[arg-type]
    return files.sha256(path)


def _round(values: Array) -> Array:
    """Return a kernel in half precision, and an array of one axis as it is."""
    return values.astype(np.float16) if values.ndim > 1 else values


def _fit_temperatures(
    logits: Floats, labels: Labels, head_sizes: Sequence[int]
) -> tuple[float, ...]:
    """Return a temperature for each head of (n, outputs) logits with (n, heads) labels."""
    temperatures = []
    for index, head_logits in enumerate(split_heads(logits, head_sizes)):
        labelled = labels[:, index] >= 0
        temperature = metrics.fit_temperature(head_logits[labelled], labels[labelled, index])
        temperatures.append(temperature)
    return tuple(temperatures)


def _nll(probabilities: Array, labels: Array, head_sizes: Sequence[int]) -> float:
    """Return the heads' mean negative log-likelihoods in nats, summed."""
    logits = _logarithms(probabilities)
    total = 0.0
    for index, head_logits in enumerate(split_heads(logits, head_sizes)):
        labelled = labels[:, index] >= 0
        total += metrics.nll(head_logits[labelled], labels[labelled, index], 1.0)
    return total


def _logarithms(probabilities: Array) -> Array:
    """Return the logits of probabilities; one of 0 counts as 1e-9."""
    return np.log(np.maximum(probabilities, 1e-9))


def _picture(result: dict[str, Any]) -> bytes:
    test = next(name for name in result["figures"] if name != "validation")
    bars = {member["name"]: member["figures"] for member in result["members"]}
    bars["ensemble"] = result["figures"]
    for package in _packages(result):
        bars[package["contract"]["name"]] = package["figures"]
    accuracies = {}
    for head in result["facts"]["heads"]:
        accuracies[head] = [figures[test][head]["accuracy"] for figures in bars.values()]
    least = min(map(min, accuracies.values()))
    floor = _FLOOR if least > _FLOOR else 0.0
    return plots.bars(accuracies, list(bars), f"accuracy on {test}", floor)
