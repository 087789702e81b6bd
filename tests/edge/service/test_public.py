"""With the purpose public no reading of a single face is kept on the device, or leaves it by any way."""

import contextlib
import dataclasses
import json
import sqlite3
import time

import numpy as np
import pytest
from mien_edge import cli, paths, testing
from mien_edge.chain import sources
from mien_edge.errors import SettingsError, SinkError
from mien_edge.export.exports import SUFFIXES, Export
from mien_edge.labels import LABELS
from mien_edge.log.writer import LogWriter
from mien_edge.publish.outbox import Cursor, Outbox
from mien_edge.publish.prometheus import Collector
from mien_edge.publish.publisher import Publisher
from mien_edge.service.run import RunOptions, Service, load_model
from mien_edge.service.status_writer import StatusWriter
from mien_edge.settings import (
    LogSettings,
    PublishSettings,
    Settings,
    SinkSettings,
    UpdateSettings,
    UseSettings,
    ViewSettings,
    parse_settings,
)
from mien_edge.status import status_file, summary
from mien_edge.update.record import ProbationProgress
from mien_edge.update.updater import Updater
from mien_edge.values import Frame
from mien_edge.view.server import _Page
from stores import store

PUBLIC = UseSettings("public")
PAIR = Settings(use=PUBLIC, publish=PublishSettings(host="127.0.0.1", min_faces=2))


