"""Networks of others, out of an npm package or an ONNX file, as teachers only.

A contract, a small TOML file, declares what the network takes and gives, who made it of what, and
where to get it. Its weights stay in its own file: nothing of them is committed, copied or shipped.
"""

import os
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from keras import ops
from mien_edge import files, labels, schema, textfiles
from mien_edge.contract import Preprocess, softmax
from mien_edge.errors import RunError
from mien_edge.labels import LABELS
from mien_edge.values import Box

from mien_train.arrays import Array, Doubles, Floats, Pixels
from mien_train.training import face_api, onnx_network, tensorflowjs

_BATCH = 128  # crops at a time
_FACE_API_INPUT = (face_api.SIZE, "rgb", "channels_last")
_LEAST = 1e-12  # of a probability, before its logarithm is taken
_SUM_TOLERANCE = 5e-3  # of probabilities, which a network in half precision rounds

Compute = Callable[[Floats], Array]
"""(b, size, size, channels) float32 inputs to (b, outputs)."""


@dataclass(frozen=True)
class Input:
    """What the network takes: a square picture, each value of it (pixel - mean) / scale of a pixel
    in 0..255.

    size: side in pixels. channels: 'gray', or 'rgb', which a gray crop becomes as three equal ones.
    mean, scale: one number, or one for each channel in the network's own order. crop: side of the
    square around a face that it was trained on, in sides of ours (contract.Preprocess with the
    margin of the recipes); above 1 the crop's edge pixels repeat, for there is nothing around it.
    layout: where the channels stand in what the network takes.
    """

    size: int
    channels: Literal["gray", "rgb"]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    crop: float = 1.0
    layout: Literal["channels_last", "channels_first"] = "channels_last"

    def __post_init__(self) -> None:
        if not 8 <= self.size <= 512:
            raise ValueError(f"size must be 8 to 512 pixels, not {self.size}")
        if not 0.25 <= self.crop <= 4:
            raise ValueError(f"crop must be 0.25 to 4 sides of our crop, not {self.crop}")
        for key in ("mean", "scale"):
            count = len(getattr(self, key))
            if count not in (1, self.depth):
                raise ValueError(f"{key} must be 1 or {self.depth} numbers, not {count}")
        if 0 in self.scale:
            raise ValueError("scale must not be 0")

    @property
    def depth(self) -> int:
        """How many channels it takes."""
        return 3 if self.channels == "rgb" else 1

    def __call__(self, crops: Pixels) -> Floats:
        """Return (n, size, size, depth) float32, or (n, depth, size, size) where the channels stand
        first, of normalized (n, s, s) uint8 crops.
        """
        side = crops.shape[-1]
        square = Box(0, 0, side, side).square(self.crop)
        resample = Preprocess(size=self.size, margin=0, normalization="none").cropped
        pictures = np.stack([resample(crop, square) for crop in crops])
        channels = np.repeat(pictures[..., None], self.depth, axis=-1).astype(np.float32)
        mean = np.array(self.mean, np.float32)
        scale = np.array(self.scale, np.float32)
        values: Floats = (channels - mean) / scale
        return np.moveaxis(values, -1, 1) if self.layout == "channels_first" else values


