"""Subtitles and annotation tiers: whole, in order, at the file's own positions."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from importlib.util import find_spec
from types import SimpleNamespace

import cv2
import pytest
from mien_edge import testing
from mien_edge.errors import SinkError
from mien_edge.export import elan, exports, parquet, subtitles
from mien_edge.export.textfile import Existing
from videos import VARIABLE, make_video, probe_times

FACE = testing.reading("happy")
SAD = testing.reading("sad", track=2)
UNSURE = testing.reading(None, track=2, quality="uncertain")
CLIP = [
    (0.0, ()),
    (0.5, (FACE,)),
    (0.6, (FACE, UNSURE)),
    (4.96, (FACE, SAD)),
    (4.96, (FACE, SAD)),
    (6.0, ()),
    (7.25, (SAD,)),
]
"""Positions in a video of a variable rate, in seconds, and who is seen from there on."""


def frame(position):
    return SimpleNamespace(position=position, source_time=position)


def camera_frame(seconds):
    return SimpleNamespace(position=None, source_time=1e9 + seconds)


def export(path, frames, **options):
    exporter = exports.open_timed(exports.Export.by_suffix(path), Existing.REFUSE, **options)
    for moment, readings in frames:
        exporter(moment, readings)
    exporter.close()
    return path


def clip(path, **options):
    return export(path, [(frame(position), readings) for position, readings in CLIP], **options)


def tiers(path):
    """Each tier's annotations as (start, end, text), in seconds."""
    root = ET.parse(path).getroot()
    slots = root.iterfind("TIME_ORDER/TIME_SLOT")
    seconds = {slot.get("TIME_SLOT_ID"): int(slot.get("TIME_VALUE")) / 1000 for slot in slots}
    return {
        tier.get("TIER_ID"): [
            (
                seconds[annotation.get("TIME_SLOT_REF1")],
                seconds[annotation.get("TIME_SLOT_REF2")],
                annotation.findtext("ANNOTATION_VALUE"),
            )
            for annotation in tier.iterfind("ANNOTATION/ALIGNABLE_ANNOTATION")
        ]
        for tier in root.iterfind("TIER")
    }


def test_subtitles_name_each_face_from_one_change_to_the_next(tmp_path):
    assert clip(tmp_path / "a.vtt").read_text() == (
        "WEBVTT\n\n"
        "00:00:00.500 --> 00:00:00.600\nface 1: happy\n\n"
        "00:00:00.600 --> 00:00:04.960\nface 1: happy\nface 2: (uncertain)\n\n"
        "00:00:04.960 --> 00:00:06.000\nface 1: happy\nface 2: sad\n\n"
        "00:00:07.250 --> 00:00:08.500\nface 2: sad\n\n"
    )
    srt = clip(tmp_path / "a.srt").read_text()
    assert srt.startswith("1\n00:00:00,500 --> 00:00:00,600\nface 1: happy\n\n2\n00:00:00,600 -->")
    assert srt.count(" --> ") == 4


def test_per_frame_each_frame_with_a_face_has_a_cue_that_ends_at_the_next(tmp_path):
    text = clip(tmp_path / "a.vtt", per_frame=True).read_text()
    starts = [line.split()[0][6:] for line in text.splitlines() if " --> " in line]
    assert starts == ["00.500", "00.600", "04.960", "07.250"]
    faces = export(
        tmp_path / "b.vtt", [(frame(i / 10), (FACE,)) for i in range(30)], per_frame=True
    )
    assert faces.read_text().count("face 1: happy") == 30


def test_elan_has_a_tier_per_face_and_the_link_to_the_video(tmp_path):
    (tmp_path / "out").mkdir()
    path = clip(tmp_path / "out" / "a.eaf", media=tmp_path / "a&b é.mp4")
    assert tiers(path) == {
        "face 1": [(0.5, 6.0, "happy")],
        "face 2": [(0.6, 4.96, "(uncertain)"), (4.96, 6.0, "sad"), (7.25, 8.5, "sad")],
    }
    media = ET.parse(path).find("HEADER/MEDIA_DESCRIPTOR").attrib
    assert media == {
        "MEDIA_URL": (tmp_path / "a&b é.mp4").as_uri(),
        "MIME_TYPE": "video/mp4",
        "RELATIVE_MEDIA_URL": "./../a%26b%20%C3%A9.mp4",
    }


