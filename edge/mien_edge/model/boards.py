"""What the whole line may cost on a Raspberry Pi, and which settings suit it: by arithmetic on
published times of the detector, for no board was at hand.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mien_edge.chain import reach
from mien_edge.model import estimates
from mien_edge.model.tflite import Operator
from mien_edge.settings import Settings

_YUNET_SOURCE = (
    "YuNet 2023mar in OpenCV, measured on each board: github.com/chowar23/rpi-yunet-benchmark "
    "(March 2025); on one core at 640x480, at smaller sizes scaled by what they take on four cores"
)
REFERENCE_SIZE = 320
"""Pixels of the longer side of the detector's picture at which machines are compared."""

_LARGEST_SIZE = 640  # pixels of the longer side
_PADDING = 32  # pixels
_DEVICE_TREE_MODEL = "proc/device-tree/model"


@dataclass(frozen=True, slots=True)
class Board:
    """A Raspberry Pi.

    model: how its device tree names it, in part (/proc/device-tree/model).
    core: the name of its core, as in Estimate.
    detector_four_cores: milliseconds of YuNet on all cores, by the picture's longer side.
    detector_one_core: the same on one core, at 640 pixels.
    megabytes: memory of its smallest version.
    proposal: settings for 15 frames a second, by table and key.
    """

    name: str
    model: str
    core: str
    detector_four_cores: Mapping[int, float]
    detector_one_core: float
    megabytes: int
    proposal: Mapping[str, Mapping[str, Any]]

    def detector_milliseconds(self, size: int) -> float:
        """The detector on one core, for a picture of 4 to 3 whose longer side has `size` pixels.

        Sizes that nobody has measured are interpolated by the pixels that YuNet pads them to.
        """
        four_cores = self.detector_four_cores
        sizes = sorted(four_cores)
        areas = [_padded_area(side) for side in sizes]
        milliseconds = [four_cores[side] for side in sizes]
        area = _padded_area(size)
        if area < areas[0]:
            on_four_cores = milliseconds[0] * area / areas[0]
        elif area > areas[-1]:
            on_four_cores = milliseconds[-1] * area / areas[-1]
        else:
            on_four_cores = float(np.interp(area, areas, milliseconds))
        return self.detector_one_core * on_four_cores / four_cores[_LARGEST_SIZE]


def _proposal(size: int) -> Mapping[str, Mapping[str, Any]]:
    return {"detect": {"size": size, "max_distance": 0.0, "interval": 0.5}}


def _padded_area(size: int) -> int:
    """Pixels of a picture of 4 to 3, both sides padded to multiples of 32 as YuNet does."""
    sides = (size, round(size * 3 / 4))
    width, height = (math.ceil(side / _PADDING) * _PADDING for side in sides)
    return width * height


@dataclass(frozen=True, slots=True)
class Load:
    """What one scene costs on the machine that measured it, in milliseconds of CPU time.

    size: pixels of the longer side that the detector sees.
    fps: frames a second.
    faces: in each frame.
    looks: of the detector at a whole picture, a second.
    reference_look: of one look at a picture of REFERENCE_SIZE.
    other: of all but looks and emotion network (reduction of the frame, following, tracking, crops,
        smoothing), a frame.
    """

    size: int
    fps: float
    faces: float
    looks: float
    reference_look: float
    other: float


@dataclass(frozen=True, slots=True)
class LineEstimate:
    """What the whole line may take on one core of a board.

    board: its name. size, fps, faces, looks: as in Load.
    detector: milliseconds of one look, from published times.
    network: milliseconds of the emotion network, a face, by its multiply-accumulates.
    other: milliseconds of everything else, a frame: as measured, times `factor`.
    factor: how many times as long as the measuring machine the board takes for one look of
        REFERENCE_SIZE.
    """

    board: str
    size: int
    fps: float
    faces: float
    looks: float
    detector: float
    network: float
    other: float
    factor: float

    @property
    def milliseconds(self) -> float:
        """Of CPU time, a second."""
        return self.looks * self.detector + self.fps * self.frame

    @property
    def frame(self) -> float:
        """Milliseconds of a frame at which the detector does not look."""
        return self.faces * self.network + self.other

    @property
    def cores(self) -> float:
        """Cores that the line keeps busy; more than 1 cannot be reached with one thread."""
        return self.milliseconds / 1000

    @property
    def detector_share(self) -> float:
        """Share of the time that the detector takes, 0..1."""
        return self.looks * self.detector / self.milliseconds

    def as_text(self) -> str:
        """The estimate with its arithmetic, in one line."""
        looks = f"{self.looks:.1f} looks x {self.detector:.1f} ms"
        face = f"{self.faces:.1f} x {self.network:.1f} network"
        frames = f"{self.fps:g} frames x ({face} + {self.other:.1f} all else)"
        result = f"{self.milliseconds:.0f} ms a second = {self.cores:.0%} of one core"
        share = f"{self.detector_share:.0%} of it in the detector"
        times = f"a frame takes {self.frame:.0f} ms, with a look {self.frame + self.detector:.0f}"
        return f"{looks} + {frames} = {result}, {share}; {times}"


