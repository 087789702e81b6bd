"""One run of the service: what it opens, what it tells, and in which order it closes."""

import contextlib
import csv
import dataclasses
import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from types import BuiltinFunctionType

import cv2
import numpy as np
import pytest
from helpers import clean_environment, until
from mien_edge import files, paths, testing
from mien_edge.chain import reach, sources
from mien_edge.errors import RuntimeMissingError, SinkError, SourceError
from mien_edge.model.bundle import shipped_bundle
from mien_edge.progress import ProgressLines
from mien_edge.service import run
from mien_edge.service.preview import PreviewServer
from mien_edge.service.run import (
    Events,
    RunOptions,
    Service,
    Summary,
    build_chain,
    load_model,
)
from mien_edge.settings import (
    DetectSettings,
    LogSettings,
    Settings,
    SinkSettings,
    SourceSettings,
    ViewSettings,
)
from mien_edge.update.record import ProbationProgress
from mien_edge.values import Frame
from stores import commit, store


@pytest.fixture
def model(bundle):
    return load_model(Settings(), bundle)


def demo():
    return sources.Demo(15, paced=False)


class Failing:
    """A source whose camera is pulled out after one frame."""

    paths = ()
    live = False
    skipped = 0

    def __iter__(self):
        yield Frame(np.zeros((60, 80), np.uint8), 0, 0.0)
        raise SourceError("pulled out; plug it in again")


class Full(testing.Capture):
    """A sink on a full disk."""

    def __call__(self, readings):
        raise SinkError("readings.csv: cannot be written; free some space")


