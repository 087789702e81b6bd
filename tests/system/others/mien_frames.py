"""mien's chain on frames: for each scene that standard input names, CPU milliseconds a frame.

python mien_frames.py FRAMES      with mien_edge importable, this version or a former one
"""

import sys

import numpy as np
from frames import Program
from mien_edge.model.bundle import find_bundle, load_bundle
from mien_edge.service.run import build_chain, load_model
from mien_edge.settings import Settings
from mien_edge.values import Frame


class Mien(Program):
    """One chain for each scene, as the service builds it."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.settings = Settings()
        self.bundle = load_bundle(find_bundle(""))
        self.chains = {}
        self.counts = {}

    def faces(self, scene: str, picture: np.ndarray) -> int:
        if scene not in self.chains:
            model = load_model(self.settings, self.bundle)
            self.chains[scene] = build_chain(self.settings, model)
            self.counts[scene] = 0
        index = self.counts[scene]
        self.counts[scene] += 1
        frame = Frame(picture, index, index / self.settings.source.fps)
        return len(self.chains[scene](frame))


if __name__ == "__main__":
    Mien(sys.argv[1]).serve()
