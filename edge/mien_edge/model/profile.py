"""What each layer of a network costs on this machine, measured."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mien_edge import schema
from mien_edge.errors import BundleError
from mien_edge.model import tflite
from mien_edge.model.interpreter import Interpreter, find_runtime


@dataclass(frozen=True, slots=True)
class LayerProfile:
    """One operator of a network.

    operator: TensorFlow Lite's name of it.
    output: the shape of its output without the batch.
    macs: its multiply-accumulates.
    milliseconds: what it takes on this machine, with one thread.
    """

    operator: str
    output: tuple[int, ...]
    macs: int
    milliseconds: float

    @property
    def shape(self) -> str:
        """The output's shape for people, such as 24x24x16."""
        return "x".join(map(str, self.output))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "LayerProfile":
        """Read what `to_json` wrote. Raises BundleError for anything else."""
        return schema.from_dict(cls, content, "layers", BundleError)

    def to_json(self) -> dict[str, Any]:
        """The layer as `mien-edge bench --layers --json` prints it."""
        return schema.to_dict(self)


def profile_layers(model: Path, repeats: int = 200) -> list[LayerProfile]:
    """Measure each operator of the .tflite file `model` on this machine, with one thread.

    The time of an operator is that of the network ended after it less that of the network ended
    before it; each is the least of `repeats`, taken in turns, so that a busy moment does not fall
    on one layer. Small layers can come out as 0. Raises RuntimeMissingError where the file's schema
    or an interpreter is not installed.
    """
    content = model.read_bytes()
    operators = tflite.operators(content)
    networks = _truncated_networks(content, len(operators))
    least = np.full(len(networks), np.inf)
    for _ in range(repeats):
        for index, network in enumerate(networks):
            least[index] = min(least[index], _invoke_seconds(network))
    milliseconds = np.diff(np.maximum.accumulate(least), prepend=0.0) * 1000
    return [
        LayerProfile(operator.name, operator.shape[1:], operator.macs, round(float(duration), 4))
        for operator, duration in zip(operators, milliseconds, strict=True)
    ]


def _truncated_networks(content: bytes, count: int) -> list[Interpreter]:
    """The networks that end after the first, the second … operator of the file `content`."""
    runtime = find_runtime()
    networks = []
    with tempfile.TemporaryDirectory() as folder:
        for length in range(1, count + 1):
            path = Path(folder) / f"{length}.tflite"
            path.write_bytes(tflite.truncate(content, length))
            networks.append(runtime.load(path))
    return networks


def invoke_milliseconds(model: Path, repeats: int = 200) -> float:
    """Return the least time of `repeats` on this machine, with one thread."""
    network = find_runtime().load(model)
    return 1000 * min(_invoke_seconds(network) for _ in range(repeats))


def _invoke_seconds(network: Interpreter) -> float:
    start = time.perf_counter()
    network.invoke()
    return time.perf_counter() - start


def layers_as_text(layers: Sequence[LayerProfile]) -> str:
    """The layers as a table."""
    lines = [f"{'operator':<18}{'output':<14}{'M MACs':>8}{'ms':>9}"]
    for layer in layers:
        millions = layer.macs / 1e6
        lines.append(
            f"{layer.operator:<18}{layer.shape:<14}{millions:>8.2f}{layer.milliseconds:>9.4f}",
        )
    millions = sum(layer.macs for layer in layers) / 1e6
    milliseconds = sum(layer.milliseconds for layer in layers)
    lines.append(f"{'all':<32}{millions:>8.2f}{milliseconds:>9.4f}")
    return "\n".join(lines)
