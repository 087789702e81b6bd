"""Installed bundles: the small state machine, signatures, and what is refused."""

import errno
import io
import shutil
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from helpers import pin_again
from mien_edge import files
from mien_edge.errors import BundleError, MienError
from mien_edge.model.bundle import load_bundle
from mien_edge.update import sandbox, signing
from mien_edge.update.archive import receive
from mien_edge.update.disk import Disk
from mien_edge.update.signing import Trust
from mien_edge.update.store import Store
from stores import commit, refused, small, store


@pytest.fixture
def place(tmp_path):
    return store(tmp_path / "models")


@pytest.fixture
def sources(bundle, tmp_path):
    return {
        version: small(bundle, tmp_path / f"source-{version}", version) for version in range(1, 7)
    }


def test_a_bundle_goes_from_installed_to_asked_for_to_probation_to_committed(place, sources):
    place.install(sources[1])
    assert place.state().installed == ("small-1",)
    assert (place.state().current, place.state().pending) == ("", "")
    place.request(place.open("small-1"))
    assert place.state().pending == "small-1"
    assert place.promote().card.id == "small-1"
    assert place.state().on_probation
    place.commit("small-1")
    assert place.state().record.committed == ("small-1",)
    assert place.state().record.last_result.passed
    assert place.promote() is None


def test_two_committed_bundles_are_kept_and_one_can_go_back_once(place, sources):
    for version in (1, 2, 3):
        commit(place, sources[version])
    assert place.state().record.committed == ("small-3", "small-2")
    assert place.return_to_previous("a test") == "small-2"
    assert place.state().record.committed == ("small-2",)
    assert place.state().record.last_result.reason == "a test"
    assert place.return_to_previous("once more") == "", "the one that came with mien"
    assert "there is none before it" in refused(lambda: place.return_to_previous("again"))


def test_a_rollback_of_the_first_bundle_leads_to_the_one_that_came_with_mien(place, sources):
    place.install(sources[1])
    place.request(place.open("small-1"))
    place.promote()
    assert place.return_to_previous("a test") == ""
    assert not (place.folder / "current").is_symlink()


def test_a_verdict_concerns_only_the_bundle_that_it_is_of(place, sources):
    """Somebody else may have changed the store in the meantime."""
    commit(place, sources[1])
    commit(place, sources[2])
    place.install(sources[3])
    place.request(place.open("small-3"))
    place.promote()
    place.roll_back("small-3", "a fault")
    for _ in range(3):
        place.roll_back("small-3", "told again")
        place.commit("small-3")
    assert place.state().current == "small-2"
    assert place.state().record.committed == ("small-2", "small-1")


def test_going_back_by_hand_withdraws_what_was_asked_for(place, sources):
    commit(place, sources[1])
    commit(place, sources[2])
    place.install(sources[3])
    place.request(place.open("small-3"))
    assert place.return_to_previous("by hand") == "small-1"
    assert place.state().pending == ""


def test_a_folder_that_holds_another_bundle_than_it_says_is_refused(place, sources):
    commit(place, sources[2])
    shutil.copytree(sources[1], place.folder / "small-9")
    assert "holds small-1" in refused(lambda: place.request(place.open("small-9")))


def test_a_damaged_record_adopts_nothing_that_has_not_proved_itself(place, sources):
    commit(place, sources[1])
    place.install(sources[2])
    place.request(place.open("small-2"))
    place.promote()
    (place.folder / "state.json").write_text("{")
    place.recover()
    assert place.state().current == "", "the bundle that came with mien is known to be good"


def test_a_bundle_that_cannot_be_read_is_left_at_the_next_start(place, sources, monkeypatch):
    """A card with a bad sector: reading fails, not only what is read."""
    commit(place, sources[1])
    commit(place, sources[2])
    real = files.sha256

    def fails(path):
        if path.parent.name == "small-2":
            raise OSError(errno.EIO, "Input/output error")
        return real(path)

    monkeypatch.setattr(files, "sha256", fails)
    assert "back to small-1" in place.recover().events[0]


def test_a_busy_store_is_waited_for_and_then_given_up(place, sources):
    commit(place, sources[1])
    hasty = store(place.folder)
    hasty.lock_timeout = 0.2
    with place._locked():
        assert "another process changes it" in refused(lambda: hasty.request(hasty.open("small-1")))


class Watched(Disk):
    """Calls `look` after `current` was replaced."""

    def rename(self, source, target):
        super().rename(source, target)
        if target.name == "current":
            self.look()