def test_settings_choose_the_files_that_readings_are_written_to(model, tmp_path):
    sinks = SinkSettings(jsonl=str(tmp_path / "r.jsonl"), csv=str(tmp_path / "r.csv"))
    settings = Settings(sinks=sinks)
    summary = Service(settings, model, RunOptions(max_frames=5), source=demo()).run()
    lines = (tmp_path / "r.jsonl").read_text().splitlines()
    with (tmp_path / "r.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert len(lines) == len(rows) == summary.readings > 0
    assert json.loads(lines[0])["label"] == rows[0]["label"]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class Looking(testing.Capture):
    """A sink that looks at a folder at each frame."""

    def __init__(self, folder):
        super().__init__()
        self.folder, self.names = folder, []

    def __call__(self, readings):
        super().__call__(readings)
        self.names.append(names(self.folder))


def test_status_and_preview_exist_only_between_the_events_start_and_stop(model, tmp_path):
    events, at_end, runtime = Events(), {}, tmp_path / "run"
    runtime.mkdir()
    events.add(lambda kind, text: at_end.update({kind: names(tmp_path)}))
    sink = Looking(tmp_path)
    options = RunOptions(max_frames=2, runtime_folder=runtime)
    Service(Settings(), model, options, source=demo(), events=events, sinks=[sink]).run()
    assert sink.names == [["run", "run-preview"]] * 2
    assert list(at_end) == ["start", "stop"]
    assert at_end["stop"] == ["run"]
    assert names(runtime) == []


def test_where_the_picture_is_forbidden_there_is_no_socket_for_it(model, tmp_path):
    runtime = tmp_path / "run"
    runtime.mkdir()
    sink = Looking(tmp_path)
    settings = Settings(view=ViewSettings(show_picture=False))
    options = RunOptions(max_frames=2, runtime_folder=runtime)
    Service(settings, model, options, source=demo(), sinks=[sink]).run()
    assert sink.names == [["run"]] * 2


def test_what_a_group_may_read_of_the_runtime_folder_is_no_picture(model, tmp_path):
    runtime = tmp_path / "run"
    runtime.mkdir()
    sink = Looking(runtime)
    options = RunOptions(max_frames=2, runtime_folder=runtime)
    Service(Settings(), model, options, source=demo(), sinks=[sink]).run()
    assert sink.names == [["service.lock", "status.json"]] * 2


def test_a_preview_folder_that_nobody_has_made_is_for_the_own_user_alone(tmp_path):
    path = paths.preview(tmp_path / "run")
    preview = PreviewServer(path)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    preview.close()
    assert names(tmp_path) == []


def test_a_preview_folder_that_is_there_stays_as_it_is(tmp_path):
    path = paths.preview(tmp_path / "run")
    path.parent.mkdir(mode=0o750)
    PreviewServer(path).close()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750
    assert names(path.parent) == []


def test_a_preview_that_cannot_be_costs_the_picture_and_no_frame(model, tmp_path, caplog):
    runtime = tmp_path / "run"
    runtime.mkdir()
    paths.preview(runtime).parent.touch()
    options = RunOptions(max_frames=2, runtime_folder=runtime)
    assert Service(Settings(), model, options, source=demo()).run().frames == 2
    assert "no live picture" in caplog.text


def test_opencv_has_as_many_threads_as_the_settings_say(model):
    count = cv2.getNumThreads()
    try:
        build_chain(Settings(detect=DetectSettings(threads=2)), model)
        assert cv2.getNumThreads() == 2
        build_chain(Settings(), model)
        assert cv2.getNumThreads() == 1
    finally:
        cv2.setNumThreads(count)


def test_the_detector_has_the_size_that_the_farthest_face_needs(model):
    far = Settings(detect=DetectSettings(max_distance=3.0, interval=0.0))
    detector = build_chain(far, model).detect
    assert detector.settings.size == reach.detector_size(far) > far.detect.size


def kinds(log):
    with contextlib.closing(sqlite3.connect(log)) as connection:
        return [kind for (kind,) in connection.execute("SELECT kind FROM events ORDER BY id")]


def test_a_failed_run_is_told_as_such_and_every_sink_is_closed(model, tmp_path):
    capture, log = testing.Capture(), tmp_path / "r.db"
    service = Service(Settings(), model, RunOptions(log=log), source=Failing(), sinks=[capture])
    with pytest.raises(SourceError, match="pulled out"):
        service.run()
    assert capture.closed
    assert kinds(log) == ["start", "failed"]


def test_a_sink_that_fails_ends_the_run_and_closes_the_others(model):
    capture = testing.Capture()
    service = Service(Settings(), model, source=demo(), sinks=[capture, Full()])
    with pytest.raises(SinkError, match="free some space"):
        service.run()
    assert capture.closed


def test_a_service_has_its_log_in_its_state_folder_unless_the_settings_name_another(
    model, tmp_path
):
    options = RunOptions(max_frames=1, state_folder=tmp_path / "state")
    Service(Settings(), model, options, source=demo()).run()
    assert kinds(tmp_path / "state" / "readings.db") == ["start", "stop"]
    settings = Settings(log=LogSettings(path=str(tmp_path / "other.db")))
    Service(settings, model, options, source=demo()).run()
    assert kinds(tmp_path / "other.db") == ["start", "stop"]
    assert names(tmp_path / "state") == ["readings.db"]


def test_events_of_a_recovered_store_are_in_the_log_before_the_start(model, tmp_path):
    log = tmp_path / "r.db"
    recovery = [("rolled back", "small-2: the service ended during its probation")]
    options = RunOptions(max_frames=1, log=log)
    Service(Settings(), model, options, recovery=recovery, source=demo()).run()
    assert kinds(log) == ["rolled back", "start", "stop"]


def test_a_service_without_a_store_survives_sighup(model, tmp_path):
    sent = []

    class Reloaded(testing.Capture):
        def __call__(self, readings):
            if not sent:
                sent.append(os.kill(os.getpid(), signal.SIGHUP))
            super().__call__(readings)

    before = signal.getsignal(signal.SIGHUP)
    capture = Reloaded()
    options = RunOptions(max_frames=3, runtime_folder=tmp_path)
    Service(Settings(), model, options, source=demo(), sinks=[capture]).run()
    assert len(capture.frames) == 3
    assert signal.getsignal(signal.SIGHUP) == before


@pytest.fixture
def service(tmp_path):
    """The real service in a process of its own, and how many frames it has passed."""
    environment = clean_environment()
    for name in ("models", "state", "run"):
        (tmp_path / name).mkdir()
    environment["MIEN_MODELS"] = str(tmp_path / "models")
    environment["STATE_DIRECTORY"] = str(tmp_path / "state")
    environment["RUNTIME_DIRECTORY"] = str(tmp_path / "run")
    command = [sys.executable, "-P", "-m", "mien_edge", "run", "demo:forever", "--quiet"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)

    def frames():
        try:
            return json.loads((tmp_path / "run" / "status.json").read_text())["frames"]
        except FileNotFoundError:
            return 0

    until(lambda: frames() > 0)
    yield process, frames
    process.kill()
    process.wait()


def test_a_flood_of_signals_ends_no_service_and_one_sigterm_does(service):
    process, frames = service
    for _ in range(20_000):
        process.send_signal(signal.SIGHUP)
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE):
        process.send_signal(number)
    before = frames()
    until(lambda: frames() > before)
    for _ in range(1000):
        process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    for _ in range(1000):
        process.send_signal(signal.SIGHUP)
    assert process.wait() == 0


