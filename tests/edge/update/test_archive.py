"""A bundle that is sent: what of it is read before it is trusted, and what a hostile sender can make a device hold."""

import io
import shutil
import subprocess
import tarfile

import pytest
from mien_edge.errors import BundleError, MienError
from mien_edge.update.archive import DeadlineStream, pack, receive
from stores import commit, small, store

KILOBYTES = 400_000  # the largest card and signature that are read before they are verified


@pytest.fixture
def source(bundle, tmp_path):
    return small(bundle, tmp_path / "source", 1)


class Sender:
    """A stream that counts what is read of it, and may do something at each read."""

    def __init__(self, content, then=b"", at_read=lambda: None):
        self._content, self._then, self._at_read, self.bytes = io.BytesIO(content), then, at_read, 0

    def read(self, size):
        self._at_read()
        content = self._content.read(size) or self._then[:size]
        self.bytes += len(content)
        return content


def header(name, size=0, kind=tarfile.REGTYPE, **fields):
    entry = tarfile.TarInfo(name)
    entry.size, entry.type = size, kind
    for key, value in fields.items():
        setattr(entry, key, value)
    return entry.tobuf(tarfile.USTAR_FORMAT)


def changed(block, at, content):
    """A header with other bytes and the right checksum."""
    block = block[:at] + content + block[at + len(content) :]
    checksum = sum(block[:148]) + 8 * ord(" ") + sum(block[156:])
    return block[:148] + b"%06o\0 " % checksum + block[156:]


