"""Live cameras: faults come back, the newest frame wins, and the picamera2 adapter fits the real package."""

import ast
import inspect
import itertools
import socket
import sys
import threading
import types

import numpy as np
import pytest
from helpers import ROOT, until
from mien_edge.chain import camera, devices
from mien_edge.errors import FrameError, RuntimeMissingError, SourceError
from mien_edge.settings import SourceSettings
from mien_edge.testing import FakeCamera, FakePicamera2, openers

PICTURES = [np.full((4, 4), i, np.uint8) for i in range(5)]
QUICK = SourceSettings(frame_timeout=10, max_retry_delay=0.1)


class Clock:
    """Seconds that pass only when a test lets them pass."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class HangingCamera(FakeCamera):
    """One picture, then a driver that hangs; the clock runs until that was noticed."""

    def __init__(self, clock):
        super().__init__([PICTURES[0], FakeCamera.HANG])
        self.clock, self.noticed = clock, threading.Event()

    def read(self):
        if self.script[0] == FakeCamera.HANG:
            while not self.noticed.wait(0.001):
                self.clock.now += 1
        return super().read()


class SteppedCamera(FakeCamera):
    """A camera that yields a picture each time that the test allows it."""

    def __init__(self):
        super().__init__(PICTURES)
        self.allowed = threading.Semaphore(0)
        self.reads = 0

    def read(self):
        self.reads += 1
        self.allowed.acquire()
        return super().read()

    def let(self, count):
        """Let the reader take that many pictures, and wait until it has them and asks for the next."""
        reads = self.reads + count
        self.allowed.release(count)
        until(lambda: self.reads == reads)


def live(*cameras, settings=QUICK, clock=None):
    kinds = []
    source = camera.LiveCamera(
        openers(*cameras),
        settings,
        threading.Event(),
        lambda kind, text: kinds.append(kind),
        clock=clock or Clock(),
    )
    return source, kinds


def take(source, count):
    frames = []
    for frame in source:
        frames.append(frame)
        if len(frames) == count:
            source._stop.set()
    return frames


def test_frames_arrive_numbered_with_dropped_ones_counted():
    device = SteppedCamera()
    source, _ = live(device)
    reader = source._open()
    until(lambda: device.reads == 1)
    device.let(1)
    first = source._next_frame(reader)
    device.let(3)
    second = source._next_frame(reader)
    assert (first.index, int(first.image[0, 0])) == (0, 0)
    assert (second.index, int(second.image[0, 0])) == (3, 3)
    assert source.skipped == 2
    reader.abandon()
    device.allowed.release()


def test_a_camera_that_is_pulled_out_comes_back():
    source, kinds = live(
        FakeCamera([PICTURES[0], SourceError("pulled out")]), FakeCamera([PICTURES[1]])
    )
    frames = take(source, 50)
    assert kinds[:2] == ["camera lost", "camera back"]
    assert {int(frame.image[0, 0]) for frame in frames} == {0, 1}


def test_a_camera_that_hangs_is_left_and_opened_anew():
    hanging = HangingCamera(Clock())
    source, kinds = live(hanging, FakeCamera([PICTURES[1]]), clock=hanging.clock)
    source._on_event = lambda kind, text: (hanging.noticed.set(), kinds.append(kind))
    frames = take(source, 3)
    assert kinds == ["camera lost", "camera back"]
    assert int(frames[-1].image[0, 0]) == 1


def test_a_driver_that_raises_anything_is_a_lost_camera():
    source, kinds = live(
        FakeCamera([PICTURES[0], ZeroDivisionError("driver bug")]), FakeCamera([PICTURES[1]])
    )
    take(source, 50)
    assert kinds[:2] == ["camera lost", "camera back"]


def test_opening_is_tried_again_until_it_works():
    gone = SourceError("no such camera; plug it in")
    source, kinds = live(FakeCamera([PICTURES[0], gone]), gone, gone, FakeCamera([PICTURES[1]]))
    take(source, 50)
    assert kinds[:2] == ["camera lost", "camera back"]


def test_the_first_opening_must_work():
    source, _ = live(SourceError("no such camera; plug it in"))
    with pytest.raises(SourceError, match="plug it in"):
        next(iter(source))


def test_stopping_ends_a_silent_camera_whose_time_is_not_over(monkeypatch):
    monkeypatch.setattr(camera, "_CLOSE_TIMEOUT", 0.01)
    source, kinds = live(FakeCamera([FakeCamera.HANG]))
    threading.Timer(0.05, source._stop.set).start()
    assert list(source) == []
    assert kinds == []


@pytest.mark.parametrize("way", ["break", "error"])
def test_the_camera_is_closed_when_the_loop_over_it_ends(way):
    device = FakeCamera(PICTURES)
    source, _ = live(device)
    iterator = iter(source)
    next(iterator)
    if way == "break":
        iterator.close()
    else:
        with pytest.raises(RuntimeError, match="chain"):
            iterator.throw(RuntimeError("the chain failed"))
    assert device.closed


def test_any_error_while_opening_anew_is_tried_again():
    source, kinds = live(
        FakeCamera([PICTURES[0], SourceError("gone")]),
        RuntimeError("busy"),
        FakeCamera([PICTURES[1]]),
    )
    take(source, 50)
    assert kinds[:2] == ["camera lost", "camera back"]


def test_frames_that_fail_are_counted_and_the_camera_is_not_lost():
    bad = FrameError("not to be decoded")
    script = [PICTURES[0], bad, PICTURES[1], bad, bad, PICTURES[2]]
    source, kinds = live(FakeCamera(script))
    frames = list(itertools.islice(source, 50))
    assert int(frames[-1].image[0, 0]) == 2
    assert source.failed_reads == 3
    assert kinds == []


def test_hundreds_of_frames_in_a_row_may_fail_before_the_time_is_over(monkeypatch):
    monkeypatch.setattr(camera, "_FAILURE_PAUSE", 0)
    script = [FrameError("not to be decoded")] * 500
    source, kinds = live(FakeCamera([PICTURES[0], *script, PICTURES[1]], pause=0))
    assert any(int(frame.image[0, 0]) == 1 for frame in source)
    assert source.failed_reads == 500
    assert kinds == []


def test_a_camera_without_a_good_frame_for_the_time_is_lost_and_says_why():
    clock = Clock()

    class OnlyBadFrames(FakeCamera):
        def read(self):
            if not self.script:
                clock.now += 3
                raise FrameError("cam: not to be decoded")
            return super().read()

    texts = []
    source, _ = live(OnlyBadFrames([PICTURES[0]]), FakeCamera([PICTURES[1]]), clock=clock)
    source._on_event = lambda kind, text: texts.append(f"{kind}: {text}")
    assert any(int(frame.image[0, 0]) == 1 for frame in source)
    assert texts[0] == "camera lost: no frame for 10 s: cam: not to be decoded"
    assert source.failed_reads >= 3


def test_a_camera_that_is_left_while_it_fails_is_closed():
    device = FakeCamera([PICTURES[0], *[FrameError("bad")] * 100_000])
    source, _ = live(device)
    frames = iter(source)
    next(frames)
    until(lambda: source.failed_reads > 0)
    frames.close()
    assert device.closed


def test_a_driver_that_quotes_the_address_gives_no_secret_away():
    uri = "rtsp://me:ge/he im@127.0.0.1:1/x"
    texts = []
    source = camera.LiveCamera(
        openers(
            FakeCamera([PICTURES[0], RuntimeError(f"cannot read {uri}")]),
            RuntimeError(f"cannot open {uri}"),
            FakeCamera([PICTURES[1]]),
        ),
        SourceSettings(uri=uri, max_retry_delay=0.1),
        threading.Event(),
        lambda kind, text: texts.append(text),
    )
    assert any(int(frame.image[0, 0]) == 1 for frame in source)
    assert texts[0] == "cannot read rtsp://127.0.0.1:1/x"


def test_a_usb_camera_whose_frame_fails_is_lost_only_once_its_device_is_gone(tmp_path, monkeypatch):
    class Capture:
        def isOpened(self):  # noqa: N802 - OpenCV's name
            return True

        def set(self, *_):
            return True

        def read(self):
            return False, None

    monkeypatch.setattr(devices.cv2, "VideoCapture", lambda *_: Capture())
    path = tmp_path / "video0"
    path.touch()
    device = devices.V4l2(SourceSettings(uri=f"v4l2:{path}"))
    with pytest.raises(FrameError):
        device.read()
    path.unlink()
    with pytest.raises(SourceError, match="no such camera; plug it in") as gone:
        device.read()
    assert not isinstance(gone.value, FrameError)


def test_a_missing_usb_camera_is_named():
    with pytest.raises(SourceError, match=r"/dev/video97: no such camera"):
        devices.V4l2(SourceSettings(uri="v4l2:97"))


def test_a_stream_that_accepts_and_says_nothing_gives_up_and_hides_the_password():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(
            SourceError, match=f"rtsp://127.0.0.1:{port}/x: it does not answer; check that"
        ) as caught:
            devices.Stream(
                SourceSettings(uri=f"rtsp://user:secret@127.0.0.1:{port}/x", frame_timeout=0.5)
            )
    assert "secret" not in str(caught.value)


@pytest.fixture
def picamera2(monkeypatch):
    module = types.ModuleType("picamera2")
    module.Picamera2 = FakePicamera2
    monkeypatch.setitem(sys.modules, "picamera2", module)


@pytest.mark.usefixtures("picamera2")
def test_the_pi_camera_gives_the_y_plane_without_padding():
    device = devices.PiCamera(SourceSettings(width=66, height=64))
    image = device.read()
    device.close()
    assert image.shape == (64, 66)
    assert (image == np.arange(66, dtype=np.uint8)).all()
    assert device._camera.calls == ["start", "cancel_all_and_flush", "stop", "close"]


@pytest.mark.usefixtures("picamera2")
def test_a_pi_cameras_failed_request_is_one_frame_and_its_silence_is_the_end(monkeypatch):
    device = devices.PiCamera(SourceSettings(width=66, height=64))

    def fail(*_, **__):
        raise RuntimeError("request cancelled")

    def stay_silent(*_, **__):
        raise TimeoutError

    monkeypatch.setattr(device._camera, "capture_array", fail)
    with pytest.raises(FrameError, match="picamera: request cancelled"):
        device.read()
    monkeypatch.setattr(device._camera, "capture_array", stay_silent)
    with pytest.raises(TimeoutError):
        device.read()
    device.close()


@pytest.mark.usefixtures("picamera2")
def test_a_pi_camera_that_is_not_there_is_named():
    with pytest.raises(SourceError, match="picamera:3"):
        devices.PiCamera(SourceSettings(uri="picamera:3"))


def test_without_picamera2_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(RuntimeMissingError, match="apt install python3-picamera2"):
        devices.PiCamera(SourceSettings())


def real_methods():
    files = list((ROOT / ".venv-tflite" / "picamera2" / "picamera2").glob("picamera2.py"))
    if not files:
        pytest.skip("picamera2 0.3.38 is not unpacked; run make .venv-tflite/ready")
    module = ast.parse(files[0].read_text())
    (definition,) = [
        node for node in module.body if isinstance(node, ast.ClassDef) and node.name == "Picamera2"
    ]
    return {
        node.name: [a.arg for a in node.args.args]
        for node in definition.body
        if isinstance(node, ast.FunctionDef)
    }


def test_the_fake_has_the_real_packages_methods_and_arguments():
    real = real_methods()
    for name, method in inspect.getmembers(FakePicamera2, inspect.isfunction):
        parameters = list(inspect.signature(method).parameters)
        assert name in real, name
        assert set(parameters) <= set(real[name]), name
        keywords = list(
            itertools.takewhile(lambda key: key not in ("buffer_count", "controls"), parameters)
        )
        assert real[name][: len(keywords)] == keywords, name


# --- light and button --------------------------------------------------------------------------------------------


@pytest.fixture
def pins():
    gpiozero = pytest.importorskip("gpiozero")
    from gpiozero.pins.mock import MockFactory

    gpiozero.Device.pin_factory = MockFactory()
    yield gpiozero.Device.pin_factory
    gpiozero.Device.pin_factory.reset()


def test_the_light_is_on_while_the_camera_is_and_the_button_pauses_both(pins):
    from mien_edge.service.gpio import GpioSwitch
    from mien_edge.settings import GpioSettings

    pings, events, stop = [], [], threading.Event()
    switch = GpioSwitch(GpioSettings(led=17, button=27), pings.append)
    light, button = pins.pin(17), pins.pin(27)
    cameras = [FakeCamera([np.zeros((4, 4), np.uint8)]) for _ in range(2)]
    live = camera.LiveCamera(
        openers(*cameras),
        SourceSettings(),
        stop,
        lambda *event: events.append(event[0]),
        switch,
        Clock(),
    )
    frames = iter(live)

    def press():
        was = switch.paused
        button.drive_low()
        until(lambda: switch.paused != was)
        button.drive_high()

    assert not light.state
    next(frames)
    assert light.state
    press()
    states = []

    def later():
        until(lambda: "paused" in pings and cameras[0].closed)
        states.append((light.state, cameras[0].closed, events[-1]))
        press()

    thread = threading.Thread(target=later)
    thread.start()
    next(frames)
    thread.join()
    assert states == [(False, True, "paused")], "light and camera off"
    assert light.state
    assert events == ["paused", "resumed"]
    assert "paused" in pings, "a pause is no fault"
    stop.set()
    assert list(frames) == []
    assert not light.state
    switch.close()


def test_a_camera_that_is_lost_or_does_not_open_has_no_light(pins):
    from mien_edge.service.gpio import GpioSwitch
    from mien_edge.settings import GpioSettings

    switch, stop, tries = GpioSwitch(GpioSettings(led=17)), threading.Event(), []
    first = FakeCamera([np.zeros((4, 4), np.uint8), SourceError("out")])

    def opener():
        tries.append(pins.pin(17).state)
        if len(tries) == 1:
            return first
        if len(tries) == 3:
            stop.set()
        raise SourceError("gone")

    frames = iter(camera.LiveCamera(opener, QUICK, stop, pause_control=switch, clock=Clock()))
    next(frames)
    assert pins.pin(17).state
    list(frames)
    assert tries == [False] * 3
    assert not pins.pin(17).state
    switch.close()


def test_a_pin_that_cannot_be_used_is_one_clear_error(pins):
    from mien_edge.errors import SettingsError
    from mien_edge.service.gpio import GpioSwitch
    from mien_edge.settings import GpioSettings

    first = GpioSwitch(GpioSettings(led=17))
    with pytest.raises(SettingsError, match="pin 17 cannot be used"):
        GpioSwitch(GpioSettings(led=17))
    first.close()


def test_a_pause_outlives_a_restart_and_a_lost_camera_stays_off(pins, tmp_path):
    from mien_edge.service.gpio import GpioSwitch
    from mien_edge.settings import GpioSettings

    (tmp_path / "paused").touch()
    stop, opened, pings = threading.Event(), [], []

    def alive(text):
        pings.append(text)
        if len(pings) == 3:
            stop.set()

    switch = GpioSwitch(GpioSettings(led=17, button=27), alive, tmp_path)

    def opener():
        opened.append(1)
        return FakeCamera([np.zeros((4, 4), np.uint8)])

    assert list(camera.LiveCamera(opener, SourceSettings(), stop, pause_control=switch)) == []
    assert opened == []
    switch._on_pressed()
    assert not (tmp_path / "paused").exists()
    switch.close()