def test_a_state_in_the_middle_of_a_roll_back_is_not_settled(place, sources):
    commit(place, sources[1])
    place.request(place.install(sources[2]))
    place.promote()
    place.disk, other, seen = Watched(), store(place.folder), []
    place.disk.look = lambda: seen.append(
        (other.state().record.last_result.name, other.settled_state(timeout=0))
    )
    place.roll_back("small-2", "a fault")
    ((name, settled),) = seen
    assert name == "small-1", "the link is replaced before the result is written"
    assert settled is None, "another process changes it"
    assert other.settled_state(timeout=0).record.last_result.name == "small-2"


def test_what_is_on_probation_at_the_start_is_undone(place, sources):
    commit(place, sources[1])
    place.install(sources[2])
    place.request(place.open("small-2"))
    place.promote()
    (said,) = place.recover().events
    assert "small-2: the service ended before" in said
    assert place.state().current == "small-1"
    assert place.recover().events == ()


def test_a_device_of_an_older_mien_keeps_its_current_bundle(place, sources):
    place.install(sources[1])
    (place.folder / "current").symlink_to("small-1")
    assert place.recover().events == ()
    assert place.state().record.committed == ("small-1",)


def asked_by_an_older_mien(place, source):
    """The link `pending` was called `next`."""
    place.request(place.install(source))
    (place.folder / "pending").rename(place.folder / "next")


def test_a_request_of_an_older_mien_is_still_pending(place, sources):
    commit(place, sources[1])
    asked_by_an_older_mien(place, sources[2])
    assert place.state().pending == "small-2"
    assert place.recover().events == ()
    assert (place.folder / "pending").readlink().name == "small-2"
    assert not (place.folder / "next").is_symlink()
    assert place.state().pending == "small-2"


def test_a_request_of_an_older_mien_is_promoted_at_the_first_start(place, sources):
    commit(place, sources[1])
    asked_by_an_older_mien(place, sources[2])
    assert place.promote().card.id == "small-2"
    assert place.state().current == "small-2"
    assert place.state().pending == ""
    assert not (place.folder / "next").is_symlink()


def test_a_request_of_an_older_mien_that_ran_in_between_is_the_later_one(place, sources):
    commit(place, sources[1])
    place.install(sources[2])
    place.install(sources[3])
    asked_by_an_older_mien(place, sources[3])
    place.folder.joinpath("pending").symlink_to("small-2")
    assert place.state().pending == "small-3"
    assert place.promote().card.id == "small-3"


@pytest.mark.parametrize(
    "withdraw", [lambda place: place.cancel("small-2"), lambda place: place.return_to_previous("")]
)
def test_a_request_of_an_older_mien_can_be_withdrawn(place, sources, withdraw):
    commit(place, sources[1])
    asked_by_an_older_mien(place, sources[2])
    withdraw(place)
    assert place.state().pending == ""
    assert place.promote() is None


def test_unused_bundles_make_room_and_those_in_use_stay(place, sources):
    commit(place, sources[1])
    commit(place, sources[2])
    for version in (3, 4, 5, 6):
        place.install(sources[version])
    assert set(place.state().installed) == {"small-1", "small-2", "small-4", "small-5", "small-6"}


def test_a_bundle_in_use_cannot_be_discarded_and_a_shadow_ends(place, sources):
    commit(place, sources[1])
    assert "in use" in refused(lambda: place.remove("small-1"))
    place.install(sources[2])
    place.start_shadow(place.open("small-2"))
    assert place.state().shadow == "small-2"
    place.remove("small-2")
    assert (place.state().shadow, place.state().installed) == ("", ("small-1",))


def test_an_older_version_than_has_run_needs_a_word(place, sources):
    commit(place, sources[1])
    commit(place, sources[3])
    assert "older than version 3" in refused(lambda: place.install(sources[2]))
    assert "older than version 3" in refused(lambda: place.request(place.open("small-1")))
    place.install(sources[2], allow_downgrade=True)
    assert place.request(place.open("small-2"), allow_downgrade=True).pending == "small-2"


def test_another_bundle_of_the_same_version_is_refused(place, sources):
    place.install(sources[1])
    pin_again(sources[1], created="2030-01-01T00:00:00+00:00")
    assert "another bundle of this name and version" in refused(lambda: place.install(sources[1]))


@pytest.mark.parametrize("name", ["current", "../outside", "none-1", ".", ""])
def test_only_an_installed_bundle_can_be_chosen(place, sources, name):
    commit(place, sources[1])
    shutil.copytree(sources[1], place.folder.parent / "outside")
    with pytest.raises(BundleError, match="not installed"):
        place.open(name)


