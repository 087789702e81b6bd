"""Bundles with labels of their own through the whole chain: read, scored, compared, tried, and back to the seven."""

import contextlib
import itertools
import json
import os
import shutil
import signal
import threading
from collections import defaultdict
from contextlib import closing

import cv2
import numpy as np
import pytest
from helpers import pin_again
from mien_edge import cli, testing
from mien_edge.chain import sources
from mien_edge.errors import SourceError
from mien_edge.labels import LABELS
from mien_edge.log import reader
from mien_edge.model.bundle import find_bundle, load_bundle, shipped_bundle
from mien_edge.service.run import Events, RunOptions, Service, build_chain, load_model
from mien_edge.settings import Settings, UpdateSettings
from mien_edge.status import status_file
from mien_edge.values import Frame
from stores import store

ANY_SPEED = UpdateSettings(
    probation=1, min_faces=5, max_probation=1, max_latency_ratio=100, min_fps_ratio=0
)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A store whose current bundle is the one that came with mien."""
    monkeypatch.setenv("MIEN_MODELS", str(tmp_path / "models"))
    return store(tmp_path / "models")


def lines(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_photographs_are_read_and_scored_with_the_bundles_own_labels(
    three_labels, tmp_path, astronaut, capsys
):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(folder / name), astronaut)
    (folder / "labels.csv").write_text("file,emotion\na.png,Joy\nb.png,fear\n")
    model = ["--model", str(three_labels.folder)]
    assert (
        cli.main(["run", str(folder), *model, "--json", "--annotate", str(tmp_path / "out")]) == 0
    )
    first, _, summary = lines(capsys)
    assert list(first["scores"]) == ["happiness", "sadness", "other"]
    assert (first["label"], first["model"]) == ("happiness", "three-1")
    assert (summary["score"]["photographs"], summary["score"]["accuracy"]) == (1, 1.0)
    assert summary["score"]["other_labels"] == {"fear": 1}
    assert list(summary["score"]["confusion"]) == ["happiness", "sadness", "other"]
    assert (tmp_path / "out" / "a.png.png").exists()


def test_a_table_of_labels_that_only_another_bundle_has_is_refused_with_the_models_own(
    three_labels, tmp_path, astronaut, capsys
):
    cv2.imwrite(str(tmp_path / "a.png"), astronaut)
    (tmp_path / "labels.csv").write_text("file,emotion\na.png,bored\n")
    assert cli.main(["run", str(tmp_path), "--model", str(three_labels.folder), "--quiet"]) == 1
    assert (
        "'bored' is none of the model's: happiness, sadness, other; correct it"
        in capsys.readouterr().err
    )


def test_a_video_is_read_with_eight_labels_and_annotated(eight_labels, tmp_path, astronaut, capsys):
    clip = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"MJPG"), 10, (512, 512))
    for _ in range(3):
        writer.write(np.ascontiguousarray(astronaut))
    writer.release()
    out = tmp_path / "out.png"
    model = ["--model", str(eight_labels.folder)]
    assert cli.main(["run", str(clip), *model, "--json", "--annotate", str(out)]) == 0
    *readings, _ = lines(capsys)
    assert [list(reading["scores"]) for reading in readings] == [[*LABELS, "contempt"]] * 3
    assert readings[-1]["label"] == "happy"
    assert out.exists()


def test_a_card_of_version_1_and_the_same_of_version_2_mean_the_same(tmp_path, bundle, astronaut):
    """Bit for bit: bundles of version 1 go on as they did."""
    first = load_bundle(bundle.folder.parent / "edge-ferplus-4")
    assert first.card.contract == 1
    copy = tmp_path / "copy"
    shutil.copytree(first.folder, copy)
    pin_again(copy, contract=2)
    frame = Frame(astronaut, 0, 0.0)
    readings = [
        build_chain(Settings(), load_model(Settings(), each))(frame)
        for each in (first, load_bundle(copy))
    ]
    assert readings[0] == readings[1]
    assert readings[0][0].emotion.labels == LABELS


class Watch(testing.Capture):
    """A sink that remembers all frames, and ends the run when `is_over` of its readings says so."""

    def __init__(self, is_over):
        super().__init__()
        self.is_over = is_over
        self.stop = threading.Event()

    def __call__(self, readings):
        super().__call__(readings)
        if self.is_over(readings):
            self.stop.set()


def serve(place, watch, folder, events=None):
    """The service over the demo, again and again, until the watch ends it."""
    settings = Settings(update=ANY_SPEED)
    model = load_model(settings, load_bundle(find_bundle()))
    source = sources.Demo(200, None, forever=True, paced=False)
    options = RunOptions(max_frames=5000, runtime_folder=folder, log=folder / "log.db")
    Service(
        settings,
        model,
        options,
        place,
        source=source,
        sinks=[watch],
        events=events or Events(),
        stop=watch.stop,
    ).run()
    assert watch.stop.is_set(), "it did not happen"


def test_a_shadow_with_a_further_label_is_compared_by_the_seven_that_both_have(
    place, eight_labels, tmp_path
):
    place.install(eight_labels.folder)
    place.start_shadow(place.open("eight-1"))
    statuses = []

    def has_compared(_):
        with contextlib.suppress(SourceError):
            statuses.append(status_file.read_status(tmp_path))
        return bool(statuses and statuses[-1].shadow and statuses[-1].shadow.faces > 3)

    serve(place, Watch(has_compared), tmp_path)
    status = statuses[-1]
    assert status.labels == LABELS
    assert (status.shadow.labels, status.shadow.shadow_labels) == (LABELS, (*LABELS, "contempt"))
    assert status.shadow.agreement == 1.0
    assert [len(row) for row in status.shadow.confusion] == [8] * 7


def test_other_labels_are_tried_taken_logged_and_given_back_for_the_seven(
    place, three_labels, tmp_path
):
    """Three labels are pushed over seven and committed; then somebody rolls back by hand, while frames pass."""
    heard = defaultdict(list)

    def hear(kind, text):
        heard[kind].append(text)
        if kind == "committed":
            place.return_to_previous("by hand")
            os.kill(os.getpid(), signal.SIGHUP)

    events = Events()
    events.add(hear)
    place.request(place.install(three_labels.folder))
    watch = Watch(lambda readings: len(heard["model changed"]) == 2 and readings)
    serve(place, watch, tmp_path, events)
    name = load_bundle(shipped_bundle()).card.id
    own = three_labels.card.labels
    assert heard["model changed"] == [
        f"{name} before, three-1 now; its labels: all new: {', '.join(own)}",
        f"three-1 before, {name} now; its labels: all new: {', '.join(LABELS)}",
    ]
    (committed,) = heard["committed"]
    assert committed.endswith(" ms a face"), "happiness and happy are compared"
    with closing(reader.open_to_read(tmp_path / "log.db")) as connection:
        rows = [row for _, row in reader.readings(connection, reader.Filter())]
    for readings in (itertools.chain(*watch.frames), rows):
        kinds = {(reading.model, reading.emotion.labels) for reading in readings if reading.emotion}
        assert kinds == {(name, LABELS), ("three-1", own)}
    assert {row.label for row in rows if row.model == "three-1"} == {"happiness"}
    assert rows[-1].model == name
