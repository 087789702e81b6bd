"""The commands for bundles on this device, called in this process."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter

import pytest
from mien_edge import cli, files
from mien_edge.commands import doctor, models
from mien_edge.labels import LABELS
from mien_edge.model import bundle as bundle_module
from mien_edge.settings import ModelSettings, Settings
from mien_edge.status import status_file
from mien_edge.status.status_file import ProbationStatus, Status, UpdateStatus
from mien_edge.update import signing
from mien_edge.update.archive import pack
from mien_edge.update.signing import Trust
from mien_edge.update.store import Store


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


def socket_pair():
    return [end.detach() for end in socket.socketpair()]


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


@pytest.fixture
def on_probation(bundle, device, signed, tmp_path):
    """A device whose service says that its bundle has met three faces."""
    assert cli.main(["models", "install", str(signed), *device]) == 0
    place = Store(tmp_path / "models", lambda *_: "me")
    place.request(place.open(bundle.card.id))
    place.promote()
    probation = ProbationStatus(seconds=7200, of_seconds=60, faces=3, of_faces=100)
    status = Status(model=bundle.card.id, update=UpdateStatus(probation))
    (tmp_path / "run" / "mien").mkdir(parents=True)
    for folder in (tmp_path / "run", tmp_path / "run" / "mien"):
        status_file.write(folder, status)
    return place


def test_who_waits_for_a_probation_in_vain_is_told_how_far_it_is(
    on_probation, bundle, device, capsys
):
    name = bundle.card.id
    assert cli.main(["models", "activate", name, "--timeout", "0", *device]) == 3
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"{name} has not been judged after 0 s: 3 of 100 readings of faces until now; "
        "it goes on by itself"
    )


def test_who_waits_is_not_told_a_result_of_before_that_a_wrong_clock_has_dated(
    bundle, device, signed, tmp_path, monkeypatch, capsys
):
    assert cli.main(["models", "install", str(signed), *device]) == 0
    name = bundle.card.id
    place = Store(tmp_path / "models", lambda *_: "me")
    place.request(place.open(name))
    place.promote()
    with monkeypatch.context() as clock:
        clock.setattr(time, "time", lambda: 4e9)
        place.roll_back(name, "it was slow")
    monkeypatch.setattr(models, "_POLL_SECONDS", 0.01)
    assert cli.main(["models", "activate", name, "--timeout", "0.02", *device]) == 3
    assert "has not been judged" in capsys.readouterr().out


@pytest.mark.parametrize("ends", [os.pipe, socket_pair], ids=["pipe", "socket"])
def test_a_session_whose_ssh_was_killed_is_seen(ends):
    """OpenSSH gives a command one or the other."""
    other, output = ends()
    assert not models._is_unheard(output)
    os.close(other)
    assert models._is_unheard(output)
    os.close(output)


def test_who_is_not_listened_to_any_more_waits_no_longer(on_probation, bundle, device, monkeypatch):
    monkeypatch.setattr(models, "_is_unheard", lambda: True)
    assert cli.main(["models", "activate", bundle.card.id, "--timeout", "1e9", *device]) == 3


def test_the_list_says_how_far_a_probation_is(on_probation, bundle, device, capsys):
    capsys.readouterr()
    assert cli.main(["models", "list", *device]) == 0
    assert "(on probation: 3 of 100 readings of faces until now)" in capsys.readouterr().out


def test_doctor_says_how_far_a_probation_is(on_probation, bundle, tmp_path):
    (finding,) = doctor._probation(doctor.Device(Settings(), tmp_path))
    assert finding.severity == "note"
    assert f"{bundle.card.id} is on probation: 3 of 100 readings of faces" in finding.text


def test_the_list_says_why_a_bundle_is_not_taken_again(bundle, device, signed, tmp_path, capsys):
    assert cli.main(["models", "install", str(signed), *device]) == 0
    reason = "it ended the service in 5 starts in a row"
    (tmp_path / "models" / bundle.card.id / "failed").write_text(f"{reason}\n")
    assert cli.main(["models", "list", *device]) == 0
    assert f"(failed, not taken again: {reason})" in capsys.readouterr().out
    assert cli.main(["models", "activate", bundle.card.id, *device]) == 1
    assert f"mien-edge models remove {bundle.card.id}" in capsys.readouterr().err


def test_a_fifth_submission_is_one_line(device, signed, monkeypatch, tmp_path, capsys):
    place = Store(tmp_path / "models", lambda *_: "me")
    monkeypatch.setattr(sys, "stdin", archive_file(tmp_path, pack(signed)))
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(place.session())
        assert cli.main(["receive", *device]) == 1
    reason = "4 submissions are under way; try again later"
    assert capsys.readouterr().err == f"mien-edge: error: {reason}\n"


def test_the_list_names_the_labels_of_a_bundle_that_has_others_than_the_seven(
    three_labels, bundle, device, tmp_path, capsys
):
    place = Store(tmp_path / "models", lambda *_: "me")
    for each in (three_labels, bundle):
        place.install(each.folder)
    assert cli.main(["models", "list", *device]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[:2] == [f"  {bundle.card.id}", "  three-1  (labels happiness, sadness, other)"]
    assert cli.main(["models", "list", "--json", *device]) == 0
    labels = json.loads(capsys.readouterr().out)["labels"]
    assert labels == {bundle.card.id: list(LABELS), "three-1": ["happiness", "sadness", "other"]}
    (tmp_path / "models" / "three-1" / "card.json").write_text("{")
    assert cli.main(["models", "list", *device]) == 0
    assert "  three-1\n" in capsys.readouterr().out


def test_doctor_names_the_labels_of_the_bundle(three_labels, tmp_path):
    settings = Settings(model=ModelSettings(bundle=str(three_labels.folder)))
    (finding,) = doctor._model(doctor.Device(settings, tmp_path))
    assert finding.severity == "ok"
    assert finding.text.startswith(
        "three-1 computes what it did on the workstation; labels happiness, "
    )


@pytest.mark.parametrize(
    ("running", "change"),
    [
        ((*LABELS, "contempt"), "no more contempt"),
        (("happiness", "sad"), "also angry, disgust, fear, happy, surprise, neutral; no more happiness"),
        (("awake", "asleep"), f"all new: {', '.join(LABELS)}"),
        (tuple(reversed(LABELS)), ""),
        ((), ""),
    ],
)  # fmt: skip
def test_who_activates_a_bundle_with_other_labels_than_the_running_one_is_told_so(
    bundle, device, signed, tmp_path, capsys, running, change
):
    assert cli.main(["models", "install", str(signed), *device]) == 0
    (tmp_path / "run").mkdir()
    status_file.write(tmp_path / "run", Status(model="old-1", labels=running))
    capsys.readouterr()
    name = bundle.card.id
    assert cli.main(["models", "activate", name, *device]) == 0
    expected = [f"{name} is asked for: the service takes it at its next start"]
    if change:
        advice = "what names labels, such as automations and scripts, has to follow"
        expected.insert(0, f"{name}: its labels are not those of old-1: {change}; {advice}")
    assert capsys.readouterr().out.splitlines() == expected