class Crowd:
    """Frames of the demo's photograph, side by side so many times, a second apart."""

    live = False
    paths = ()
    skipped = 0

    def __init__(self, people, frames):
        photograph = next(iter(sources.Demo(15, paced=False))).image
        self.image = np.hstack([photograph[:400]] * people)
        self.frames = frames
        self.start = (time.time() // 60 - 30) * 60
        self.seen = []

    def __iter__(self):
        for index in range(self.frames):
            yield Frame(self.image, self.start + index, index)


class Places:
    """The folders of a service, and what it wrote there while it ran."""

    def __init__(self, folder):
        self.state = folder / "state"
        self.runtime = folder / "run"
        for path in (self.state, self.runtime):
            path.mkdir()
        self.log = self.state / paths.LOG_NAME
        self.seen = []
        self.statuses = []

    def serve(self, settings, model, crowd, **options):
        """Run the service over a crowd; after each frame look at its status as the page does."""
        page = _Page(settings.view, self.log, self.runtime, is_beside_run=False)

        def look(readings):
            self.seen += readings
            self.statuses.append(json.dumps(page._status()))

        look.close = lambda: None
        run_options = RunOptions(state_folder=self.state, runtime_folder=self.runtime, **options)
        Service(settings, model, run_options, source=crowd, sinks=[look]).run()

    def rows(self, query):
        with contextlib.closing(sqlite3.connect(self.log)) as connection:
            return connection.execute(query).fetchall()


@pytest.fixture
def model(bundle):
    return load_model(Settings(), bundle)


@pytest.fixture
def places(tmp_path):
    return Places(tmp_path)


def test_a_service_for_a_public_place_keeps_and_shows_minutes_of_groups_alone(
    places, model, capsys, monkeypatch, tmp_path
):
    """Asked by SQL, and at each way out: status, page, broker, Prometheus, `logs`, the terminal."""
    places.serve(PAIR, model, Crowd(2, 70), console="text")
    assert len({reading.track for reading in places.seen}) == 2, "the chain has read two faces"
    assert places.rows("SELECT COUNT(*) FROM readings") == [(0,)]
    assert places.rows("SELECT MIN(faces) FROM minutes WHERE label = ''")[0][0] >= 2
    assert all(label not in text for label in LABELS for _, text in _events(places))
    assert len(places.statuses) > 60
    for text in places.statuses:
        status = json.loads(text)
        assert status.get("faces", []) == []
        assert status["runs"] is False or status["minutes_only"] is True
        for key in (
            "labels",
            "colours",
            "unreliable_labels",
        ):  # what the model can say, not what it says of somebody
            status.pop(key, None)
        assert not any(label in json.dumps(status) for label in LABELS)
    assert not paths.preview(places.runtime).exists()
    assert sorted(path.name for path in places.state.iterdir()) == ["readings.db"]
    capsys.readouterr()
    for words in ([], ["--json"], ["--csv"]):
        assert cli.main(["logs", "--log", str(places.log), *words]) == 0
        assert not any(label in line for label in LABELS for line in _entries(capsys))
    assert cli.main(["logs", "--log", str(places.log), "--summary", "--json"]) == 0
    (hour,) = json.loads(capsys.readouterr().out)
    assert hour["faces"] == 2
    publisher = Publisher(PAIR.publish, places.log, places.runtime, tmp_path)
    cursor = Cursor(dict(places.rows("SELECT key, value FROM meta"))["log"])
    outbox = Outbox(places.log, publisher.outbox.mode, cursor)
    messages = outbox.take(counts=True)
    assert {message.kind for message in messages} == {"minute"}
    assert publisher.state()["faces"] in (0, 2)
    collector = Collector(publisher.service_status, publisher.report)
    assert "mien_faces" in {metric.name for metric in collector.collect()}


def _events(places):
    return places.rows("SELECT kind, text FROM events")


def _entries(capsys):
    """The lines that are no header of a CSV file."""
    lines = capsys.readouterr().out.splitlines()
    return [line for line in lines if not line.startswith("time,")]


def test_a_minute_with_a_single_face_is_not_kept_in_a_public_place(places, model):
    places.serve(PAIR, model, Crowd(1, 70))
    assert len(places.seen) >= 70
    assert places.rows("SELECT COUNT(*) FROM minutes") == [(0,)]
    assert places.rows("SELECT COUNT(*) FROM readings") == [(0,)]


def old_log(path, faces=1):
    """A log from before the purpose was public, and a damaged one that was moved aside."""
    writer = LogWriter(path, LogSettings())
    for index in range(200):
        reading = dataclasses.replace(
            testing.reading(track=index), time=6e8 + index, source="marker-of-old"
        )
        writer((reading,) * faces)
    writer.close()
    path.with_name(f"{path.name}.corrupt-1").write_text("marker-of-old")


def test_readings_from_before_the_purpose_was_public_are_erased_and_an_event_says_so(places):
    old_log(places.log)
    writer = LogWriter(places.log, LogSettings(), min_group=5)
    assert [path.name for path in places.state.glob("*.corrupt-*")] == []
    for path in places.state.iterdir():
        assert b"marker-of-old" not in path.read_bytes(), path.name
    writer.close()
    assert places.rows("SELECT COUNT(*) FROM readings") == [(0,)]
    assert places.rows("SELECT COUNT(*) FROM minutes") == [(0,)]
    ((text,),) = places.rows("SELECT text FROM events WHERE kind = 'readings deleted'")
    assert text == (
        "the purpose is public: 200 readings of single faces, 4 minutes with fewer than 5 faces, "
        "1 logs that were moved aside"
    )
    LogWriter(places.log, LogSettings(), min_group=5).close()
    assert len(_events(places)) == 1, "nothing more to delete, nothing more to say"


def test_ids_are_not_used_again_after_readings_were_erased(places):
    old_log(places.log)
    LogWriter(places.log, LogSettings(), min_group=5).close()
    writer = LogWriter(places.log, LogSettings())
    writer((testing.reading(),))
    writer.close()
    assert places.rows("SELECT MIN(id) > 200 FROM readings") == [(1,)]


def test_a_log_that_somebody_reads_is_not_taken_for_erased(places):
    old_log(places.log)
    with contextlib.closing(sqlite3.connect(places.log)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT * FROM readings").fetchone()
        with pytest.raises(SinkError, match="another process reads it"):
            LogWriter(places.log, LogSettings(), min_group=5)
    LogWriter(places.log, LogSettings(), min_group=5).close()
    assert b"marker-of-old" not in places.log.read_bytes()


def test_a_log_that_is_named_by_hand_loses_nothing(places, model, tmp_path):
    old_log(tmp_path / "mine.db")
    options = RunOptions(log=tmp_path / "mine.db")
    with pytest.raises(SinkError, match="200 readings of single faces"):
        Service(PAIR, model, options, source=Crowd(1, 1)).run()
    with contextlib.closing(sqlite3.connect(tmp_path / "mine.db")) as connection:
        assert connection.execute("SELECT COUNT(*) FROM readings").fetchone() == (200,)


FORBIDDEN = [{"annotate": "out.mp4"}, *({"export": f"out{suffix}"} for suffix in SUFFIXES)]


@pytest.mark.parametrize("wanted", FORBIDDEN, ids=lambda wanted: " ".join(wanted.values()))
def test_a_run_by_hand_refuses_what_a_public_place_forbids(model, tmp_path, wanted):
    options = RunOptions()
    if "annotate" in wanted:
        options = RunOptions(annotate=tmp_path / wanted["annotate"])
    else:
        path = tmp_path / wanted["export"]
        options = RunOptions(exports=[Export(path, SUFFIXES[path.suffix])])
    with pytest.raises(SettingsError, match=r"out\.\w+: with use\.purpose = public"):
        Service(PAIR, model, options, source=Crowd(1, 1)).run()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("console", ["text", "json"])
def test_a_run_by_hand_prints_no_reading_in_a_public_place(model, capsys, console):
    Service(PAIR, model, RunOptions(console=console), source=Crowd(1, 3)).run()
    assert capsys.readouterr().out == ""


def test_the_purpose_public_decides_whatever_else_is_set():
    settings = Settings(
        use=PUBLIC,
        publish=PublishSettings(aggregate=False),
        view=ViewSettings(show_picture=True),
    )
    assert settings.publish.aggregate
    assert settings.min_group == settings.publish.min_faces == 5
    assert not settings.view.show_picture
    assert Settings().min_group == 0


@pytest.mark.parametrize("key", ["csv", "jsonl"])
def test_a_file_of_readings_is_no_setting_of_a_public_place(key):
    text = f'[use]\npurpose = "public"\n[sinks]\n{key} = "/var/lib/mien/r"'
    with pytest.raises(SettingsError, match=rf"sinks\.{key} is .*empty it, delete the file"):
        parse_settings(text)
    with pytest.raises(ValueError, match="no reading of a single face"):
        Settings(use=PUBLIC, sinks=SinkSettings(**{key: "r"}))


def test_a_shadow_shows_no_counts_of_labels_while_it_runs_in_a_public_place(tmp_path):
    report = status_file.ShadowStatus("b", 60, 3, 1.0, ((3,),))
    update = status_file.UpdateStatus(shadow=report)
    writer = StatusWriter(
        tmp_path, "demo", lambda: status_file.ModelStatus("m", update=update), minutes_only=True
    )
    writer(None, (testing.reading(),))
    status = status_file.read_status(tmp_path)
    assert (status.shadow.confusion, status.shadow.agreement, status.faces) == ((), None, ())
    assert "minutes only" in summary._faces_line(status)
    writer.close()


@pytest.mark.parametrize(("minutes_only", "faces"), [(True, 0), (False, 3)])
def test_a_probation_that_is_suspended_in_a_public_place_writes_down_no_labels(
    bundle, tmp_path, model, minutes_only, faces
):
    place = store(tmp_path / "models")
    place.request(place.install(bundle.folder))
    place.promote()
    progress = ProbationProgress(bundle.card.id, 90.0, {"happy/sad": 3})
    updater = Updater(
        UpdateSettings(), place, model, lambda _: model, {}, float, testing.Capture,
        progress=progress, minutes_only=minutes_only,
    )  # fmt: skip
    updater.suspend()
    suspended = place.recover().probation
    assert (suspended.seconds, suspended.faces) == (90.0, faces)
