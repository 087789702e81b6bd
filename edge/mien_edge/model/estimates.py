"""What a network may cost on a Raspberry Pi, by arithmetic on published rates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mien_edge.model.tflite import Operator


@dataclass(frozen=True, slots=True)
class Core:
    """Multiply-accumulates that one core does in a second with XNNPACK's int8 kernels, in thousand millions."""

    name: str
    convolution: float
    depthwise: float
    source: str


_V1, _V2 = (551.4, 17.4), (280.1, 20.7)
"""Million multiply-accumulates of MobileNet v1 and v2 at 224 pixels: (convolutions and dense layers, depthwise),
counted on Keras' MobileNet and MobileNetV2."""
_V1_MS, _V2_MS, _THREADS = 24.0, 17.0, 4
"""int8 on a Raspberry Pi 4 (Cortex-A72, 1.5 GHz, ARM64, all four cores), XNNPACK's README, February 2022."""


def _cortex_a72() -> Core:
    convolution, depthwise = np.linalg.solve(np.array([_V1, _V2]), np.array([_V1_MS, _V2_MS]))
    source = (
        f"XNNPACK's README: int8 MobileNet v1 {_V1_MS:.0f} ms and v2 {_V2_MS:.0f} ms on a Raspberry Pi 4, four cores; "
        f"{_V1[0]} x + {_V1[1]} y = {_V1_MS:.0f} and {_V2[0]} x + {_V2[1]} y = {_V2_MS:.0f} give "
        f"x = {convolution:.4f} and y = {depthwise:.3f} ms a million, over {_THREADS} cores"
    )
    return Core("Cortex-A72 1.5 GHz (Pi 4)", 1 / convolution / _THREADS, 1 / depthwise / _THREADS, source)


def _cortex_a76(known: Core) -> Core:
    source = (
        "the A72's rates times 2.4 / 1.5 for the clock; convolutions times 2 more, taken as the least that SDOT gives "
        "over SMLAL (on paper 32 against 8 a cycle), depthwise ones times 1, for they have no dot product; not measured"
    )
    clock = 2.4 / 1.5
    return Core("Cortex-A76 2.4 GHz (Pi 5)", known.convolution * clock * 2, known.depthwise * clock, source)


def estimates(found: Sequence[Operator]) -> dict[str, dict[str, Any]]:
    """Milliseconds on one core of a Raspberry Pi 4 and 5 by multiply-accumulates alone, with the arithmetic. Small
    layers reach less than MobileNet's rate, and memory is not counted: good for comparing networks, not a promise.
    """
    depthwise = sum(each.macs for each in found if each.name == "DEPTHWISE_CONV_2D") / 1e6
    others = sum(each.macs for each in found) / 1e6 - depthwise
    a72 = _cortex_a72()
    return {
        core.name: {
            "milliseconds": round(others / core.convolution + depthwise / core.depthwise, 3),
            "arithmetic": (
                f"{others:.2f} M / {core.convolution:.2f} G/s + {depthwise:.2f} M / {core.depthwise:.2f} G/s"
            ),
            "rates": core.source,
        }
        for core in (a72, _cortex_a76(a72))
    }


def estimate_as_text(core: str, found: dict[str, Any]) -> str:
    """One core's estimate and its arithmetic in two lines."""
    return f"estimate for one {core}: {found['arithmetic']} = {found['milliseconds']:.2f} ms\n    ({found['rates']})"
