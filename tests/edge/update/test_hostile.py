"""Bundles made to do harm: each is refused with one line, and what runs is left alone.

MIEN_FLIPS=10000 pytest -s tests/edge/update/test_hostile.py flips that many bits and prints the table.
"""

import json
import os
import random
import shutil
import subprocess
from collections import Counter

import numpy as np
import pytest
from helpers import pin_again
from mien_edge import contract
from mien_edge.errors import BundleError
from mien_edge.model.bundle import load_bundle
from mien_edge.update import sandbox, signing
from mien_edge.update.signing import Trust
from mien_edge.update.store import Store
from stores import believe, refused, small

FLIPS = int(os.environ.get("MIEN_FLIPS", "200"))
TABLE = Counter()


@pytest.fixture(scope="module", autouse=True)
def table():
    yield
    print("\n", *(f"{what:<62}{count:>6}\n" for what, count in TABLE.items()))  # noqa: T201 - pytest -s shows it


@pytest.fixture
def device(tmp_path, bundle):
    """A store with the shipped bundle committed; its replay has little time and memory."""
    place = Store(tmp_path / "models", believe, replay=lambda *_: None)
    place.request(place.install(bundle.folder))
    place.promote()
    place.commit(bundle.card.id)
    place.replay = lambda *bundle_and_name: sandbox.replay(*bundle_and_name, seconds=20)
    return place


def is_refused(place, folder, what, reason):
    """One line that tells why, and nothing has changed."""
    before = place.state()
    said = refused(lambda: place.install(folder))
    TABLE[what] += 1
    assert reason in said, said
    assert "\n" not in said
    assert place.state() == before
    assert load_bundle(place.folder / "current").card.id == before.current


def edited(folder, **keys):
    content = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(content | keys))


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"contract": 99}, "the key 'contract' is 99"),
        ({"contract": 1, "labels": ["happy"] * 7}, "labels must be"),
        ({"contract": 2, "labels": ["happy"]}, "labels must be 2 to 16 names, not 1"),
        ({"contract": 2, "labels": [f"l{n}" for n in range(17)]}, "2 to 16 names, not 17"),
        ({"contract": 2, "labels": ["happy"] * 7}, "labels has 'happy' twice"),
        ({"contract": 2, "labels": ["happy", "none"]}, "labels has 'none', but a label is"),
        ({"contract": 2, "labels": ["happy", "SAD"]}, "labels has 'SAD', but a label is"),
        ({"contract": 2, "labels": ["happy", "\U0001f600"]}, "labels has '\\U0001f600', but"),
        ({"contract": 2, "labels": ["happy", "x" * 10_000]}, "(10002 characters), but a label is"),
        ({"contract": 2, "labels": "x" * 10_000}, "labels must be a list, not"),
        ({"contract": 2, "labels": ["happy", "sad"]}, "2 labels, the network 7 outputs"),
        ({"calibration": {"temperature": float("nan"), "uncertain": 0.3}}, "NaN is no JSON number"),
        ({"calibration": {"temperature": -1, "uncertain": 0.3}}, "temperature must be"),
        ({"golden": {"tolerance": 255}}, "tolerance must be 0 to 16"),
        ({"name": "../../etc"}, "name must be letters"),
        ({"version": 0}, "version must be 1 or more"),
        ({"version": 10**400}, "version must be"),
        ({"surprise": 1}, "unknown key 'surprise'"),
        ({"preprocess": {"size": 10**9, "margin": 0, "tone": "none"}}, "size must be 8 to 512"),
        ({"files": {"../evil": {"sha256": "0" * 64, "bytes": 1}}}, "../evil"),
        ({"files": {}}, "pins no model.tflite"),
    ],
)
def test_a_card_that_lies(device, copy, keys, reason):
    edited(copy, **keys)
    is_refused(device, copy, "a card with a wrong key", reason)


def test_a_card_that_is_nested_beyond_reason(device, copy):
    (copy / "card.json").write_text("[" * 200_000)
    is_refused(device, copy, "a card nested beyond reason", "not valid JSON")


