"""What a network may cost on one core of a Raspberry Pi, by arithmetic on published rates."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mien_edge.model.tflite import Operator

_THREADS = 4
_V1_MILLISECONDS = 24.0
_V2_MILLISECONDS = 17.0
"""int8 MobileNet v1 and v2 on a Raspberry Pi 4 (Cortex-A72, 1.5 GHz, ARM64, all four cores):
XNNPACK's README, February 2022.
"""

_A53_RATIO = 79 / 44 * 1.4 / 1.0
"""How much slower one core of a Zero 2 W (Cortex-A53, 1.0 GHz) is than one of a Pi 4: MobileNet v2
in float took 79 ms on a Raspberry Pi 3+ (Cortex-A53, 1.4 GHz) and 44 ms on a Pi 4, with all four
cores (XNNPACK's README, February 2020; v1 115 and 75 ms); then by the clock.
"""

_V1_MACS = (551.4, 17.4)
_V2_MACS = (280.1, 20.7)
"""Million multiply-accumulates of MobileNet v1 and v2 at 224 pixels: (convolutions and dense
layers, depthwise), counted on Keras' MobileNet and MobileNetV2.
"""


@dataclass(frozen=True, slots=True)
class Core:
    """A processor core.

    convolution, depthwise: thousand million multiply-accumulates a second with XNNPACK's int8
    kernels.
    source: where these rates come from.
    """

    name: str
    convolution: float
    depthwise: float
    source: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a network may take on one core.

    core: the core's name.
    milliseconds: the estimate.
    arithmetic: how it was computed.
    rates: where the core's rates come from.
    """

    core: str
    milliseconds: float
    arithmetic: str
    rates: str

    def as_text(self) -> str:
        """The estimate, its arithmetic and its source in two lines."""
        result = f"{self.arithmetic} = {self.milliseconds:.2f} ms"
        return f"estimate for one {self.core}: {result}\n    ({self.rates})"


def to_json(estimates: Iterable[Estimate]) -> dict[str, dict[str, Any]]:
    """The estimates as reports and `mien-edge bench --json` hold them, by the name of the core."""
    return {
        estimate.core: {
            "milliseconds": estimate.milliseconds,
            "arithmetic": estimate.arithmetic,
            "rates": estimate.rates,
        }
        for estimate in estimates
    }


def from_json(content: Mapping[str, Mapping[str, Any]]) -> tuple[Estimate, ...]:
    """Read what `to_json` wrote. Raises TypeError for other keys."""
    return tuple(Estimate(core=core, **values) for core, values in content.items())


def estimate(operators: Sequence[Operator]) -> tuple[Estimate, ...]:
    """Estimate a network's time on one core of a Pi 4, a Pi 5 and a Zero 2 W by its
    multiply-accumulates.

    Small layers reach less than MobileNet's rate, and memory is not counted: good for comparing
    networks, not a promise.
    """
    macs = sum(operator.macs for operator in operators) / 1e6
    depthwise_macs = [row.macs for row in operators if row.name == "DEPTHWISE_CONV_2D"]
    depthwise = sum(depthwise_macs) / 1e6
    a72 = _cortex_a72()
    cores = (a72, _cortex_a76(a72), _cortex_a53(a72))
    return tuple(_estimate_for(core, macs - depthwise, depthwise) for core in cores)


def _estimate_for(core: Core, convolution: float, depthwise: float) -> Estimate:
    """convolution, depthwise: million multiply-accumulates."""
    milliseconds = convolution / core.convolution + depthwise / core.depthwise
    convolution_term = f"{convolution:.2f} M / {core.convolution:.2f} G/s"
    depthwise_term = f"{depthwise:.2f} M / {core.depthwise:.2f} G/s"
    arithmetic = f"{convolution_term} + {depthwise_term}"
    return Estimate(core.name, round(milliseconds, 3), arithmetic, core.source)


CORTEX_A72 = "Cortex-A72 1.5 GHz (Pi 4)"
CORTEX_A76 = "Cortex-A76 2.4 GHz (Pi 5)"
CORTEX_A53 = "Cortex-A53 1.0 GHz (Zero 2 W)"


def _cortex_a72() -> Core:
    """Solve for the milliseconds of both kinds by the two networks of XNNPACK's README."""
    macs = np.array([_V1_MACS, _V2_MACS])
    milliseconds = np.array([_V1_MILLISECONDS, _V2_MILLISECONDS])
    convolution, depthwise = np.linalg.solve(macs, milliseconds)
    source = (
        f"XNNPACK's README: int8 MobileNet v1 {_V1_MILLISECONDS:.0f} ms and "
        f"v2 {_V2_MILLISECONDS:.0f} ms on a Raspberry Pi 4, four cores; "
        f"{_V1_MACS[0]} x + {_V1_MACS[1]} y = {_V1_MILLISECONDS:.0f} and "
        f"{_V2_MACS[0]} x + {_V2_MACS[1]} y = {_V2_MILLISECONDS:.0f} "
        f"give x = {convolution:.4f} and y = {depthwise:.3f} ms a million, over {_THREADS} cores"
    )
    return Core(
        CORTEX_A72,
        1 / convolution / _THREADS,
        1 / depthwise / _THREADS,
        source,
    )


def _cortex_a76(a72: Core) -> Core:
    clock_ratio = 2.4 / 1.5
    dot_product_gain = 2
    source = (
        "the A72's rates times 2.4 / 1.5 for the clock; convolutions times 2 more, taken as the "
        "least that SDOT gives over SMLAL (on paper 32 against 8 a cycle), depthwise ones times 1, "
        "for they have no dot product; not measured"
    )
    return Core(
        name=CORTEX_A76,
        convolution=a72.convolution * clock_ratio * dot_product_gain,
        depthwise=a72.depthwise * clock_ratio,
        source=source,
    )


def _cortex_a53(a72: Core) -> Core:
    source = (
        f"the A72's rates divided by {_A53_RATIO:.2f}: MobileNet v2 took 79 ms on a Pi 3+ (A53, "
        "1.4 GHz) and 44 ms on a Pi 4 by XNNPACK's README of 2020 (float, four cores), then 1.4 / "
        "1.0 for the clock; not measured"
    )
    return Core(CORTEX_A53, a72.convolution / _A53_RATIO, a72.depthwise / _A53_RATIO, source)
