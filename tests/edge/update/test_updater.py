"""A new model in a running chain: swapped between two frames, judged, kept or given back; and a shadow."""

import itertools
import threading
from dataclasses import replace

import numpy as np
import pytest
from helpers import ROOT
from mien_edge import testing
from mien_edge.chain import pipeline, sources
from mien_edge.errors import BundleError, RuntimeMissingError
from mien_edge.labels import LABELS
from mien_edge.model.bundle import Bundle, find_bundle, load_bundle, shipped_bundle
from mien_edge.service.run import Events, RunOptions, Service, load_model
from mien_edge.settings import Settings, UpdateSettings
from mien_edge.update import compare, updater
from mien_edge.update.compare import ModelComparison
from mien_edge.update.probation import FrameRate, LastHour, Probation
from mien_edge.update.updater import LoadedModel, Serving, Updater
from mien_edge.values import Box, Face, Frame
from stores import commit, small, store

EIGHT = (*LABELS, "contempt")
SETTINGS = UpdateSettings(probation=10, min_faces=50, max_probation=100)
FPS = 15
ANY_SPEED = UpdateSettings(
    probation=1, min_faces=5, max_probation=1, max_latency_ratio=100, min_fps_ratio=0
)
"""A probation on real networks in real time, which is over soon and judges no speed."""


class Answers:
    """A classify stage that says one label after the other."""

    def __init__(self, *labels, work=lambda: None):
        self.labels, self.calls, self.work = itertools.cycle(labels), 0, work

    def __call__(self, frame, faces):
        self.calls += 1
        self.work()
        label = next(self.labels)
        if label == "crash":
            raise RuntimeError("a face that it cannot read")
        return tuple(replace(testing.reading(label), track=face.track) for face in faces)


class Device:
    """A store with small-1 committed and small-2 installed, and a chain whose clock is the number of frames."""

    def __init__(self, bundle, folder, answers):
        self.store = store(folder / "models")
        self.sources = {
            version: small(bundle, folder / str(version), version) for version in (1, 2)
        }
        commit(self.store, self.sources[1])
        self.store.install(self.sources[2])
        self.answers, self.events, self.now, self.seen = answers, [], 0.0, []
        first = self.make(load_bundle(find_bundle()))
        chain = pipeline.Chain(lambda _: (), lambda _, faces: faces, first.classify, first.smooth)
        _, stages = pipeline.timed(chain)
        self.stages = dict(stages)
        self._start(first, None)

    def _start(self, model, progress):
        self.updater = Updater(
            SETTINGS, self.store, model, self.make, self.stages, lambda: FPS,
            lambda *event: self.events.append(event), lambda: self.now, progress,
        )  # fmt: skip
        self.updater.request_reload()

    def restart(self, in_order=True):
        """The service ends, in order or killed, and starts again as mien.service does."""
        if in_order:
            self.updater.suspend()
        self.updater.close()
        recovery = self.store.recover()
        self.store.promote()
        self.events.clear()
        progress = recovery.probation
        model = updater.load_startup_model(self.store, self.make, recovery.bundle, progress)
        for name in self.stages:
            if name in ("classify", "smooth"):
                self.stages[name].stage = getattr(model, name)
        self._start(model, recovery.probation)
        return recovery.events

    def make(self, bundle: Bundle):
        made = self.answers[bundle.card.version]
        if isinstance(made, Exception):
            raise made
        return LoadedModel(bundle, made, lambda readings: readings)

    def run(self, seconds, faces=1, fps=FPS):
        """Frames at that rate; the update thread gets its time after each."""
        for number in range(int(seconds * fps)):
            self.now += 1 / fps
            frame = Frame(np.zeros((8, 8), np.uint8), number, self.now)
            found = tuple(Face(Box(0, 0, 8, 8), 0.9, (), track) for track in range(faces))
            readings = self.stages["smooth"](self.stages["classify"](frame, found))
            assert len(readings) == faces, "no frame may be lost"
            self.seen += readings
            self.updater(frame, readings)
            if self.updater._task:
                self.updater._task.future.exception()

    def kinds(self):
        return [kind for kind, _ in self.events]