@pytest.mark.parametrize("name", ["card.json", "model.tflite", "golden.npz"])
def test_a_file_that_is_cut_off_or_gone_or_a_link(device, copy, name):
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[: len(content) // 2])
    is_refused(device, copy, "a truncated file", name)
    (copy / name).unlink()
    is_refused(device, copy, "a missing file", name)
    (copy / name).symlink_to("/etc/passwd")
    is_refused(device, copy, "a symbolic link", name)


def test_a_huge_file_is_not_read(device, copy):
    with (copy / "model.tflite").open("ab") as file:
        file.truncate(40 << 30)
    is_refused(device, copy, "a file of 40 GB", "larger than")


@pytest.mark.slow
def test_a_small_archive_of_golden_vectors_that_unpacks_to_much(device, copy):
    np.savez_compressed(
        copy / "golden.npz", inputs=np.zeros((9000, 48, 48, 48), np.uint8), outputs=np.zeros(1)
    )
    pin_again(copy)
    is_refused(device, copy, "golden vectors that unpack to 1 GB", "refused")


@pytest.mark.slow
def test_random_bits_flipped(bundle, tmp_path):
    """Of a signed bundle: in its card, network, golden vectors and signature."""
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    source = small(bundle, tmp_path / "source", 1)
    signing.sign(source, key)
    (tmp_path / "allowed").write_text(signing.allowed_signers_line("me", tmp_path / "key.pub"))
    place = Store(
        tmp_path / "models", Trust(tmp_path / "allowed", tmp_path / "none"), replay=lambda *_: None
    )
    chance = random.Random(0)  # noqa: S311 - the same flips each time
    names = sorted(path.name for path in source.iterdir())
    for _ in range(FLIPS):
        path = source / chance.choice(names)
        whole = path.read_bytes()
        content = bytearray(whole)
        at = chance.randrange(len(content) * 8)
        content[at // 8] ^= 1 << at % 8
        path.write_bytes(bytes(content))
        said = refused(lambda: place.install(source))
        path.write_bytes(whole)
        # A signature's text ends in line feeds and dashes that ssh-keygen does not care for; all else is refused.
        if said:
            TABLE["a flipped bit, refused"] += 1
            assert place.state().installed == ()
            assert "\n" not in said
        else:
            TABLE["a flipped bit in the signature's frame, harmless"] += 1
            assert path.name == signing.SIGNATURE
            place.remove("small-1")
    assert place.install(source).card.id == "small-1"


# --- networks that pass every digest -----------------------------------------------------------------------------


@pytest.fixture
def layers():
    """Keras' layers, where TensorFlow is installed: in the training room's environment, not in a device's."""
    return pytest.importorskip("keras").layers


def int8(model, path):
    """A Keras model as an int8 .tflite."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    def samples():
        for seed in range(1):
            yield [np.random.default_rng(seed).random((1, *model.input.shape[1:]), np.float32)]

    function = tf.function(
        lambda crops: model(crops, training=False),
        input_signature=[tf.TensorSpec(model.input.shape, tf.float32)],
    )
    frozen = convert_variables_to_constants_v2(function.get_concrete_function())
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen], tf.Module())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = samples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    path.write_bytes(converter.convert())


def network(*stages, size=48, outputs=7):
    import keras
    from keras import layers

    inputs = keras.Input((size, size, 1), 1)
    x = inputs
    for stage in stages:
        x = stage(x)
    return keras.Model(inputs, layers.Dense(outputs)(layers.GlobalAveragePooling2D()(x)))


def replaced(folder, model):
    int8(model, folder / "model.tflite")
    pin_again(folder, version=77)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda layers: network(layers.Conv2D(4, 3), size=64), "the network takes 64"),
        (lambda layers: network(layers.Conv2D(4, 3), outputs=9), "7 labels, the network 9 outputs"),
        (lambda layers: network(layers.Conv2D(4, 3)), "golden vectors differ"),
        (lambda layers: network(layers.UpSampling2D(100), layers.Conv2D(16, 1)), "refused"),
    ],
    ids=["another size", "more labels", "another network", "eats memory"],
)
def test_a_network_that_does_harm(device, copy, layers, model, reason):
    replaced(copy, model(layers))
    is_refused(device, copy, "a network that differs or eats memory", reason)


@pytest.mark.slow
def test_a_network_that_takes_for_ever(device, copy, layers):
    """As far as a second goes."""
    replaced(
        copy,
        network(
            layers.UpSampling2D(3), *[layers.Conv2D(192, 3, padding="same") for _ in range(16)]
        ),
    )
    device.replay = lambda *given: sandbox.replay(*given, seconds=1)
    is_refused(device, copy, "a network that hangs", "took over 1 s")


def test_an_operator_that_the_runtime_lacks(device, copy):
    pytest.importorskip("tensorflow")
    content = (copy / "model.tflite").read_bytes()
    spoilt = _with_custom_operator(content)
    (copy / "model.tflite").write_bytes(spoilt)
    pin_again(copy, version=77)
    is_refused(device, copy, "an operator that the runtime lacks", "refused")


def _with_custom_operator(content):
    """Every operator code's builtin number becomes one that no runtime knows."""
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    for code in model.operatorCodes:
        code.builtinCode, code.deprecatedBuiltinCode, code.customCode = (
            32,
            32,
            b"MienNoSuchOperator",
        )
    import flatbuffers

    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize("seed", range(20))
def test_a_network_of_random_bytes(device, copy, seed):
    """Its digest is right, so that only the interpreter stands in the way, in a process of its own."""
    rng = np.random.default_rng(seed)
    content = np.frombuffer((copy / "model.tflite").read_bytes(), np.uint8).copy()
    content[rng.integers(0, len(content), 2000)] = rng.integers(0, 256, 2000)
    (copy / "model.tflite").write_bytes(content.tobytes())
    pin_again(copy, version=77)
    is_refused(device, copy, "a network with 2000 random bytes", "refused")


def test_a_replayed_old_version(device, bundle, copy):
    card = contract.parse_card((copy / "card.json").read_text())
    edited(copy, version=card.version + 2)
    newer = device.install(copy)
    device.request(newer)
    device.promote()
    device.commit(newer.card.id)
    edited(copy, version=card.version + 1)
    is_refused(device, copy, "a replayed old version", "older than version")


def test_a_full_disk_costs_nothing(device, copy, tmp_path, monkeypatch):
    """A real one: a file system of some hundred kilobytes, filled by somebody else meanwhile."""
    place = tmp_path / "full"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "none", place], capture_output=True
    )
    if done.returncode:
        pytest.skip("no file system can be mounted here: it needs root")
    try:
        full = Store(place / "models", believe, replay=lambda *_: None)
        said = refused(lambda: full.install(copy))
        assert "with a reserve for the log, and 0.6 MB are free; free some space" in said
        assert full.state().installed == ()
        space = shutil.disk_usage("/")
        monkeypatch.setattr(shutil, "disk_usage", lambda _: space)
        said = refused(lambda: full.install(copy))
        TABLE["a full disk"] += 1
        assert "No space left" in said
        assert full.state().installed == ()
    finally:
        subprocess.run(["umount", place], check=True)