@dataclass(frozen=True)
class Output:
    """What the network gives.

    labels: the word for each output, in their order. One that means none of mien's LABELS is left
    out, and the rest counts as if it were all. lacks: those of LABELS that no output means; they
    get 0. values: what the outputs are.
    """

    labels: tuple[str, ...]
    values: Literal["logits", "probabilities"]
    lacks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        meant = [labels.match(word, LABELS) for word in self.labels]
        for label in LABELS:
            count = meant.count(label) + (label in self.lacks)
            if count > 1:
                raise ValueError(f"labels and lacks name {label!r} {count} times; name it once")
            if count == 0:
                raise ValueError(
                    f"no word of labels means {label!r}; correct it, or name that label in lacks"
                )
        for word in self.lacks:
            if word not in LABELS:
                raise ValueError(f"lacks has {word!r}, which is none of {', '.join(LABELS)}")

    def __call__(self, outputs: Array) -> Doubles:
        """Return (n, len(LABELS)) probabilities of (n, outputs), in the order of LABELS.

        Raises ValueError for outputs that are not what `values` says.
        """
        self._refuse_other_values(outputs)
        columns = {labels.match(word, LABELS): index for index, word in enumerate(self.labels)}
        known = [label for label in LABELS if label in columns]
        values = outputs[:, [columns[label] for label in known]].astype(np.float64)
        if self.values == "probabilities":
            values = np.log(np.maximum(values, _LEAST))
        probabilities = np.zeros((len(values), len(LABELS)))
        probabilities[:, [LABELS.index(label) for label in known]] = softmax(values)
        return probabilities

    def _refuse_other_values(self, outputs: Array) -> None:
        if not np.isfinite(outputs).all():
            raise ValueError("some outputs are not finite; correct input.mean and input.scale")
        sums = outputs.sum(axis=1)
        are_shares = bool((outputs >= 0).all() and np.allclose(sums, 1, atol=_SUM_TOLERANCE))
        if are_shares != (self.values == "probabilities"):
            kind = "probabilities" if are_shares else "no probabilities"
            raise ValueError(f"the outputs are {kind}; correct output.values")


@dataclass(frozen=True)
class PackageContract:
    """What is declared of a network.

    name: in ensemble.json, reports and cards; letters, digits, '-' and '_'. kind: 'face-api', the
    expression network of face-api.js in its npm package, or 'onnx'. file: the .tgz or .onnx, next
    to the contract unless a relative path leads elsewhere. sha256: of that file. get: how to get
    it, a command or an address. licence, data: who may use the weights and what they were trained
    on, as cards say it. weights: the path of the weights' manifest in an npm package.
    """

    name: str
    kind: Literal["face-api", "onnx"]
    file: str
    sha256: str
    get: str
    licence: str
    data: str
    input: Input
    output: Output
    weights: str = ""

    def __post_init__(self) -> None:
        letters = self.name.replace("-", "").replace("_", "")
        if not letters.isascii() or not letters.isalnum():
            raise ValueError(f"name must be letters, digits, - and _, not {self.name!r}")
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            raise ValueError(f"sha256 must be 64 hexadecimal digits, not {self.sha256!r}")
        for key in ("file", "get", "licence", "data"):
            if not getattr(self, key).strip():
                raise ValueError(f"{key} must not be empty")
        if bool(self.weights) != (self.kind == "face-api"):
            raise ValueError("weights is a path in an npm package; name it for the kind face-api")
        shape = (self.input.size, self.input.channels, self.input.layout)
        if self.kind == "face-api" and shape != _FACE_API_INPUT:
            expected = " ".join(map(str, _FACE_API_INPUT))
            raise ValueError(f"input must be {expected} for the kind face-api")