def test_a_damaged_bundle_is_replaced_by_installing_again_and_left_at_the_next_start(
    place, sources
):
    commit(place, sources[1])
    commit(place, sources[2])
    (place.folder / "small-2" / "model.tflite").write_bytes(b"rot")
    assert "back to small-1" in place.recover().events[0]
    place.install(sources[2])
    assert load_bundle(place.folder / "small-2").card.id == "small-2"


def test_installing_again_changes_nothing(place, sources):
    place.install(sources[1])
    before = (place.folder / "small-1").stat()
    place.install(sources[1])
    assert (place.folder / "small-1").stat().st_ino == before.st_ino


# --- signatures --------------------------------------------------------------------------------------------------


@pytest.fixture
def keys(tmp_path):
    """Keys 'good', 'old' and 'other'; the first two may sign, the second is revoked."""
    folder = tmp_path / "keys"
    folder.mkdir()
    for name in ("good", "old", "other"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name],
            check=True,
        )
    lines = [
        signing.allowed_signers_line(f"{name}@test", folder / f"{name}.pub")
        for name in ("good", "old")
    ]
    (folder / "allowed").write_text("".join(lines))
    (folder / "revoked").write_bytes((folder / "old.pub").read_bytes())
    return folder


def signed(source, key):
    signing.sign(source, key)
    return source


def strict_store(tmp_path, keys, unsigned=False):
    trust = Trust(keys / "allowed", keys / "revoked", unsigned)
    return Store(tmp_path / "models", trust, replay=lambda *_: None)


def test_a_signed_bundle_is_taken_and_keeps_its_signature(tmp_path, keys, sources):
    place = strict_store(tmp_path, keys)
    place.install(signed(sources[1], keys / "good"))
    assert (place.folder / "small-1" / "card.json.sig").read_bytes() == (
        sources[1] / "card.json.sig"
    ).read_bytes()
    assert Trust(keys / "allowed", keys / "revoked")(sources[1], "x") == "good@test"


def test_an_unsigned_bundle_is_taken_only_where_that_is_set(tmp_path, keys, sources):
    assert "is not signed" in refused(lambda: strict_store(tmp_path, keys).install(sources[1]))
    strict_store(tmp_path, keys, unsigned=True).install(sources[1])


@pytest.mark.parametrize(
    ("key", "reason"),
    [("other", "a key that is not in"), ("old", "a key that .*revoked revokes")],
    ids=["unknown", "revoked"],
)
def test_a_signature_by_a_key_that_is_not_trusted_is_refused(tmp_path, keys, sources, key, reason):
    with pytest.raises(BundleError, match=reason):
        strict_store(tmp_path, keys).install(signed(sources[1], keys / key))


def test_a_card_changed_after_it_was_signed_is_refused(tmp_path, keys, sources):
    signed(sources[1], keys / "good")
    pin_again(sources[1], created="2030-01-01T00:00:00+00:00")
    with pytest.raises(BundleError, match="signature is not valid"):
        strict_store(tmp_path, keys).install(sources[1])


def test_a_key_that_has_run_out_is_not_believed(tmp_path, keys, sources):
    line = (keys / "allowed").read_text().splitlines()[0]
    (keys / "allowed").write_text(
        line.replace("namespaces", 'valid-before="20200101",namespaces') + "\n"
    )
    with pytest.raises(BundleError, match=r"not in|not valid"):
        strict_store(tmp_path, keys).install(signed(sources[1], keys / "good"))


def test_a_signature_for_another_purpose_is_refused(tmp_path, keys, sources):
    card = sources[1] / "card.json"
    subprocess.run(
        ["ssh-keygen", "-q", "-Y", "sign", "-f", keys / "good", "-n", "git", card], check=True
    )
    with pytest.raises(BundleError, match=r"signature is not valid|not in"):
        strict_store(tmp_path, keys).install(sources[1])


def test_a_key_that_was_revoked_since_cannot_be_activated_until_it_is_signed_anew(
    tmp_path, keys, sources
):
    place = strict_store(tmp_path, keys)
    place.install(signed(sources[1], keys / "good"))
    (keys / "revoked").write_bytes((keys / "good.pub").read_bytes())
    assert "revokes" in refused(lambda: place.request(place.open("small-1")))
    (keys / "allowed").write_text(signing.allowed_signers_line("next@test", keys / "other.pub"))
    place.install(signed(sources[1], keys / "other"))
    assert place.request(place.open("small-1")).pending == "small-1"


