"""Photographs and folders of them, and what becomes of bad ones."""

from threading import Event

import cv2
import numpy as np
import pytest
from mien_edge.chain import photos, sources
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
    read = photos.read_photo(write(tmp_path / name, image))
    assert (read.dtype, read.shape) == (np.uint8, (*image.shape[:2], 3))


def test_a_16_bit_picture_keeps_its_light(tmp_path):
    read = photos.read_photo(write(tmp_path / "deep.png", np.full((8, 8), 32768, np.uint16)))
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
    assert photos.read_photo(path).shape == (512, 512, 3)


def test_a_truncated_photo_with_a_whole_thumbnail_is_truncated(tmp_path, astronaut):
    content = write(tmp_path / "a.jpg", astronaut).read_bytes()
    thumbnail = write(tmp_path / "b.jpg", astronaut[:64, :64]).read_bytes()
    length = (len(thumbnail) + 2).to_bytes(2, "big")
    whole = content[:2] + b"\xff\xe1" + length + thumbnail + content[2:]
    (tmp_path / "whole.jpg").write_bytes(whole)
    assert photos.read_photo(tmp_path / "whole.jpg").shape == (512, 512, 3)
    for cut in (len(thumbnail) + 30, len(whole) // 2, len(whole) - 2):
        (tmp_path / "cut.jpg").write_bytes(whole[:cut])
        with pytest.raises(SourceError, match="a JPEG without its end"):
            photos.read_photo(tmp_path / "cut.jpg")


def test_a_jpeg_with_a_clip_behind_its_end_is_whole(tmp_path, astronaut):
    path = write(tmp_path / "motion.jpg", astronaut)
    path.write_bytes(path.read_bytes() + b"\0" * 9000)
    assert photos.read_photo(path).shape == astronaut.shape


def test_a_picture_of_over_100_megapixels_is_refused(tmp_path):
    path = write(tmp_path / "huge.png", np.zeros((10100, 10100), np.uint8))
    with pytest.raises(SourceError, match="over 100 megapixels"):
        photos.read_photo(path)