def test_elan_has_the_elements_and_attributes_of_its_schema_in_their_order(tmp_path):
    root = ET.parse(clip(tmp_path / "a.eaf", media=tmp_path / "clip.mp4")).getroot()
    assert [child.tag for child in root] == [
        "HEADER", "TIME_ORDER", "TIER", "TIER", "LINGUISTIC_TYPE",
    ]  # fmt: skip
    assert {"AUTHOR", "DATE", "FORMAT", "VERSION"} < set(root.attrib)
    assert root.find("HEADER").attrib == {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"}
    slots = [int(slot.get("TIME_VALUE")) for slot in root.find("TIME_ORDER")]
    assert slots == sorted(slots)
    names = [item.get(f"{kind}_ID") for kind in ("TIME_SLOT", "ANNOTATION") for item in root.iter()]
    names = [name for name in names if name]
    assert len(names) == len(set(names)) == 3 * 4
    assert {tier.get("LINGUISTIC_TYPE_REF") for tier in root.iter("TIER")} == {
        root.find("LINGUISTIC_TYPE").get("LINGUISTIC_TYPE_ID")
    }


def test_elan_is_whole_on_disk_each_half_minute(tmp_path):
    now = [0.0]
    exporter = elan.ElanTiers(tmp_path / "a.eaf", None, False, monotonic=lambda: now[0])
    exporter(frame(0.0), (FACE,))
    exporter(frame(1.0), ())
    assert not (tmp_path / "a.eaf").exists()
    now[0] = 31.0
    exporter(frame(2.0), (SAD,))
    assert tiers(tmp_path / "a.eaf") == {"face 1": [(0.0, 1.0, "happy")]}


def test_a_cue_is_on_disk_as_soon_as_it_has_ended(tmp_path):
    exporter = exports.open_timed(exports.Export.by_suffix(tmp_path / "a.srt"), Existing.REFUSE)
    exporter(frame(0.0), (FACE,))
    exporter(frame(1.0), ())
    assert (tmp_path / "a.srt").read_text() == "1\n00:00:00,000 --> 00:00:01,000\nface 1: happy\n\n"
    exporter.close()


def test_a_camera_counts_from_its_first_frame_and_a_pause_shows_nobody(tmp_path):
    moments = [0.0, 0.1, 0.2, 600.0, 599.0, 600.1]
    path = export(tmp_path / "a.eaf", [(camera_frame(moment), (FACE,)) for moment in moments])
    assert tiers(path) == {"face 1": [(0.0, 0.3, "happy"), (600.0, 600.2, "happy")]}
    assert ET.parse(path).find("HEADER/MEDIA_DESCRIPTOR") is None
    path = export(tmp_path / "a.vtt", [(camera_frame(moment), (FACE,)) for moment in moments])
    assert path.read_text().count("-->") == 2


def test_a_video_without_a_face_leaves_an_empty_but_valid_file(tmp_path):
    assert export(tmp_path / "a.vtt", [(frame(0.0), ())]).read_text() == "WEBVTT\n\n"
    assert tiers(export(tmp_path / "a.eaf", [(frame(0.0), ())])) == {}
    assert subtitles.SRT.lines.header == export(tmp_path / "a.srt", []).read_text() == ""


@pytest.mark.parametrize("name", ["a.vtt", "a.srt", "a.eaf", "a.parquet"])
def test_what_cannot_be_continued_is_refused_also_with_append(tmp_path, name, monkeypatch):
    monkeypatch.setattr(parquet, "find_spec", bool)  # pyarrow or not
    (tmp_path / name).write_text("mine")
    export = exports.Export.by_suffix(tmp_path / name)
    with pytest.raises(
        SinkError, match=r"is there already; name another file, or replace it with --overwrite"
    ):
        exports.check([export], Existing.REFUSE)
    with pytest.raises(SinkError, match=r"of this format cannot be continued; .* --overwrite"):
        exports.check([export], Existing.APPEND)
    exports.check([export], Existing.OVERWRITE)
    assert (tmp_path / name).read_text() == "mine"


def test_a_full_disk_is_told_and_leaves_no_half_of_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(elan.ElanTiers, "_write_lines", full)
    with pytest.raises(SinkError, match=r"a\.eaf: cannot be written .*; free some space"):
        clip(tmp_path / "a.eaf")
    assert list(tmp_path.iterdir()) == []


def full(_, path):
    path.write_text("<")
    raise OSError(28, "No space left on device")


def test_photographs_and_several_videos_have_no_subtitles(tmp_path, astronaut):
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), astronaut)
    for names in ([tmp_path / "a.png"], [tmp_path], [tmp_path / "a.png", tmp_path / "b.png"]):
        result = run(*names, "--export", tmp_path / "a.vtt")
        assert (result.returncode, result.stdout) == (1, "")
        assert "a.vtt: is of a single video or a camera; name one, or a table" in result.stderr
    assert not (tmp_path / "a.vtt").exists()


def run(*arguments):
    command = [sys.executable, "-m", "mien_edge", "run", *map(str, arguments), "--quiet"]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_clip_of_a_variable_rate_has_ffprobes_times_in_every_export(tmp_path, astronaut):
    cv2.imwrite(str(tmp_path / "face.png"), cv2.resize(astronaut[:300, 100:400], (160, 160)))
    recipe = [*VARIABLE, "-pix_fmt", "yuv420p"]
    clip = make_video(tmp_path / "clip.mp4", recipe, tmp_path / "face.png")
    times = [round(time, 3) for time in probe_times(clip)]
    names = ["a.csv", "a.jsonl", "a.vtt", "a.srt", "a.eaf"]
    names += ["a.parquet"] if find_spec("pyarrow") else []
    options = [word for name in names for word in ("--export", tmp_path / name)]
    result = run(clip, "--per", "frame", *options)
    assert result.returncode == 0, result.stderr
    assert len(times) == 40
    annotations = tiers(tmp_path / "a.eaf")["face 1"]
    assert [start for start, _, _ in annotations] == times
    assert [end for _, end, _ in annotations][:-1] == times[1:]
    for name in ("a.vtt", "a.srt"):
        cues = [line for line in (tmp_path / name).read_text().splitlines() if " --> " in line]
        assert [float(cue.split()[0][6:].replace(",", ".")) for cue in cues] == times
    rows = (tmp_path / "a.csv").read_text().splitlines()[1:]
    assert [float(row.split(",")[2]) for row in rows] == times
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    assert [json.loads(line)["position"] for line in lines] == times
    if "a.parquet" in names:
        from pyarrow.parquet import read_table

        assert read_table(tmp_path / "a.parquet")["position"].to_pylist() == times
