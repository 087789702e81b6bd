"""Video files: the times of their frames, and what is said of a damaged one."""

import subprocess
from itertools import pairwise
from threading import Event

import cv2
import numpy as np
import pytest
from mien_edge.chain import sources
from mien_edge.chain.containers import missing_bytes
from mien_edge.chain.video import Video
from mien_edge.errors import SourceError
from mien_edge.settings import SourceSettings
from videos import VARIABLE, make_video, probe_times


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


X264 = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-bf", "2"]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("b-frames.mp4", [*VARIABLE, *X264]),
        ("clip.mkv", [*VARIABLE, *X264]),
        ("clip.mov", [*VARIABLE, *X264]),
        ("clip.webm", [*VARIABLE, "-c:v", "libvpx", "-deadline", "realtime"]),
        ("clip.gif", VARIABLE),
        ("constant.avi", ["-c:v", "mjpeg"]),
        ("offset.mkv", ["-vf", "setpts=PTS+100/TB", *X264]),
        ("offset.mp4", ["-output_ts_offset", "100", *X264]),
        ("late.ts", X264),
        ("fragments.mp4", [*VARIABLE, *X264, "-movflags", "frag_keyframe+empty_moov"]),
    ],
)
def test_positions_are_the_containers_own_time_stamps(tmp_path, caplog, name, options):
    path = make_video(tmp_path / name, options)
    times = probe_times(path)
    source = Video(path)
    positions = [frame.position for frame in source]
    assert positions == pytest.approx([time - times[0] for time in times], abs=2e-6)
    assert len(positions) == 40
    assert (source.skipped, source.failed_reads, caplog.text) == (0, 0, "")


def test_a_trimmed_clip_of_a_phone_begins_where_it_was_trimmed_and_is_whole(tmp_path, caplog):
    whole = make_video(tmp_path / "whole.mp4", [*X264, "-g", "30"])
    path = tmp_path / "trimmed.mp4"  # an edit list: half of a group of pictures is not shown
    copy = ["ffmpeg", "-loglevel", "error", "-ss", "0.5", "-i", whole, "-c", "copy", path]
    subprocess.run(copy, check=True)
    times = probe_times(path)
    source = opened(path)
    positions = [frame.position for frame in source]
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT) > len(positions) == len(times)
    assert positions == pytest.approx([time - times[0] for time in times], abs=2e-6)
    assert (source.skipped, source.failed_reads, caplog.text) == (0, 0, "")


def test_frames_without_a_time_stamp_follow_at_the_files_rate(tmp_path):
    raw = make_video(tmp_path / "clip.h264", X264)
    positions = [frame.position for frame in opened(raw)]
    assert positions == pytest.approx([index / Video(raw).fps for index in range(40)])
    held_back = make_video(tmp_path / "clip.avi", ["-c:v", "mpeg4", "-bf", "2"])
    positions = [frame.position for frame in opened(held_back)]
    steps = [second - first for first, second in pairwise(positions)]
    assert steps == pytest.approx([1 / 30] * 39)


def test_no_frame_is_read_in_the_future(tmp_path):
    clock = iter(range(1000))
    path = write_clip(tmp_path / "clip.avi")
    before = next(clock)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mien_edge.chain.video.time.time", lambda: float(next(clock)))
        assert [frame.captured_at for frame in opened(path)] == [before + i for i in range(1, 7)]


@pytest.mark.parametrize(
    ("name", "options", "fps"),
    [
        ("constant.mp4", X264, 30),
        ("constant.mkv", X264, 30),
        ("variable.mp4", [*VARIABLE, *X264], 30),
        ("variable.mkv", [*VARIABLE, *X264], 30.3),
    ],
)
def test_a_copy_of_a_constant_rate_has_room_for_every_picture(tmp_path, name, options, fps):
    path = make_video(tmp_path / name, options)
    assert Video(path).fps == pytest.approx(fps, abs=0.4)


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
    assert f"clip.avi: cut off at {end}, at least {missing} bytes are missing" in caplog.text


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("clip.mp4", ["-movflags", "+faststart"]),
        ("clip.mov", ["-movflags", "+faststart"]),
        ("clip.mkv", []),
        ("clip.webm", ["-c:v", "libvpx", "-deadline", "realtime"]),
        ("clip.avi", ["-c:v", "mjpeg"]),
    ],
)
def test_a_container_says_how_many_bytes_it_lacks(tmp_path, name, options):
    path = make_video(tmp_path / name, options)
    assert missing_bytes(path) == 0
    content = path.read_bytes()
    path.write_bytes(content[:-500])
    assert missing_bytes(path) == 500


def test_a_video_without_its_index_is_told_to_be_cut_off(tmp_path):
    path = make_video(tmp_path / "clip.mp4", X264)  # its index stands at the end
    content = path.read_bytes()
    index = content.index(b"moov") - 4
    for size, missing in ((index, 8), (index - 300, 300)):
        path.write_bytes(content[:size])
        with pytest.raises(SourceError, match=f"cut off, at least {missing} bytes are missing"):
            opened(path)


def test_what_lies_behind_a_damaged_place_is_read_and_the_place_is_named(tmp_path, caplog):
    path = make_video(tmp_path / "clip.avi", ["-c:v", "mjpeg", "-q:v", "2"])
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    starts = [content.find(b"\xff\xd8\xff", middle)]
    starts.append(content.find(b"\xff\xd8\xff", starts[0] + 100))
    for start in starts:
        content[start : start + 600] = b"\x55" * 600
    path.write_bytes(content)
    source = opened(path)
    positions = [frame.position for frame in source]
    assert 36 <= len(positions) < 40
    assert positions[-1] == pytest.approx(39 / 30)
    assert source.failed_reads == 1
    (place,) = [time for time, after in pairwise(positions) if after - time > 0.04]
    assert f"clip.avi: damaged after 0:0{place:.2f}; what lies behind is read" in caplog.text


def test_a_file_that_is_no_video_is_an_error(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"nothing" * 100)
    with pytest.raises(SourceError, match="not a video"):
        opened(tmp_path / "clip.mp4")


def test_a_video_of_which_nothing_can_be_decoded_is_an_error(tmp_path):
    path = make_video(tmp_path / "clip.mp4", X264)
    content = path.read_bytes()
    start = content.index(b"mdat") + 4
    end = content.index(b"moov") - 4
    path.write_bytes(content[:start] + bytes(end - start) + content[end:])
    with pytest.raises(SourceError, match="no picture in it can be decoded"):
        list(opened(path))