LINE_SOURCE = (
    "one core, without the camera's own work, not measured as a whole; "
    f"{_YUNET_SOURCE}; the network by its multiply-accumulates as above; all else as measured "
    "here, times what a look of the detector at 320 pixels takes there to what it takes here"
)


BOARDS: Mapping[str, Board] = {
    "zero2w": Board(
        name="Zero 2 W",
        model="Raspberry Pi Zero 2",
        core=estimates.CORTEX_A53,
        detector_four_cores={160: 11.912, 320: 41.079, 640: 143.775},
        detector_one_core=380.040,
        megabytes=512,
        proposal=_proposal(size=256),
    ),
    "pi4": Board(
        name="Pi 4",
        model="Raspberry Pi 4",
        core=estimates.CORTEX_A72,
        detector_four_cores={160: 5.357, 320: 21.082, 640: 81.111},
        detector_one_core=145.739,
        megabytes=1024,
        proposal=_proposal(size=320),
    ),
    "pi5": Board(
        name="Pi 5",
        model="Raspberry Pi 5",
        core=estimates.CORTEX_A76,
        detector_four_cores={160: 1.545, 320: 8.029, 640: 46.115},
        detector_one_core=65.432,
        megabytes=1024,
        proposal=_proposal(size=320),
    ),
}
"""The boards that estimates are for, by the name that `mien-edge bench --board` takes."""


REFERENCE = Load(size=320, fps=15.0, faces=1.0, looks=2.1, reference_look=4.6, other=1.4)
"""One moving face on an Intel Xeon, by `mien-edge bench`: what `expected` scales to a board."""


def estimate_line(operators: Sequence[Operator], load: Load, board: Board) -> LineEstimate:
    """Estimate what `load` takes on a board.

    operators: of the emotion network.
    """
    networks = {row.core: row.milliseconds for row in estimates.estimate(operators)}
    factor = board.detector_milliseconds(REFERENCE_SIZE) / load.reference_look
    return LineEstimate(
        board=board.name,
        size=load.size,
        fps=load.fps,
        faces=load.faces,
        looks=load.looks,
        detector=board.detector_milliseconds(load.size),
        network=networks[board.core],
        other=load.other * factor,
        factor=factor,
    )


def expected(operators: Sequence[Operator], settings: Settings, board: Board) -> LineEstimate:
    """What one moving face takes on a board at these settings, by REFERENCE.

    operators: of the emotion network.
    """
    fps = settings.source.fps
    interval = settings.detect.interval
    looks = min(1 / interval, fps) if interval else fps
    load = dataclasses.replace(REFERENCE, size=reach.detector_size(settings), fps=fps, looks=looks)
    return estimate_line(operators, load, board)


def board_of(model: str) -> str:
    """The key in BOARDS of what a device tree calls itself; '' for another machine."""
    return next((key for key, board in BOARDS.items() if board.model in model), "")


def read_board(root: Path) -> str:
    """The key in BOARDS of this machine; '' for another one.

    root: the folder with the machine's proc/.
    """
    try:
        model = (root / _DEVICE_TREE_MODEL).read_text(errors="replace")
    except OSError:
        return ""
    return board_of(model)


def proposed(settings: Settings, board: Board) -> Settings:
    """Settings with those that a board needs for 15 frames a second."""
    tables = {
        table: dataclasses.replace(getattr(settings, table), **values)
        for table, values in board.proposal.items()
    }
    return dataclasses.replace(settings, **tables)


def proposal_text(settings: Settings, board: Board) -> str:
    """What `proposed` changes, as 'detect.size = 256'; '' for nothing."""
    return ", ".join(
        f"{table}.{key} = {value}"
        for table, values in board.proposal.items()
        for key, value in values.items()
        if getattr(getattr(settings, table), key) != value
    )
