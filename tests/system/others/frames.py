"""What the programs under comparison share: frames from files, rounds asked for by standard input.

A scene is a file of raw frames, one after the other: (480, 640, 3) BGR uint8.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

SHAPE = (480, 640, 3)


class Program:
    """A program that reads expressions in frames.

    folder: holds a file SCENE.bgr for each scene.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.pictures: dict[str, np.ndarray] = {}

    def faces(self, scene: str, picture: np.ndarray) -> int:
        """Read the expressions in one picture; return the number of faces."""
        raise NotImplementedError

    def serve(self) -> None:
        """For each line of standard input, the name of a scene, print what its frames take."""
        print("ready", flush=True)  # noqa: T201
        for line in sys.stdin:
            print(json.dumps(self.round(line.strip())), flush=True)  # noqa: T201

    def round(self, scene: str) -> dict[str, float]:
        """Milliseconds of CPU time (of all threads) and faces, a frame of the scene."""
        if scene not in self.pictures:
            content = np.fromfile(self.folder / f"{scene}.bgr", np.uint8)
            self.pictures[scene] = content.reshape(-1, *SHAPE)
        pictures = self.pictures[scene]
        start = time.process_time()
        faces = sum(self.faces(scene, picture) for picture in pictures)
        seconds = time.process_time() - start
        return {"milliseconds": 1000 * seconds / len(pictures), "faces": faces / len(pictures)}