def test_golden_vectors_that_are_a_program(device, copy):
    """NumPy's files may hold pickles, which run code when they are read; they are never allowed to."""
    np.savez(copy / "golden.npz", inputs=np.array([print], object), outputs=np.zeros(1))
    pin_again(copy, version=77)
    is_refused(device, copy, "golden vectors that are a pickle", "cannot be read")


def test_the_folder_may_hold_more_than_the_bundle(device, copy):
    """What the card does not pin is not taken along."""
    (copy / "extra.sh").write_text("reboot")
    pin_again(copy, version=77)
    installed = device.install(copy)
    assert not (installed.folder / "extra.sh").exists()
    shutil.rmtree(copy)
    with pytest.raises(BundleError):
        device.install(copy)


# --- signers -----------------------------------------------------------------------------------------------------


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


@pytest.mark.parametrize(
    "principal",
    ["Alice Smith", "", "a,b", "*", "a?", "!a", "#a", '"a"', "a\tb", "a\nb", "a\x1b[2J", "-a", "Zoë",
     "a" * 129, "\ud800", "a=b", "a'b", "a\\b", " a", "a\0"],
    ids=ascii,
)  # fmt: skip
def test_a_principal_that_is_no_single_plain_name_is_refused_with_what_is_allowed(principal, key):
    with pytest.raises(BundleError) as refused:
        signing.allowed_signers_line(principal, key.with_suffix(".pub"))
    assert str(refused.value).isascii()
    assert str(refused.value).isprintable()
    assert "write 1 to 128 of A-Z, a-z, 0-9 and . _ + @ -" in str(refused.value)


@pytest.mark.parametrize("principal", ["mien", "alice@example.com", "a.b+c_d-e@f", "0", "a" * 128])
def test_the_line_of_a_signer_is_one_that_ssh_keygen_takes(principal, key, copy):
    signing.sign(copy, key)
    line = signing.verified_signers_line(copy, principal, key.with_suffix(".pub"))
    assert line.startswith(f'{principal} namespaces="mien-bundle" ssh-ed25519 ')


def test_a_line_with_another_key_than_the_one_that_signed_is_not_given_out(key, copy, tmp_path):
    signing.sign(copy, key)
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    with pytest.raises(BundleError, match="not the public key of the signature"):
        signing.verified_signers_line(copy, "me", other.with_suffix(".pub"))
