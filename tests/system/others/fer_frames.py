"""The PyPI package fer on frames: for each scene that standard input names, CPU milliseconds a frame.

python fer_frames.py FRAMES      in an environment in which `pip install fer` was done
"""

import sys

import numpy as np
from fer.fer import FER
from frames import Program


class Fer(Program):
    """fer as it is by default: OpenCV's cascade, its own network on TensorFlow."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.detector = FER()

    def faces(self, scene: str, picture: np.ndarray) -> int:
        return len(self.detector.detect_emotions(picture))


if __name__ == "__main__":
    Fer(sys.argv[1]).serve()
