"""What each layer of a network costs on this machine, measured."""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from mien_edge.model import interpreter, tflite


def layers(model: Path, repeats: int = 200) -> list[dict[str, Any]]:
    """Each operator of a .tflite with its multiply-accumulates and milliseconds on this machine, one thread.

    The time of an operator is that of the network ended after it less that of the network ended before it; each is
    the least of `repeats`, taken in turns, so that a busy moment does not fall on one layer. Small layers can come out
    as 0.
    """
    content = model.read_bytes()
    found = tflite.operators(content)
    with tempfile.TemporaryDirectory() as folder:
        networks, runtime = [], interpreter.runtime()
        for count in range(1, len(found) + 1):
            part = Path(folder) / f"{count}.tflite"
            part.write_bytes(tflite.truncate(content, count))
            networks.append(runtime.load(part))
        least = np.full(len(networks), np.inf)
        for _ in range(repeats):
            for i, network in enumerate(networks):
                least[i] = min(least[i], _seconds(network))
    spent = np.diff(np.maximum.accumulate(least), prepend=0.0) * 1000
    return [
        {"operator": each.name, "output": list(each.shape[1:]), "macs": each.macs, "milliseconds": round(float(ms), 4)}
        for each, ms in zip(found, spent, strict=True)
    ]


def invoke_milliseconds(model: Path, repeats: int = 200) -> float:
    """The least time that the network takes on this machine, one thread."""
    network = interpreter.runtime().load(model)
    return 1000 * min(_seconds(network) for _ in range(repeats))


def _seconds(network: Any) -> float:
    start = time.perf_counter()
    network.invoke()
    return time.perf_counter() - start


def layers_as_text(found: list[dict[str, Any]]) -> str:
    """The layers as a table."""
    lines = [f"{'operator':<18}{'output':<14}{'M MACs':>8}{'ms':>9}"]
    lines += [
        f"{each['operator']:<18}{'x'.join(map(str, each['output'])):<14}{each['macs'] / 1e6:>8.2f}"
        f"{each['milliseconds']:>9.4f}"
        for each in found
    ]
    total = sum(each["milliseconds"] for each in found)
    return "\n".join([*lines, f"{'all':<32}{sum(each['macs'] for each in found) / 1e6:>8.2f}{total:>9.4f}"])
