"""Sources, and what each does with bad input."""

import itertools
from threading import Event

import cv2
import numpy as np
import pytest
from mien_edge.chain import camera, devices, sources
from mien_edge.errors import SourceError
from mien_edge.settings import SourceSettings


def write(path, image):
    assert cv2.imwrite(str(path), image)
    return path


def opened(uri, **settings):
    return sources.open_source(SourceSettings(uri=str(uri), **settings), Event())


def test_a_photo_is_one_frame_with_its_name(tmp_path, astronaut):
    path = write(tmp_path / "face.jpg", astronaut)
    (frame,) = opened(path)
    assert (frame.name, frame.index, frame.image.shape) == ("face.jpg", 0, (512, 512, 3))


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("gray.png", np.full((40, 30), 9, np.uint8)),
        ("rgba.png", np.full((40, 30, 4), 9, np.uint8)),
        ("deep.png", np.full((40, 30, 3), 40000, np.uint16)),
        ("tiny.png", np.full((1, 1, 3), 9, np.uint8)),
        ("large.jpg", np.full((3000, 4000, 3), 9, np.uint8)),
    ],
)
def test_any_picture_becomes_8_bit_colour(tmp_path, name, image):
    read = sources.read_photo(write(tmp_path / name, image))
    assert (read.dtype, read.shape) == (np.uint8, (*image.shape[:2], 3))


def test_a_16_bit_picture_keeps_its_light(tmp_path):
    read = sources.read_photo(write(tmp_path / "deep.png", np.full((8, 8), 32768, np.uint16)))
    assert abs(int(read.mean()) - 128) <= 1


def test_a_folder_skips_and_counts_what_it_cannot_read(tmp_path, astronaut, caplog):
    write(tmp_path / "b.jpg", astronaut)
    (tmp_path / "a.jpg").write_bytes((tmp_path / "b.jpg").read_bytes()[:9000])
    (tmp_path / "c.png").write_bytes(b"no picture")
    (tmp_path / "d.png").touch()
    (tmp_path / "notes.txt").write_text("not looked at")
    source = opened(tmp_path)
    assert [frame.name for frame in source] == ["b.jpg"]
    assert source.skipped == 3
    assert "a.jpg: a JPEG without its end" in caplog.text


def test_a_photo_with_a_longer_clip_behind_it_is_read(tmp_path, astronaut):
    path = write(tmp_path / "motion.jpg", astronaut)
    content = path.read_bytes()
    path.write_bytes(content + b"\0\0\0\x18ftypmp42" + bytes(3 * len(content)))
    assert sources.read_photo(path).shape == (512, 512, 3)


def test_a_truncated_photo_with_a_whole_thumbnail_is_truncated(tmp_path, astronaut):
    content = write(tmp_path / "a.jpg", astronaut).read_bytes()
    thumbnail = write(tmp_path / "b.jpg", astronaut[:64, :64]).read_bytes()
    length = (len(thumbnail) + 2).to_bytes(2, "big")
    whole = content[:2] + b"\xff\xe1" + length + thumbnail + content[2:]
    (tmp_path / "whole.jpg").write_bytes(whole)
    assert sources.read_photo(tmp_path / "whole.jpg").shape == (512, 512, 3)
    for cut in (len(thumbnail) + 30, len(whole) // 2, len(whole) - 2):
        (tmp_path / "cut.jpg").write_bytes(whole[:cut])
        with pytest.raises(SourceError, match="a JPEG without its end"):
            sources.read_photo(tmp_path / "cut.jpg")


def test_a_name_that_is_no_path_is_one_error_without_its_secrets():
    for uri in ("a" * 5000, "\0", "me:geheim@cam/x"):
        with pytest.raises(SourceError, match="no such source") as refused:
            opened(uri)
        assert "geheim" not in str(refused.value)


def test_an_empty_folder_and_a_missing_file_are_errors(tmp_path):
    with pytest.raises(SourceError, match="no photograph"):
        opened(tmp_path)
    with pytest.raises(SourceError, match="no such source"):
        opened(tmp_path / "none.mp4")


def test_a_jpeg_with_a_clip_behind_its_end_is_whole(tmp_path, astronaut):
    path = write(tmp_path / "motion.jpg", astronaut)
    path.write_bytes(path.read_bytes() + b"\0" * 9000)
    assert sources.read_photo(path).shape == astronaut.shape


def test_a_picture_of_over_100_megapixels_is_refused(tmp_path):
    path = write(tmp_path / "huge.png", np.zeros((10100, 10100), np.uint8))
    with pytest.raises(SourceError, match="over 100 megapixels"):
        sources.read_photo(path)


def test_the_demo_moves_dims_and_goes_away():
    demo = sources.Demo(15, paced=False)
    frames = list(demo)
    assert len(frames) == 240
    assert len({frame.image.mean().round(1) for frame in frames}) > 50
    assert demo.picture(11).std() < 2  # nobody is there


def test_the_endless_demo_stops_when_told():
    stop = Event()
    demo = sources.Demo(1, stop, forever=True, paced=False)
    for frame in itertools.islice(demo, 50):
        if frame.index == 20:  # past the end of one round
            stop.set()
    assert frame.index == 20


@pytest.mark.parametrize(
    ("uri", "kind"),
    [("picamera", "PiCamera"), ("v4l2:7", "V4l2"), ("rtsp://127.0.0.1:1/x", "Stream")],
)
def test_each_camera_uri_chooses_its_adapter(uri, kind, monkeypatch):
    monkeypatch.setattr(getattr(devices, kind), "__init__", lambda self, settings: None)
    live = opened(uri)
    assert isinstance(live, camera.LiveCamera)
    assert type(live._opener()).__name__ == kind


def test_a_demo_with_faults_is_lost_and_comes_back(monkeypatch):
    monkeypatch.setattr(sources.FaultyDemo, "minute", 0.2)
    faults = {
        "no frame for 0.3 s",
        "demo: pulled out; plug it in again",
        "demo: the driver says no",
    }
    events, stop = [], Event()
    settings = SourceSettings(uri="demo:faults", fps=60, frame_timeout=0.3, max_retry_delay=0.1)
    source = sources.open_source(settings, stop, lambda kind, text: events.append(text))
    for _ in source:
        if faults <= set(events):
            stop.set()
    assert "frames flow again" in events