def test_a_handler_of_sighup_runs_no_python_code(model, tmp_path):
    """Python code in a handler can be interrupted by the next signal, as deep as the stack goes."""
    handlers = []

    class Asked(testing.Capture):
        def __call__(self, readings):
            handlers.append(signal.getsignal(signal.SIGHUP))

    options = RunOptions(max_frames=1, runtime_folder=tmp_path)
    Service(Settings(), model, options, source=demo(), sinks=[Asked()]).run()
    assert isinstance(handlers[0], BuiltinFunctionType)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The store of the service whose state folder is `tmp_path`; nothing is installed."""
    monkeypatch.setenv("MIEN_MODELS", str(tmp_path / "models"))
    return store(tmp_path / "models")


@pytest.fixture
def suspended(place, bundle):
    """That store, with a bundle on probation whose service has ended in order."""
    place.request(place.install(bundle.folder))
    place.promote()
    place.suspend_probation(ProbationProgress(bundle.card.id, 90.0, {"happy/sad": 3}))
    return place


def test_a_start_verifies_its_bundle_once(bundle, place, tmp_path, monkeypatch):
    commit(place, bundle.folder)
    digests = []
    sha256 = files.sha256
    monkeypatch.setattr(files, "sha256", lambda path: digests.append(path.name) or sha256(path))
    service = Service.from_settings(Settings(), RunOptions(state_folder=tmp_path))
    assert service.model.name == bundle.card.id
    assert sorted(digests) == ["golden.npz", "model.tflite"]


def test_a_sigterm_while_the_model_is_loaded_keeps_a_probation(suspended, tmp_path, monkeypatch):

    def terminated(*_):
        os.kill(os.getpid(), signal.SIGTERM)
        return model

    monkeypatch.setattr(run, "load_model", terminated)
    with pytest.raises(SystemExit):
        Service.from_settings(Settings(), RunOptions(state_folder=tmp_path))
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert suspended.recover().probation.faces == 3


def test_a_camera_that_is_missing_at_a_start_does_not_end_a_probation(suspended, tmp_path):
    settings = Settings(source=SourceSettings(uri=str(tmp_path / "no-camera.mp4")))
    options = RunOptions(state_folder=tmp_path)
    for _ in range(3):
        service = Service.from_settings(settings, options)
        assert service.progress.faces == 3
        with pytest.raises(SourceError):
            service.run()
    assert suspended.state().on_probation


def test_a_bundle_that_is_taken_at_a_start_without_a_camera_is_not_undone(bundle, place, tmp_path):
    place.request(place.install(bundle.folder))
    settings = Settings(source=SourceSettings(uri=str(tmp_path / "no-camera.mp4")))
    for _ in range(3):
        with pytest.raises(SourceError):
            Service.from_settings(settings, RunOptions(state_folder=tmp_path)).run()
    assert place.state().on_probation


def test_whatever_ends_a_service_before_its_first_frame_undoes_no_probation(
    suspended, tmp_path, monkeypatch
):
    """A kill while the camera is opened, a log that cannot be opened, a package that is missing."""
    options = RunOptions(state_folder=tmp_path, log=tmp_path)

    def missing(*_):
        raise RuntimeMissingError("no interpreter")

    Service.from_settings(Settings(), options)  # killed
    with pytest.raises(SinkError):
        Service.from_settings(Settings(), options).run()
    monkeypatch.setattr(run, "load_model", missing)
    with pytest.raises(RuntimeMissingError):
        Service.from_settings(Settings(), options)
    assert suspended.recover().probation.faces == 3


def test_a_service_starts_with_the_bundle_of_its_store(bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("MIEN_MODELS", str(tmp_path / "models"))
    (tmp_path / "models").mkdir()
    options = RunOptions(state_folder=tmp_path)
    service = Service.from_settings(Settings(), options)
    assert service.store is not None
    assert service.model.bundle.folder == shipped_bundle().resolve()
    named = dataclasses.replace(Settings().model, bundle=str(bundle.folder))
    assert Service.from_settings(Settings(model=named), options).store is None


def test_a_summary_names_no_password(model):
    settings = Settings(source=SourceSettings(uri="rtsp://me:secret@camera/1"))
    summary = Service(settings, model, RunOptions(max_frames=1), source=demo()).run()
    assert "secret" not in summary.source


def test_a_summary_is_one_sentence_and_json_without_what_is_not_there():
    summary = Summary("demo", "edge-1", 30, 1, 20, 2, 2.0)
    assert str(summary) == (
        "30 frames in 2.0 s (15.0 fps), 1 skipped, 20 readings of 2 faces, model edge-1"
    )
    assert "score" not in summary.as_dict()
    scored = dataclasses.replace(summary, score={"accuracy": 1.0})
    assert scored.as_dict()["score"] == {"accuracy": 1.0}


def test_a_long_file_says_how_far_it_is():
    ticks = iter(range(0, 1000, 20))
    printed = []
    lines = ProgressLines(
        "clip.mp4", "frames", monotonic=lambda: float(next(ticks)), write=printed.append
    )
    shown = run._FileProgress(lines)
    for index in range(4):
        shown(Frame(np.zeros((8, 8, 3), np.uint8), index, 0.0, position=600.0 + index), ())
    assert printed == [
        "clip.mp4: 2 frames in 0:40, at 10:01.00\n",
        "clip.mp4: 4 frames in 1:20, at 10:03.00\n",
    ]
