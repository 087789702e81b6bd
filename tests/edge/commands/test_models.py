"""The commands for bundles on this device, called in this process."""

import subprocess
import sys
from collections import Counter

import pytest
from mien_edge import cli, files
from mien_edge.model import bundle as bundle_module
from mien_edge.update import signing
from mien_edge.update.archive import pack
from mien_edge.update.signing import Trust


@pytest.fixture
def device(tmp_path, monkeypatch):
    """Options of a device that trusts the key in the test's folder."""
    monkeypatch.setenv("MIEN_MODELS", str(tmp_path / "models"))
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True
    )
    (tmp_path / "signers").write_text(signing.allowed_signers_line("me", tmp_path / "key.pub"))
    (tmp_path / "mien.toml").write_text(
        f'[update]\nsigners = "{tmp_path / "signers"}"\nrevoked = "{tmp_path / "none"}"\n'
        f'[log]\npath = "{tmp_path / "log.db"}"\n'
    )
    return ["--settings", str(tmp_path / "mien.toml"), "--runtime", str(tmp_path / "run")]


@pytest.fixture
def signed(copy, tmp_path, device):
    signing.sign(copy, tmp_path / "key")
    return copy


@pytest.fixture
def verifications(monkeypatch):
    """How often this process has verified a signature, a card, and the content of each file."""
    counts = Counter()
    trust, parse_card, sha256 = Trust.__call__, bundle_module.parse_card, files.sha256

    def counted_trust(self, folder, name):
        counts["signature"] += 1
        return trust(self, folder, name)

    def counted_parse(content, where):
        counts["card"] += 1
        return parse_card(content, where)

    def counted_sha256(path):
        counts[path.name] += 1
        return sha256(path)

    monkeypatch.setattr(Trust, "__call__", counted_trust)
    monkeypatch.setattr(bundle_module, "parse_card", counted_parse)
    monkeypatch.setattr(files, "sha256", counted_sha256)
    return counts


ONCE = {"signature": 1, "card": 1, "model.tflite": 1, "golden.npz": 1}


def archive_file(folder, content):
    """A file with so many bytes, as standard input."""
    (folder / "archive.tar").write_bytes(content)
    return (folder / "archive.tar").open("rb")


def test_receive_verifies_a_bundle_once(
    bundle, device, signed, monkeypatch, verifications, tmp_path
):
    content = pack(signed)
    verifications.clear()
    monkeypatch.setattr(sys, "stdin", archive_file(tmp_path, content))
    assert cli.main(["receive", *device]) == 0
    assert verifications == ONCE


def test_install_verifies_a_bundle_once_and_activate_does_so_again(
    bundle, device, signed, verifications
):
    """They are two processes; the card in the folder is read to know which files belong to it."""
    assert cli.main(["models", "install", str(signed), *device]) == 0
    assert verifications == ONCE | {"card": 2}
    verifications.clear()
    assert cli.main(["models", "activate", bundle.card.id, *device]) == 0
    assert verifications == ONCE


def test_a_bundle_that_was_altered_is_refused(device, signed, capsys):
    content = bytearray((signed / "model.tflite").read_bytes())
    content[len(content) // 2] ^= 1
    (signed / "model.tflite").write_bytes(content)
    assert cli.main(["models", "install", str(signed), *device]) == 1
    assert f"{signed}/model.tflite: its sha256 is not the card's" in capsys.readouterr().err