@dataclass(frozen=True, eq=False)
class PackageNetwork:
    """A network of others that teaches.

    contract: what is declared of it. path: its file; it is read when the network first computes.
    temperature: divides its logits; an ensemble fits it on validation rows.
    """

    contract: PackageContract
    path: Path
    temperature: float = 1.0

    @property
    def name(self) -> str:
        """Its name in ensemble.json, reports and cards."""
        return self.contract.name

    def probabilities(self, crops: Pixels) -> Doubles:
        """Return (n, len(LABELS)) probabilities, in the order of LABELS, of normalized (n, s, s)
        uint8 crops.

        Raises RunError as `check` does, and where the file does not hold the declared network.
        """
        batches = [crops[start : start + _BATCH] for start in range(0, len(crops), _BATCH)]
        parts = [self._batch_probabilities(batch) for batch in batches]
        probabilities = np.concatenate([np.zeros((0, len(LABELS))), *parts])
        return tempered(probabilities, self.temperature)

    @staticmethod
    def select(probabilities: Doubles, names: Sequence[str]) -> Doubles:
        """Return (n, len(names)) probabilities of other labels, each by the one of LABELS that it
        means, of (n, len(LABELS)); 0 for those that mean none.
        """
        columns = [labels.match(name, LABELS) for name in names]
        zeros = np.zeros((len(probabilities), 1))
        table = np.concatenate([probabilities, zeros], axis=1)
        return table[:, [LABELS.index(label) if label else -1 for label in columns]]

    def to_record(self, folder: Path) -> dict[str, Any]:
        """Return what the ensemble.json in a folder holds of it: the contract, the temperature, and
        the way from there to the folder of its file.
        """
        return {
            "contract": schema.to_dict(self.contract),
            "temperature": self.temperature,
            "folder": os.path.relpath(self.path.parent.resolve(), folder.resolve()),
        }

    def provenance(self) -> dict[str, Any]:
        """Return what the card of a network that it has taught says of it."""
        keys = ("name", "file", "sha256", "get", "licence", "data")
        return {key: getattr(self.contract, key) for key in keys}

    def check(self) -> None:
        """Raise RunError, which says what to get and where to put it, unless its file is there, and
        is the one that the contract names.
        """
        try:
            sha256 = files.sha256(self.path)
        except OSError as problem:
            raise RunError(
                f"{self.path}: cannot be read ({problem.strerror}), and the teacher {self.name} is "
                f"in it; get it there: {self.contract.get}"
            ) from None
        if sha256 != self.contract.sha256:
            raise RunError(
                f"{self.path}: not the file that the contract of {self.name} names; get it again: "
                f"{self.contract.get}"
            )

    def _batch_probabilities(self, crops: Pixels) -> Doubles:
        outputs = self._compute(self.contract.input(crops))
        values = outputs.reshape(len(crops), -1) if len(outputs) == len(crops) else outputs
        declared = len(self.contract.output.labels)
        if values.shape != (len(crops), declared):
            raise RunError(
                f"{self.path}: gives {outputs.shape} for {len(crops)} pictures, and its contract "
                f"declares {declared} labels; correct output.labels"
            )
        try:
            return self.contract.output(values)
        except ValueError as problem:
            raise RunError(f"{self.path}: {problem} in its contract") from None

    @cached_property
    def _compute(self) -> Compute:
        self.check()
        if self.contract.kind == "onnx":
            return onnx_network.load(self.path)
        return _load_face_api(self.path, self.contract)


def tempered(probabilities: Array, temperature: float) -> Doubles:
    """Return what (n, labels) probabilities are where their logits are divided by a temperature."""
    powers = np.asarray(probabilities, np.float64) ** (1 / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


def load_package(contract: Path) -> PackageNetwork:
    """Return the network that a contract declares, its file not yet read.

    contract: a TOML file with the keys of PackageContract. Raises RunError, which names the key,
    for what is none.
    """
    text = textfiles.read_text(contract, RunError, "name the contract of a network with --package")
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise RunError(f"{contract} is not valid TOML: {problem}; correct that line") from None
    parsed = schema.from_dict(PackageContract, values, str(contract), RunError)
    return PackageNetwork(parsed, contract.parent / parsed.file)


def from_record(folder: Path, record: dict[str, Any]) -> PackageNetwork:
    """Return the network that the ensemble.json in `folder` holds. Its file is looked for there,
    then where it was.

    Raises KeyError or RunError for a damaged record.
    """
    where = str(folder / "ensemble.json")
    contract = schema.from_dict(PackageContract, record["contract"], where, RunError)
    name = Path(contract.file).name
    path = folder / name
    if not path.exists():
        path = Path(os.path.normpath(folder.resolve() / record["folder"] / name))
    return PackageNetwork(contract, path, record.get("temperature", 1.0))


def _load_face_api(path: Path, contract: PackageContract) -> Compute:
    weights = tensorflowjs.read_weights(path, contract.weights, contract.get)
    try:
        model = face_api.build(weights)
    except (KeyError, ValueError) as problem:
        raise RunError(
            f"{path}: {contract.weights} is not of the expression network of face-api ({problem}); "
            f"correct weights in its contract, or get it again: {contract.get}"
        ) from None
    return lambda pictures: ops.convert_to_numpy(model.predict_on_batch(pictures))