@pytest.fixture
def device(bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("MIEN_MODELS", str(tmp_path / "models"))
    made = []

    def make(first, second):
        made.append(Device(bundle, tmp_path, {1: first, 2: second}))
        return made[0]

    yield make
    made[0].updater.close()


def activate(device, seconds, **more):
    device.run(20, **more)
    device.store.request(device.store.open("small-2"))
    device.updater.request_reload()
    device.run(seconds, **more)


def test_a_good_model_is_taken_tried_and_committed(device):
    chosen = device(Answers("happy", "sad"), Answers("happy", "neutral"))
    activate(chosen, 30)
    assert chosen.kinds() == ["model changed", "probation", "committed"]
    assert chosen.store.state().record.committed == ("small-2", "small-1")
    assert chosen.updater.state().model == "small-2"
    assert chosen.updater.state().update.probation is None


def test_on_probation_the_status_says_so(device):
    chosen = device(Answers("happy", "sad"), Answers("happy", "neutral"))
    activate(chosen, 5)
    assert chosen.updater.state().update.probation.of_seconds == 10
    assert chosen.store.state().on_probation


def test_a_model_that_says_one_thing_to_all_is_rolled_back(device):
    chosen = device(Answers("happy", "sad", "neutral"), Answers("fear"))
    activate(chosen, 30)
    assert chosen.kinds()[-1] == "rolled back"
    assert "100 % of all faces are 'fear' to it, 0 % to the model before" in chosen.events[-1][1]
    assert chosen.store.state().current == "small-1"
    assert chosen.stages["classify"].stage is chosen.answers[1]


def test_a_model_that_takes_too_long_for_a_face_is_rolled_back(device):
    slow = Answers("happy", "neutral", work=lambda: setattr(chosen, "now", chosen.now + 0.02))
    chosen = device(Answers("happy", "sad"), slow)
    slow_before = Answers("happy", "sad", work=lambda: setattr(chosen, "now", chosen.now + 0.005))
    chosen.stages["classify"].stage = chosen.answers[1] = slow_before
    chosen.updater.phase = Serving(replace(chosen.updater.phase.model, classify=slow_before))
    activate(chosen, 30)
    assert chosen.kinds()[-1] == "rolled back"
    assert "a face takes 20.0 ms where the model before takes 5.0" in chosen.events[-1][1]
    assert chosen.stages["classify"].stage is slow_before


def test_one_person_who_was_happy_before_may_stay_so(device):
    chosen = device(Answers("happy"), Answers("happy"))
    activate(chosen, 30)
    assert chosen.kinds()[-1] == "committed"


def test_a_model_that_fails_on_a_face_costs_no_frame_and_is_rolled_back(device):
    chosen = device(Answers("happy", "sad"), Answers("happy", "sad", "crash"))
    activate(chosen, 5)
    assert chosen.kinds()[-1] == "rolled back"
    assert "a face that it cannot read" in chosen.events[-1][1]


def test_a_model_that_cannot_be_made_leaves_the_old_one_running(device):
    chosen = device(Answers("happy", "sad"), BundleError("its network is odd"))
    activate(chosen, 5)
    assert chosen.kinds() == ["model refused"]
    assert "small-1 runs on" in chosen.events[0][1]
    assert chosen.store.state().current == "small-1"
    assert not chosen.store.state().record.last_result.passed
    assert chosen.updater.phase.model.bundle.card.id == "small-1"


def test_a_model_that_met_nobody_stays_on_probation_however_long_that_lasts(device):
    chosen = device(Answers("happy"), Answers("sad"))
    activate(chosen, 1000, faces=0)
    assert chosen.kinds()[-1] == "probation"
    assert chosen.store.state().on_probation


def test_after_its_longest_probation_ten_faces_are_enough_and_nine_are_not(device):
    chosen = device(Answers("happy", "sad"), Answers("happy", "sad"))
    activate(chosen, 120, faces=0)
    chosen.run(9 / FPS)
    chosen.run(1, faces=0)
    assert chosen.kinds()[-1] == "probation"
    chosen.run(1 / FPS)
    chosen.run(1, faces=0)
    assert chosen.kinds()[-1] == "committed"
    assert "10 readings of faces, fewer than update.min_faces" in chosen.events[-1][1]


def test_a_probation_goes_on_after_a_restart_in_order_and_counts_all_its_faces(device):
    chosen = device(Answers("happy", "sad"), Answers("happy", "sad"))
    activate(chosen, 2)
    faces = chosen.updater.state().update.probation.faces
    assert chosen.restart() == ()
    chosen.run(1, faces=0)
    assert chosen.events == [
        ("probation", f"small-2 goes on after a restart, {faces} of 50 readings of faces until now")
    ]
    probation = chosen.updater.state().update.probation
    assert (probation.faces, probation.seconds > 2) == (faces, True)
    chosen.run(10)
    assert chosen.kinds()[-1] == "committed"


def test_a_probation_goes_on_over_many_restarts_until_faces_came(device):
    chosen = device(Answers("happy", "sad"), Answers("happy", "sad"))
    activate(chosen, 20, faces=0)
    for _ in range(5):
        assert chosen.restart() == ()
        chosen.run(20, faces=0)
        assert chosen.store.state().on_probation
    chosen.run(5)
    assert chosen.store.state().record.committed == ("small-2", "small-1")


def test_a_crash_after_a_restart_in_order_undoes_the_probation(device):
    chosen = device(Answers("happy", "sad"), Answers("happy", "sad"))
    activate(chosen, 2)
    chosen.restart()
    chosen.run(1)
    (event,) = chosen.restart(in_order=False)
    assert event == "small-2: the service ended before it had proved itself; back to small-1"


def test_ends_before_a_face_after_a_restart_in_order_undo_no_probation(device):
    """A camera that hangs, whose watchdog kills the service, or a power cut while it is opened."""
    chosen = device(Answers("happy"), Answers("happy", "sad"))
    activate(chosen, 1)
    chosen.restart()
    for _ in range(20):
        chosen.run(1, faces=0)
        assert chosen.restart(in_order=False) == ()
    faces = chosen.store.state().on_probation and chosen.updater._progress.faces
    assert faces, "what was measured before counts still"


def test_a_bundle_that_was_promoted_but_never_ran_survives_a_stop(device):
    chosen = device(Answers("happy"), Answers("happy"))
    chosen.run(1)
    chosen.store.request(chosen.store.open("small-2"))
    assert chosen.store.promote().card.id == "small-2"
    assert chosen.restart() == ()
    assert chosen.store.state().on_probation


def test_labels_of_before_a_restart_count_in_the_verdict(device):
    chosen = device(Answers("happy", "sad", "neutral"), Answers("fear"))
    activate(chosen, 3)
    chosen.restart()
    chosen.run(30)
    assert chosen.kinds()[-1] == "rolled back"
    assert "100 % of all faces are 'fear' to it" in chosen.events[-1][1]


def test_a_bundle_that_is_pushed_during_a_probation_takes_its_place(device):
    chosen = device(Answers("happy", "sad"), Answers("happy", "sad"))
    three = small(load_bundle(chosen.store.folder / "small-1"), chosen.store.folder / "../3", 3)
    chosen.store.install(three)
    chosen.answers[3] = Answers("happy", "sad")
    activate(chosen, 2)
    chosen.store.request(chosen.store.open("small-3"))
    assert chosen.restart() == ()
    chosen.run(1)
    assert chosen.updater.state().update.probation.faces < 2 * FPS, "it begins anew"
    chosen.run(20)
    assert chosen.store.state().record.committed == ("small-3", "small-1")


def test_a_failing_model_is_not_suspended_but_undone(device):
    chosen = device(Answers("happy", "sad"), Answers("happy", "sad"))
    activate(chosen, 2)
    chosen.updater.phase.probation.comparison.first.problem = "it failed on a face"
    assert "back to small-1" in chosen.restart()[0]


class KilledError(BaseException):
    """The process ends by a signal."""


def kill():
    raise KilledError


@pytest.fixture
def committed(device):
    """A device on which small-2 is committed, and does what it is told to at a face."""
    model = Answers("happy", "sad")
    chosen = device(Answers("happy", "sad"), model)
    activate(chosen, 30)
    assert chosen.store.state().record.committed == ("small-2", "small-1")
    chosen.updater.close()
    return chosen


def starts(device, count, **more):
    """So many starts of the service that meet a face, and end there; the events of the start after them."""
    for _ in range(count):
        assert device.restart() == ()
        with pytest.raises(KilledError):
            device.run(1, **more)
    return device.restart()


def test_a_committed_model_that_ends_five_starts_in_a_row_at_a_face_gives_way(committed):
    committed.answers[2].work = kill
    (event,) = starts(committed, 5)
    assert event == "small-2: it ended the service in 5 starts in a row; back to small-1"
    committed.run(5)
    state = committed.store.state()
    assert (state.current, state.record.committed) == ("small-1", ("small-1",))
    assert state.record.last_result.passed is False


def test_a_model_that_has_failed_is_not_taken_again_before_it_is_removed(committed):
    committed.answers[2].work = kill
    starts(committed, 5)
    bundle = committed.store.install(committed.sources[2])
    with pytest.raises(BundleError, match=r"not taken again: it ended the service in 5 starts"):
        committed.store.request(bundle)
    committed.store.remove("small-2")
    committed.store.request(committed.store.install(committed.sources[2]))
    assert committed.store.state().pending == "small-2"


def test_a_face_that_is_read_ends_the_row(committed):
    committed.answers[2].work = kill
    assert starts(committed, 4) == ()
    committed.answers[2].work = lambda: None
    committed.run(1)
    committed.answers[2].work = kill
    assert starts(committed, 4) == ()
    assert committed.store.state().current == "small-2"


def test_starts_that_meet_nobody_neither_count_nor_forgive(committed):
    committed.answers[2].work = kill
    assert starts(committed, 4) == ()
    committed.answers[2].work = lambda: None
    for _ in range(5):
        committed.run(1, faces=0)
        assert committed.restart(in_order=False) == ()
    committed.answers[2].work = kill
    assert "back to small-1" in starts(committed, 1)[0]


def test_a_camera_that_is_missing_is_not_the_models_fault(committed):
    """The model is loaded, and the process ends before a face, by whatever signal."""
    for _ in range(20):
        assert committed.restart(in_order=False) == ()
    assert committed.store.state().current == "small-2"


def test_a_committed_model_that_ends_five_starts_while_it_is_loaded_gives_way(committed):
    make = committed.make

    def deadly(bundle):
        if bundle.card.version == 2:
            raise KilledError
        return make(bundle)

    for _ in range(5):
        recovery = committed.store.recover()
        assert recovery.events == ()
        with pytest.raises(KilledError):
            updater.load_startup_model(committed.store, deadly, recovery.bundle)
    assert "in 5 starts in a row; back to small-1" in committed.store.recover().events[0]


def test_a_service_that_is_stopped_while_it_loads_a_model_is_not_the_models_fault(committed):
    def stopped(_):
        raise SystemExit(0)

    for _ in range(20):
        recovery = committed.store.recover()
        assert recovery.events == ()
        with pytest.raises(SystemExit):
            updater.load_startup_model(committed.store, stopped, recovery.bundle)
    assert committed.store.state().current == "small-2"


def test_a_shadow_that_ends_the_service_is_compared_no_more(device):
    chosen = device(Answers("happy"), Answers("happy", work=kill))
    chosen.store.start_shadow(chosen.store.open("small-2"))
    chosen.updater.request_reload()
    with pytest.raises(KilledError):
        chosen.run(5)
    (event,) = chosen.restart(in_order=False)
    assert event == "small-2: it ended the service as a shadow; it is compared no more"
    chosen.run(5)
    assert (chosen.store.state().current, chosen.store.state().shadow) == ("small-1", "")


def test_a_shadow_hides_no_start_that_the_committed_model_has_ended(committed):
    committed.store.start_shadow(committed.store.open("small-1"))
    for _ in range(5):
        committed.answers[2].work = lambda: None
        assert committed.restart() == ()
        committed.run(1, faces=0)
        assert committed.updater.phase.shadow is not None
        committed.answers[2].work = kill
        with pytest.raises(KilledError):
            committed.run(1)
    assert "in 5 starts in a row; back to small-1" in committed.restart()[0]


def test_a_disk_that_cannot_count_starts_keeps_no_service_from_running(committed, monkeypatch):
    def fails(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(committed.store.disk, "write", fails)
    assert committed.restart() == ()
    committed.run(1)
    assert committed.updater.state().model == "small-2"


def test_a_disk_that_cannot_roll_back_keeps_no_service_from_running(committed, monkeypatch):
    """The bundle that came with mien runs where the current one no longer can."""

    def make(bundle):
        if bundle.card.name == "small":
            raise BundleError("it computes something else")
        return LoadedModel(bundle, Answers("happy"), lambda readings: readings)

    def fails(*_):
        raise OSError(30, "Read-only file system")

    for operation in ("write", "link", "rename", "remove"):
        monkeypatch.setattr(committed.store.disk, operation, fails)
    model = updater.load_startup_model(committed.store, make)
    assert model.bundle == load_bundle(shipped_bundle())


def test_a_package_that_is_missing_is_not_the_models_fault(committed):
    def missing(_):
        raise RuntimeMissingError("ai-edge-litert is not installed")

    with pytest.raises(RuntimeMissingError):
        updater.load_startup_model(committed.store, missing)
    assert committed.store.state().record.committed == ("small-2", "small-1")


def test_a_rollback_by_hand_reaches_the_running_chain(device):
    chosen = device(Answers("happy", "sad"), Answers("happy", "neutral"))
    activate(chosen, 30)
    assert chosen.store.return_to_previous("by hand") == "small-1"
    chosen.updater.request_reload()
    chosen.run(1)
    assert chosen.stages["classify"].stage is chosen.answers[1]
    assert chosen.updater.phase.probation is None


def test_a_shadow_changes_nothing_and_is_compared(device):
    chosen = device(Answers("happy"), Answers("happy", "sad"))
    chosen.store.start_shadow(chosen.store.open("small-2"))
    chosen.updater.request_reload()
    chosen.run(10)
    assert {reading.emotion.label for reading in chosen.seen} == {"happy"}
    report = chosen.updater.state().update.shadow
    assert report.bundle == "small-2"
    assert report.agreement == pytest.approx(0.5, abs=0.02)
    assert report.confusion[3][4] == pytest.approx(report.faces / 2, abs=1)
    assert "agrees on" in compare.as_text(report)
    chosen.store.stop_shadow()
    chosen.updater.request_reload()
    chosen.run(1)
    assert chosen.kinds() == ["shadow", "shadow ended"]
    assert chosen.stages["classify"].stage is chosen.answers[1]


def comparison(labels, shadow_labels, pairs):
    seen = ModelComparison(Answers(), Answers(), "new-2", lambda: 0.0, (labels, shadow_labels))
    for (label, shadow_label), count in pairs.items():
        seen.add(label, shadow_label, count)
    return seen.report()


def test_models_agree_by_the_labels_that_both_have_and_the_table_shows_all():
    pairs = {("happy", "happy"): 60, ("sad", "happy"): 20, ("fear", "sad"): 15, ("sad", "calm"): 5}
    report = comparison(LABELS, ("happy", "calm", "sad"), pairs)
    assert report.agreement == 0.75
    assert report.confusion[LABELS.index("sad")] == (20, 5, 0)
    text = compare.as_text(report)
    assert text.startswith(
        "new-2 agrees on 75.0 % of 80 faces to which both gave happy, sad; 100 faces in 0 s in all; "
    )
    assert text.splitlines()[2:4] == [
        "rows: the current one; columns: the shadow",
        "             happy     calm      sad",
    ]
    assert "fear             0        0       15" in text


def test_models_without_a_common_label_are_said_to_have_none():
    report = comparison(LABELS, ("awake", "asleep"), {("happy", "awake"): 3})
    assert report.agreement is None
    assert (
        "new-2 has no label of the current one's, so that only time is compared; 3 faces in 0 s; "
        in compare.as_text(report)
    )
    assert compare.as_text(report).splitlines()[-1] == "neutral          0        0"


def test_models_that_gave_no_common_label_yet_cannot_be_compared_yet():
    report = comparison(LABELS, ("happy", "calm"), {("sad", "calm"): 3})
    assert report.agreement is None
    assert (
        "new-2 cannot be compared yet, with 0 faces to which both gave happy; 3 faces"
        in compare.as_sentence(report)
    )


def test_a_shadow_waits_for_the_end_of_a_probation(device):
    chosen = device(Answers("happy", "sad"), Answers("happy", "neutral"))
    chosen.store.install(
        small(load_bundle(chosen.store.folder / "small-1"), chosen.store.folder.parent / "3", 3)
    )
    chosen.answers[3] = Answers("happy", "crash")
    activate(chosen, 3)
    chosen.store.start_shadow(chosen.store.open("small-3"))
    chosen.updater.request_reload()
    chosen.run(3)
    assert chosen.updater.state().update.shadow is None
    chosen.run(20)
    assert "committed" in chosen.kinds()
    assert chosen.kinds()[-2:] == ["shadow", "shadow ended"]


def test_a_shadow_is_there_again_after_a_restart(device):
    chosen = device(Answers("happy"), Answers("sad"))
    chosen.store.start_shadow(chosen.store.open("small-2"))
    chosen.run(5)
    assert chosen.kinds() == ["shadow"], "the service looks at its start"


def test_a_shadow_that_fails_harms_nobody(device):
    chosen = device(Answers("happy"), Answers("crash"))
    chosen.store.start_shadow(chosen.store.open("small-2"))
    chosen.updater.request_reload()
    chosen.run(5)
    assert {reading.emotion.label for reading in chosen.seen} == {"happy"}
    assert chosen.kinds() == ["shadow", "shadow ended"]
    assert "it failed" in chosen.events[-1][1]
    assert chosen.store.state().shadow == ""


def trial(
    settings,
    frames=1000,
    due=1000.0,
    hour=(1000, 1000.0),
    pairs=None,
    times=(0.001, 0.001),
    labels=(LABELS, LABELS),
):
    """A probation that has seen so much: (label of the new model, label of the one before): count."""
    seen = ModelComparison(Answers("happy"), Answers("happy"), labels=labels)
    for (mine, its), count in (pairs or {("happy", "happy"): 500, ("sad", "sad"): 500}).items():
        seen.add(mine, its, count)
    for voice, seconds in zip((seen.first, seen.second), times, strict=True):
        voice.times.extend([seconds, seconds, 0.5])
    made = Probation(settings, seen, FrameRate(*hour))
    made.frame_rate, made.seconds = FrameRate(frames, due), 1000.0
    return made


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({}, ""),
        ({"frames": 700}, "the frame rate fell to 70 %"),
        ({"frames": 70, "due": 90.0}, ""),
        ({"frames": 700, "hour": (700, 1000.0)}, ""),
        ({"frames": 700, "hour": (0, 0.0)}, ""),
        ({"times": (0.0035, 0.001)}, "a face takes 3.5 ms where the model before takes 1.0"),
        ({"times": (0.0025, 0.001)}, ""),
        (
            {"pairs": {("sad", "happy"): 500, ("sad", "sad"): 400}},
            "100 % of all faces are 'sad' to it, 44 % to",
        ),
        ({"pairs": {("sad", "sad"): 1000}}, ""),
        ({"pairs": {("sad", "happy"): 500, ("happy", "sad"): 400}}, ""),
        # It cannot say fear: the faces to which the one before said so prove nothing.
        (
            {
                "labels": (("happy", "sad"), LABELS),
                "pairs": {("sad", "fear"): 900, ("sad", "sad"): 100},
            },
            "",
        ),
        (
            {
                "labels": (("happy", "sad"), LABELS),
                "pairs": {("sad", "fear"): 900, ("sad", "happy"): 100},
            },
            "100 % of the faces that can be compared are 'sad' to it, 0 % to",
        ),
        (
            {
                "labels": (("happy", "sad"), LABELS),
                "pairs": {("sad", "fear"): 900, ("sad", "happy"): 9},
            },
            "",
        ),
        # A label that is new: the one before saw several of the others.
        (
            {
                "labels": (EIGHT, LABELS),
                "pairs": {
                    ("contempt", "happy"): 480,
                    ("contempt", "sad"): 480,
                    ("contempt", "fear"): 40,
                },
            },
            "100 % of all faces are 'contempt' to it, none more often than 48 % 'happy' to the model before",
        ),
        (
            {
                "labels": (EIGHT, LABELS),
                "pairs": {("contempt", "neutral"): 900, ("sad", "sad"): 10},
            },
            "",
        ),
        (
            {
                "labels": (("awake", "asleep"), LABELS),
                "pairs": {("awake", "happy"): 500, ("awake", "sad"): 500},
            },
            "",
        ),
    ],
)
def test_what_is_a_fault_and_what_is_not(given, fault):
    found = trial(UpdateSettings(), **given).failure_reason()
    assert found.startswith(fault)
    assert bool(found) == bool(fault)


