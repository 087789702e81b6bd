"""Video files: the times of their frames, and what is said of a damaged one."""

from threading import Event

import cv2
import numpy as np
import pytest
from mien_edge.chain import sources
from mien_edge.errors import SourceError
from mien_edge.settings import SourceSettings


def opened(path):
    return sources.open_source(SourceSettings(uri=str(path)), Event())


def write_clip(path, count=6, size=(64, 48)):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, size)
    for i in range(count):
        writer.write(np.full((size[1], size[0], 3), i * 40 % 256, np.uint8))
    writer.release()
    return path


def test_a_video_yields_every_frame_with_its_file_and_position(tmp_path):
    frames = list(opened(write_clip(tmp_path / "clip.avi")))
    assert [frame.index for frame in frames] == list(range(6))
    assert {frame.name for frame in frames} == {"clip.avi"}
    assert [round(frame.position, 3) for frame in frames] == [0, 0.1, 0.2, 0.3, 0.4, 0.5]


def test_a_video_that_was_cut_off_is_read_and_named_with_where_it_ends(tmp_path, caplog):
    path = write_clip(tmp_path / "clip.avi", 40)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    source = opened(path)
    frames = len(list(source))
    assert 0 < frames < 40
    assert (source.skipped, source.failed_reads) == (0, 1)
    missing = len(content) - len(content) // 2
    end = f"0:0{(frames - 1) / 10:.2f}"
    assert f"clip.avi: cut off at {end}, {missing} bytes are missing" in caplog.text


def test_a_file_that_is_no_video_is_an_error(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"nothing" * 100)
    with pytest.raises(SourceError, match="not a video"):
        opened(tmp_path / "clip.mp4")
