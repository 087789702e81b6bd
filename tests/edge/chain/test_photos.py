"""Photographs and folders of them, and what becomes of bad ones."""

import errno
import os
import socket
import sys
from pathlib import Path
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
    (tmp_path / "notes.txt").write_text("left out")
    source = opened(tmp_path)
    assert [frame.name for frame in source] == ["b.jpg"]
    assert source.skipped == 3
    assert "a.jpg: a JPEG without its end" in caplog.text
    assert "d.png: an empty file" in caplog.text
    assert "1 (" in caplog.text  # notes.txt


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


def jpeg(image, *parameters):
    return cv2.imencode(".jpg", image, parameters)[1].tobytes()


def jpegs(image):
    """JPEGs of every kind, and how long the first picture in each is."""
    plain = jpeg(image)
    small = jpeg(image[:64, :64])
    yield plain, len(plain)
    yield jpeg(image, cv2.IMWRITE_JPEG_PROGRESSIVE, 1), None
    yield jpeg(image, cv2.IMWRITE_JPEG_RST_INTERVAL, 4), None
    yield jpeg(image[..., 0]), None
    yield plain[:-2] + b"\xff\xff\xff" + plain[-2:], None  # fill bytes before the end marker
    yield plain[:2] + b"\xff" * 9 + plain[2:], None
    yield plain[:2] + b"\xff\xfe\x00\x04\xff\xd9" + plain[2:], None  # an end marker in a comment
    yield plain + small, len(plain)  # a gain map, or the second picture of a multi-picture file


TAILS = [
    b"", b"\0" * 9000, b"\xff" * 9000, b"\xff\xd9", b"\xff\xd8", b"SEFH", b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 99,
]  # fmt: skip