@pytest.mark.parametrize(
    ("labels", "pairs", "said"),
    [
        ((LABELS, LABELS), {("sad", "sad"): 500}, ""),
        ((("awake", "asleep"), LABELS), {("awake", "sad"): 500}, "; not judged by its labels, of which the model before has none"),
        ((("happy", "sad"), LABELS), {("sad", "fear"): 500}, "; not judged by its labels: too few faces had one that both models have"),
    ],
)  # fmt: skip
def test_a_probation_says_that_its_labels_could_not_be_compared(labels, pairs, said):
    assert (
        trial(UpdateSettings(), labels=labels, pairs=pairs).summary().endswith(f"ms a face{said}")
    )


def test_the_last_hour_forgets_what_is_older():
    hour = LastHour()
    for minute in range(90):
        hour.add(minute * 60.0, 1.0)
    assert hour.frame_rate(90 * 60.0).frames == 59


def test_a_pause_of_the_camera_is_not_the_models_fault_nor_its_time(device):
    chosen = device(Answers("happy", "sad"), Answers("happy", "neutral"))
    activate(chosen, 3)
    chosen.now += 3600
    chosen.run(3)
    assert chosen.kinds()[-1] == "probation"
    chosen.run(10)
    assert chosen.kinds()[-1] == "committed"