ENDLESS = bytes(1 << 16)
CARD = header("card.json", 2) + b"{}" + bytes(510)
HOSTILE = {
    "nested extended headers": header("x", 0, tarfile.XHDTYPE) * 5000,
    "nested long names": header("x", 0, tarfile.GNUTYPE_LONGNAME) * 5000,
    "a long extended header": header("x", 4 << 30, tarfile.XHDTYPE),
    "a global extended header": header("x", 100, tarfile.XGLTYPE),
    "a sparse file": header("card.json", 10, tarfile.GNUTYPE_SPARSE),
    "a hard link": header("card.json", 0, tarfile.LNKTYPE, linkname="model.tflite"),
    "a symbolic link": header("card.json", 0, tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a plain file with a link's name": changed(header("card.json", 2), 157, b"x"),
    "a device": header("card.json", 0, tarfile.CHRTYPE),
    "a folder": header("card.json", 0, tarfile.DIRTYPE),
    "a negative size": changed(header("card.json"), 124, b"-0000000010\0"),
    "a size in base 256": changed(header("card.json"), 124, b"\x80" + bytes(9) + b"\xff\xff"),
    "a negative size in base 256": changed(header("card.json"), 124, b"\xff" * 12),
    "a size with an underscore": changed(header("card.json"), 124, b"00000_00010\0"),
    "a name that is not UTF-8": changed(header("card.json"), 0, b"\xff\xfe"),
    "a name with a control character": changed(header("card.json"), 0, b"\x1b[2J"),
    "a prefix": changed(header("card.json", 2), 345, b"../.."),
    "a wrong checksum": header("card.json", 2)[:148] + b"000000\0 " + bytes(356),
    "a card of eight gigabytes": header("card.json", (8 << 30) - 1),
    "zeros without end": bytes(512),
    "nothing": b"",
    "a network first": header("model.tflite", 30 << 20),
    "a card that is cut off": header("card.json", 1000) + b"{",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_of_a_hostile_archive_nothing_is_followed_and_kilobytes_are_read(content, tmp_path):
    then = b"" if content in (b"", HOSTILE["a card that is cut off"]) else ENDLESS
    sender = Sender(content, then)
    place = store(tmp_path / "models")
    with pytest.raises(MienError) as refused:
        receive(sender, place)
    assert "\n" not in str(refused.value)
    assert str(refused.value).isprintable()
    assert sender.bytes <= 1024
    assert place.state().installed == ()
    assert not list((tmp_path / "models").glob(".staging-*"))


def test_a_card_that_nobody_signed_is_all_that_is_read(source, tmp_path):
    place = store(tmp_path / "models")

    def distrust(folder, name):
        assert sorted(path.name for path in folder.iterdir()) == ["card.json"]
        raise BundleError("not signed")

    place.trust = distrust
    sender = Sender(pack(source) + bytes(60 << 20))
    with pytest.raises(BundleError, match="not signed"):
        receive(sender, place)
    assert sender.bytes < KILOBYTES


def test_a_file_of_another_size_than_the_signed_card_pins_is_not_read(source, tmp_path):
    content = pack(source)
    (source / "golden.npz").write_bytes(bytes(10 << 20))
    card_end = content.index(b"golden.npz\0")
    other = content[:card_end] + header("golden.npz", 10 << 20)
    sender = Sender(other, ENDLESS)
    with pytest.raises(BundleError, match=r"golden\.npz: larger than"):
        receive(sender, store(tmp_path / "models"))
    assert sender.bytes == len(other)


def test_an_altered_file_is_refused_before_the_next_one_is_read(source, tmp_path):
    content = bytearray(pack(source))
    content[content.index(b"golden.npz\0") + 512] ^= 1
    sender = Sender(bytes(content))
    with pytest.raises(BundleError, match=r"golden\.npz: its sha256 is not the card's"):
        receive(sender, store(tmp_path / "models"))
    assert sender.bytes <= content.index(b"model.tflite\0")


@pytest.mark.parametrize(
    ("end", "then", "reason"),
    [
        (b"", b"", "cut off"),
        (bytes(1024) + b"rm -rf", b"", "goes on after its end"),
        (bytes(1024), ENDLESS, "goes on after its end"),
        (header("model.tflite", 2) + b"{}" + bytes(510), b"", "'model.tflite' is not a file of"),
        (header("x", 0, tarfile.XHDTYPE), b"", "'x' is not a file of a bundle"),
    ],
    ids=["no end", "more data", "zeros without end", "a second network", "an extended header"],
)
def test_what_follows_the_last_file_is_refused(source, tmp_path, end, then, reason):
    files = pack(source).rstrip(b"\0")
    files += bytes(-len(files) % 512)
    with pytest.raises(BundleError, match=reason):
        receive(Sender(files + end, then), store(tmp_path / "models"))


@pytest.mark.parametrize("format_name", ["ustar", "gnu", "v7"])
def test_what_tar_itself_packs_in_that_order_is_read_if_its_headers_are_plain(
    source, tmp_path, format_name
):
    if shutil.which("tar") is None:
        pytest.skip("tar is not installed")
    names = ["card.json", "golden.npz", "model.tflite"]
    command = ["tar", f"--format={format_name}", "-C", str(source), "-cf", "-", *names]
    content = subprocess.run(command, check=True, capture_output=True).stdout
    place = store(tmp_path / "models")
    if format_name == "v7":  # has no magic number, and is older than any mien
        with pytest.raises(BundleError, match="no tar archive"):
            receive(io.BytesIO(content), place)
    else:
        assert receive(io.BytesIO(content), place).card.id == "small-1"


# --- seconds -----------------------------------------------------------------------------------------------------


class Times:
    """A clock that is set, and a descriptor that has something to read, or nothing for ever."""

    def __init__(self, tmp_path):
        (tmp_path / "sent").write_bytes(bytes(1 << 20))
        self.file = (tmp_path / "sent").open("rb")
        self.now, self.has_input, self.patience = 0.0, True, []
        self.stream = DeadlineStream(self.file.fileno(), lambda: self.now, self.wait)

    def wait(self, handle, seconds):
        self.patience.append(seconds)
        return self.has_input


def test_a_sender_that_falls_silent_has_half_a_minute(tmp_path):
    times = Times(tmp_path)
    times.stream.read(600_000)
    times.has_input = False
    with pytest.raises(BundleError, match="comes too slowly, 600000 bytes until now"):
        times.stream.read(512)
    assert times.patience == [30.0, 30.0]


def test_a_sender_that_trickles_is_refused_after_the_first_half_minute(tmp_path):
    times = Times(tmp_path)
    for times.now in range(0, 31, 5):
        times.stream.read(16)
    times.now = 35
    with pytest.raises(BundleError, match="comes too slowly"):
        times.stream.read(16)


def test_no_sender_has_more_than_fifteen_minutes(tmp_path):
    times = Times(tmp_path)
    for times.now in range(0, 900, 20):
        times.stream._bytes = 60_000_000
        times.stream.read(512)
    times.now = 900
    with pytest.raises(BundleError, match="comes too slowly"):
        times.stream.read(512)


# --- sessions ----------------------------------------------------------------------------------------------------


def test_a_second_submission_at_the_same_time_is_refused_with_a_line(source, tmp_path):
    place, reasons = store(tmp_path / "models"), []

    def submit():
        with pytest.raises(BundleError) as refused:
            receive(io.BytesIO(pack(source)), store(place.folder))
        reasons.append(str(refused.value))

    assert receive(Sender(pack(source), at_read=submit), place).card.id == "small-1"
    assert set(reasons) == {"another submission is under way; try again"}


def test_a_sender_that_takes_its_time_holds_nothing_that_the_service_needs(bundle, tmp_path):
    place = store(tmp_path / "models")
    commit(place, small(bundle, tmp_path / "one", 1))
    place.request(place.install(small(bundle, tmp_path / "two", 2)))

    def serve():
        service = store(place.folder)
        service.lock_timeout = 0.0
        service.recover()
        service.promote()
        service.commit("small-2")

    content = pack(small(bundle, tmp_path / "three", 3))
    assert receive(Sender(content, at_read=serve), place).card.id == "small-3"
    assert place.state().record.committed == ("small-2", "small-1")


def test_four_sessions_wait_and_a_fifth_is_refused(tmp_path):
    place = store(tmp_path / "models")
    with place.session(), place.session(), place.session():
        with place.session(), pytest.raises(BundleError, match="4 submissions are under way"):
            place.session().__enter__()
        with place.session():
            pass


def test_what_a_killed_session_has_left_is_removed_by_the_next_one(bundle, source, tmp_path):
    place = store(tmp_path / "models")
    (place.folder / ".staging-4711").mkdir(parents=True)
    (place.folder / ".staging-4711" / "model.tflite").write_bytes(bytes(1000))
    receive(io.BytesIO(pack(source)), place)
    assert not list(place.folder.glob(".staging-*"))


def test_a_bundle_leaves_space_for_the_log(source, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 16 << 20))
    sender = Sender(pack(source))
    with pytest.raises(BundleError, match=r"and 16\.8 MB are free; free some space"):
        receive(sender, store(tmp_path / "models"))
    assert sender.bytes < KILOBYTES