@pytest.mark.parametrize("kind", range(8))
def test_a_whole_jpeg_is_read_whatever_is_behind_it_and_a_truncated_one_is_not(
    tmp_path, astronaut, kind
):
    content, length = list(jpegs(astronaut))[kind]
    path = tmp_path / "a.jpg"
    for tail in TAILS:
        path.write_bytes(content + tail)
        assert photos.read_photo(path).shape[:2] == (512, 512)
    length = length or len(content)
    for cut in (2, 30, length // 3, length - 1):
        tails = [b"", b"\0" * 9000]  # padding where its end was, or another file of the card
        tails += [content] if cut > 1000 else []
        for tail in tails:
            path.write_bytes(content[:cut] + tail)
            with pytest.raises(SourceError, match="a JPEG without its end"):
                photos.read_photo(path)


SUFFIXES = [
    ".avif",
    ".bmp",
    ".gif",
    ".jfif",
    ".jp2",
    ".jpe",
    ".png",
    ".ppm",
    ".tiff",
    ".webp",
    "",
]


def written(folder, image):
    """The same picture in every format, by its usual suffix and none; their names in order."""
    for suffix in SUFFIXES:
        real = {".jfif": ".jpg", ".jpe": ".jpg", "": ".png"}.get(suffix, suffix)
        write(folder / f"x{real}", image).rename(folder / f"a{suffix}")
    return sorted(f"a{suffix}" for suffix in SUFFIXES)


def test_a_folder_yields_every_picture_that_is_read_when_it_is_named(tmp_path, astronaut):
    names = written(tmp_path, astronaut)
    assert [frame.name for frame in opened(tmp_path)] == names
    for name in names:
        assert [frame.name for frame in opened(tmp_path / name)] == [name]


def test_a_folder_is_read_with_its_sub_folders_and_without_what_other_systems_leave_there(
    tmp_path, astronaut, caplog
):
    for name in (
        "b.jpg",
        "sub/b.jpg",
        "sub/a.jpg",
        "__MACOSX/b.jpg",
        ".trash/b.jpg",
        "@eaDir/b.jpg",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, astronaut)
    for name in ("._b.jpg", ".DS_Store", "Thumbs.db", "desktop.ini", "labels.csv"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7 no picture")
    source = opened(tmp_path)
    assert [frame.name for frame in source] == ["b.jpg", "sub/a.jpg", "sub/b.jpg"]
    assert (source.skipped, caplog.text) == (0, "")


def test_several_paths_and_patterns_are_one_source_whose_names_differ(tmp_path, astronaut):
    for name in ("one/a.jpg", "two/a.jpg", "two/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, astronaut)
    names = [
        str(tmp_path / "two/*.png"),
        str(tmp_path / "one"),
        str(tmp_path / "two"),
        str(tmp_path / "one" / "a.jpg"),
    ]
    source = sources.open_files(names)
    assert [frame.name for frame in source] == ["two/b.png", "one/a.jpg", "two/a.jpg"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path, astronaut):
    write(tmp_path / "a[1].jpg", astronaut)
    assert [frame.name for frame in opened(tmp_path / "a[1].jpg")] == ["a[1].jpg"]


def test_what_matches_nothing_and_a_camera_among_files_are_errors(tmp_path):
    with pytest.raises(SourceError, match="matches no file"):
        sources.open_files([str(tmp_path / "*.heic")])
    for name in ("picamera", "v4l2:0", "demo", "rtsp://me:geheim@cam/x"):
        with pytest.raises(SourceError, match="is read alone") as refused:
            sources.open_source(SourceSettings(), Event(), names=[str(tmp_path), name])
        assert "geheim" not in str(refused.value)


def test_a_pipe_a_socket_and_a_device_hang_nothing(tmp_path, astronaut, caplog):
    os.mkfifo(tmp_path / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.mp4"))
        for path, kind in (
            (tmp_path / "pipe.jpg", "a pipe"),
            (tmp_path / "socket.mp4", "a socket"),
            ("/dev/null", "a device"),
        ):
            with pytest.raises(SourceError, match=f"{path}: {kind}, not a file"):
                opened(path)
        write(tmp_path / "a.jpg", astronaut)
        assert [frame.name for frame in opened(tmp_path)] == ["a.jpg"]
        assert [frame.name for frame in opened(tmp_path / "*")] == ["a.jpg"]
    assert caplog.text.count("left out, neither picture nor video: 2 (") == 2


def test_links_that_lead_nowhere_or_round_in_a_circle_are_skipped(tmp_path, astronaut):
    write(tmp_path / "a.jpg", astronaut)
    (tmp_path / "b.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "c.jpg").symlink_to("c.jpg")
    (tmp_path / "sub").symlink_to(tmp_path)
    source = opened(tmp_path)
    assert [frame.name for frame in source] == ["a.jpg"]
    assert source.skipped == 2


def test_a_file_that_may_not_be_read_is_told_as_such(tmp_path, monkeypatch):
    def refuse(path, mode):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    names = ("a.jpg", "clip.mp4", "noext")
    for name in names:
        (tmp_path / name).touch()
    monkeypatch.setattr(Path, "open", refuse)  # root may read every file
    for name in names:
        with pytest.raises(SourceError, match=r"cannot be read \(Permission denied\)"):
            opened(tmp_path / name)


def test_a_source_of_which_nothing_can_be_read_is_an_error(tmp_path, astronaut):
    (tmp_path / "a.jpg").write_bytes(jpeg(astronaut)[:900])
    with pytest.raises(SourceError, match=r"a\.jpg: a JPEG without its end"):
        list(opened(tmp_path / "a.jpg"))
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(SourceError, match="none of 2 files could be read"):
        list(opened(tmp_path))


def test_a_mixed_folder_yields_photographs_and_the_frames_of_its_videos(tmp_path, astronaut):
    write(tmp_path / "c.jpg", astronaut)
    for name in ("b.avi", "d.avi"):
        writer = cv2.VideoWriter(
            str(tmp_path / name), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48)
        )
        for _ in range(3):
            writer.write(astronaut[:48, :64])
        writer.release()
    (tmp_path / "e.mp4").write_bytes(b"nothing" * 100)
    source = opened(tmp_path)
    assert [(frame.name, frame.index) for frame in source] == [
        ("b.avi", 0), ("b.avi", 1), ("b.avi", 2), ("c.jpg", 1), ("d.avi", 0), ("d.avi", 1), ("d.avi", 2),
    ]  # fmt: skip
    assert source.skipped == 1


def test_of_an_animation_the_first_picture_is_read_and_one_line_says_so(
    tmp_path, astronaut, caplog
):
    animation = cv2.Animation()
    animation.frames = [astronaut[:64, :64], astronaut[:64, :64] // 2]
    animation.durations = np.array([100, 100])
    assert cv2.imwriteanimation(str(tmp_path / "a.gif"), animation)
    (frame,) = opened(tmp_path / "a.gif")
    assert abs(frame.image.mean() - astronaut[:64, :64].mean()) < 5
    assert "the first of 2 pictures is read" in caplog.text


def test_a_heic_picture_is_read_upright_by_an_optional_library(tmp_path, astronaut):
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra heic is not installed")
    rgb = cv2.cvtColor(np.rot90(astronaut), cv2.COLOR_BGR2RGB)
    picture = pillow_heif.from_bytes("RGB", (512, 512), rgb.tobytes())
    turned = b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"
    picture.save(tmp_path / "a.heic", exif=turned, quality=90)
    (frame,) = opened(tmp_path)
    assert np.abs(frame.image.astype(int) - astronaut).mean() < 5
    content = (tmp_path / "a.heic").read_bytes()
    (tmp_path / "a.heic").write_bytes(content[: len(content) // 2])
    with pytest.raises(SourceError, match="a HEIC picture that cannot be read"):
        list(opened(tmp_path))


def test_without_that_library_one_line_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99))
    with pytest.raises(
        SourceError, match=r"IMG_1.HEIC: a HEIC picture, .* pip install pillow-heif"
    ):
        list(opened(tmp_path))