def test_frames_at_rest_say_nothing_of_the_pace(device):
    chosen = device(Answers("happy", "sad"), Answers("happy", "neutral"))
    chosen.updater.target_fps = lambda: 0.0
    chosen.run(20, fps=1)
    chosen.updater.target_fps = lambda: FPS
    activate(chosen, 30)
    assert chosen.kinds()[-1] == "committed"


def test_requests_without_end_stop_no_verdict(device):
    chosen = device(Answers("happy", "sad", "neutral"), Answers("fear"))
    activate(chosen, 2)
    for _ in range(20 * FPS):
        chosen.updater.request_reload()
        chosen.run(1 / FPS)
    assert "rolled back" in chosen.kinds()


def test_a_disk_that_fails_leaves_the_good_model_running_and_is_told_of_once(device, monkeypatch):
    chosen = device(Answers("happy", "sad", "neutral"), Answers("fear"))
    activate(chosen, 5)

    def fails(*_):
        raise BundleError("the disk is full")

    monkeypatch.setattr(chosen.store, "roll_back", fails)
    chosen.run(40)
    assert chosen.kinds()[-1] == "update failed"
    assert chosen.kinds().count("update failed") == 1
    assert chosen.stages["classify"].stage is chosen.answers[1]
    monkeypatch.undo()
    monkeypatch.setenv("MIEN_MODELS", str(chosen.store.folder))
    chosen.run(40)
    assert chosen.kinds()[-1] == "rolled back"
    assert chosen.store.state().current == "small-1"