def test_without_a_file_of_signers_the_error_says_what_to_do(tmp_path, keys, sources):
    (keys / "allowed").unlink()
    with pytest.raises(BundleError, match="no such file, so no signature can be checked"):
        strict_store(tmp_path, keys).install(signed(sources[1], keys / "good"))


@pytest.mark.parametrize("name", ["allowed", "revoked"])
def test_a_list_of_keys_that_windows_saved_with_a_mark_is_told_as_such(
    tmp_path, sources, keys, name
):
    path = keys / name
    content = path.read_bytes() if path.exists() else b""
    path.write_bytes(b"\xef\xbb\xbf" + content)
    try:
        message = refused(
            lambda: strict_store(tmp_path, keys).install(signed(sources[1], keys / "good"))
        )
    finally:
        path.write_bytes(content)
    assert f"{name}: it begins with a byte order mark" in message


def test_a_list_of_keys_with_the_line_ends_of_windows_is_read(tmp_path, sources, keys):
    path = keys / "allowed"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\n", b"\r\n"))
    try:
        strict_store(tmp_path, keys).install(signed(sources[1], keys / "good"))
    finally:
        path.write_bytes(content)


# --- what is refused ---------------------------------------------------------------------------------------------


def real(tmp_path):
    return Store(tmp_path / "models", believe)


def test_the_real_bundle_is_replayed_and_installed(bundle, tmp_path):
    assert real(tmp_path).install(bundle.folder).card == bundle.card


def test_a_bundle_that_computes_something_else_is_refused(copy, tmp_path):
    with np.load(copy / "golden.npz") as golden:
        inputs, outputs = golden["inputs"], golden["outputs"]
    np.savez(copy / "golden.npz", inputs=inputs, outputs=np.roll(outputs, 1, axis=1))
    pin_again(copy)
    with pytest.raises(BundleError, match=r"refused: .*golden vectors differ"):
        real(tmp_path).install(copy)
    assert real(tmp_path).state().installed == ()


def test_a_replay_that_hangs_is_ended(bundle):
    with pytest.raises(BundleError, match=r"took over 0.05 s"):
        sandbox.replay(bundle.folder, bundle.card.id, seconds=0.05)


def test_a_replay_that_eats_memory_is_ended(bundle):
    with pytest.raises(BundleError, match="refused"):
        sandbox.replay(bundle.folder, bundle.card.id, memory=16 << 20)


def test_a_replay_has_no_network():
    """Where the kernel lets an ordinary user, or root, have a network of its own."""
    command = [
        sys.executable,
        "-c",
        "import os; print(sorted(os.listdir('/proc/self/net/dev_snmp6')))",
    ]
    there = subprocess.run(command, capture_output=True, text=True).stdout
    if "eth" not in there and "en" not in there:
        pytest.skip("this machine has no network device to be cut off from")
    cut = subprocess.run(
        command, capture_output=True, text=True, preexec_fn=sandbox._unshare_network
    ).stdout
    assert cut.strip() == "['lo']"


def archive(*entries):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for entry, content in entries:
            entry.size = len(content)
            made.addfile(entry, io.BytesIO(content))
    out.seek(0)
    return out


def link(name, target):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    return entry


@pytest.mark.parametrize(
    "stream",
    [
        archive((tarfile.TarInfo("../card.json"), b"{}")),
        archive((tarfile.TarInfo("/etc/passwd"), b"{}")),
        archive((tarfile.TarInfo("a/b"), b"{}")),
        archive((link("card.json", "/etc/passwd"), b"")),
        archive((tarfile.TarInfo(".."), b"{}")),
        archive((tarfile.TarInfo("a" * 300), b"{}")),
        archive(*[(tarfile.TarInfo(f"file{number}"), b"{}") for number in range(99)]),
        io.BytesIO(b"no archive at all" * 99),
        io.BytesIO(b""),
    ],
    ids=["parent", "absolute", "folder", "symlink", "dots", "long", "many", "garbage", "empty"],
)
def test_a_hostile_archive_is_refused_and_writes_nothing(stream, tmp_path):
    with pytest.raises(MienError):
        receive(stream, store(tmp_path / "inside" / "models"))
    assert not (tmp_path / "card.json").exists()
    assert list(tmp_path.rglob("*.json")) == []


def test_a_cut_off_archive_is_refused(bundle, tmp_path):
    content = archive(
        (tarfile.TarInfo("card.json"), (bundle.folder / "card.json").read_bytes())
    ).getvalue()
    with pytest.raises(MienError):
        receive(io.BytesIO(content[: len(content) // 2]), store(tmp_path / "models"))
