"""Sources, and what each does with bad input."""

import itertools
from threading import Event

import pytest
from mien_edge.chain import camera, devices, sources
from mien_edge.errors import SourceError
from mien_edge.settings import SourceSettings


def opened(uri, **settings):
    return sources.open_source(SourceSettings(uri=str(uri), **settings), Event())


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