def test_a_request_that_the_store_could_not_answer_is_tried_again(device, monkeypatch):
    chosen = device(Answers("happy", "sad"), Answers("happy", "neutral"))
    chosen.run(1)

    def fails(*_):
        raise BundleError("the disk is busy")

    monkeypatch.setattr(chosen.store, "promote", fails)
    chosen.store.request(chosen.store.open("small-2"))
    chosen.updater.request_reload()
    chosen.run(5)
    assert chosen.kinds() == ["update failed"]
    monkeypatch.undo()
    monkeypatch.setenv("MIEN_MODELS", str(chosen.store.folder))
    chosen.run(30)
    assert chosen.kinds()[:3] == ["update failed", "model changed", "probation"]


def test_a_reload_that_keeps_failing_does_not_keep_a_bad_model(device, monkeypatch):
    chosen = device(Answers("happy", "sad", "neutral"), Answers("fear"))
    activate(chosen, 5)
    assert chosen.kinds()[-1] == "probation"

    def fails(*_):
        raise BundleError("the disk is read-only")

    for change in ("promote", "roll_back", "commit"):
        monkeypatch.setattr(chosen.store, change, fails)
    chosen.updater.request_reload()
    chosen.run(60)
    assert chosen.stages["classify"].stage is chosen.answers[1]


def test_a_request_is_served_at_once_whatever_failed_before(device, monkeypatch):
    chosen = device(Answers("happy", "sad", "neutral"), Answers("fear"))
    activate(chosen, 5)
    failed, promoted = [], []

    def fails(*_):
        if not failed:
            chosen.updater.request_reload()  # it arrives while this fails
        failed.append(chosen.now)
        raise BundleError("the disk is busy")

    monkeypatch.setattr(chosen.store, "roll_back", fails)
    monkeypatch.setattr(chosen.store, "promote", lambda: promoted.append(chosen.now))
    chosen.run(12)
    assert len(promoted) == 1
    assert promoted[0] - failed[0] < 1


def test_the_bundle_that_runs_already_is_tried_and_committed_too(bundle, tmp_path, monkeypatch):
    """The one that came with mien, pushed."""
    monkeypatch.setenv("MIEN_MODELS", str(tmp_path / "models"))
    place = store(tmp_path / "models")
    place.request(place.install(bundle.folder))
    source = sources.Demo(200, None, forever=True, paced=False)
    chosen = Settings(update=ANY_SPEED)
    events, done, stop = Events(), [], threading.Event()

    def heard(kind, text):
        done.append(kind)
        if kind == "committed":
            stop.set()

    events.add(heard)
    place.promote()
    shipped = load_model(chosen, load_bundle(shipped_bundle()))
    options = RunOptions(max_frames=3000)
    Service(chosen, shipped, options, place, source=source, events=events, stop=stop).run()
    assert done == ["start", "model changed", "probation", "committed", "stop"]
    assert place.state().record.committed == (bundle.card.id,)


def test_the_real_chain_swaps_real_networks(bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("MIEN_MODELS", str(tmp_path / "models"))
    place = store(tmp_path / "models")
    commit(place, ROOT / "models" / "edge-1")
    place.install(bundle.folder)
    source = sources.Demo(200, None, forever=True, paced=False)
    chosen = Settings(update=ANY_SPEED)
    events, done = Events(), []
    events.add(lambda kind, text: done.append(kind))
    place.request(place.open(bundle.card.id))
    assert place.promote().card == bundle.card
    found = load_model(chosen, load_bundle(find_bundle()))
    options = RunOptions(max_frames=300)
    Service(chosen, found, options, place, source=source, events=events).run()
    assert done[:2] == ["start", "probation"]
    assert done[-2] in ("probation", "committed")
    assert done[-1] == "stop"


def test_at_the_start_what_computes_otherwise_gives_way(bundle, tmp_path, monkeypatch):
    """An update of the interpreter may change what a committed bundle computes."""
    monkeypatch.setenv("MIEN_MODELS", str(tmp_path / "models"))
    place = store(tmp_path / "models")
    for version in (1, 2):
        commit(place, small(bundle, tmp_path / str(version), version))
    refused = {"small-2"}

    def make(found: Bundle) -> LoadedModel:
        if found.card.id in refused:
            raise BundleError(f"{found.card.id}: computes otherwise here")
        return LoadedModel(found, Answers("happy"), lambda readings: readings)

    assert updater.load_startup_model(place, make).name == "small-1"
    assert place.state().record.committed == ("small-1",)
    refused.add("small-1")
    assert updater.load_startup_model(place, make).name == load_bundle(shipped_bundle()).card.id
    refused.add(load_bundle(shipped_bundle()).card.id)
    with pytest.raises(BundleError, match="computes otherwise"):
        updater.load_startup_model(place, make)
