"""Movement, heat and rest."""

import numpy as np
import pytest
from mien_edge import testing
from mien_edge.chain import motion
from mien_edge.service import throttle
from mien_edge.settings import ThrottleSettings
from mien_edge.status import health
from mien_edge.status.health import Health

STILL = np.full((480, 640), 120, np.uint8)


def noisy(level, rng):
    return np.clip(STILL + rng.normal(0, level, STILL.shape), 0, 255).astype(np.uint8)


def test_noise_is_no_movement_and_a_hand_is():
    rng = np.random.default_rng(0)
    before = motion.thumbnail(noisy(15, rng))
    assert not any(motion.moved(before, motion.thumbnail(noisy(15, rng))) for _ in range(20))
    hand = noisy(15, rng)
    hand[200:280, 300:380] += 40
    assert motion.moved(before, motion.thumbnail(hand))
    assert motion.moved(None, before)


def device(tmp_path, **files):
    """A fake sysfs tree, as Raspberry Pi OS has it."""
    places = {
        "temp": "sys/class/thermal/thermal_zone0/temp",
        "throttled": "sys/devices/platform/soc/soc:firmware/get_throttled",
        "hwmon": "sys/class/hwmon/hwmon1/name",
        "alarm": "sys/class/hwmon/hwmon1/in0_lcrit_alarm",
        "memory": "proc/meminfo",
        "io": "proc/self/io",
    }
    for name, text in files.items():
        path = tmp_path / places[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return tmp_path


def test_a_pi_tells_its_heat_and_what_throttles_it(tmp_path):
    root = device(
        tmp_path, temp="81234", throttled="50005", memory="MemTotal: 1 kB\nMemAvailable:  500000 kB"
    )
    found = health.read(root)
    assert found.temperature == 81.2
    assert found.throttled_now == ("under-voltage", "throttled")
    assert found.throttled_since_boot == ("under-voltage", "throttled")
    assert found.available_megabytes == 512.0


def test_a_pi_5_tells_of_under_voltage_by_its_sensor(tmp_path):
    found = health.read(device(tmp_path, temp="45000", hwmon="rpi_volt", alarm="1"))
    assert (found.throttled_now, found.throttled_since_boot) == (("under-voltage",), None)


def test_a_machine_that_tells_nothing_is_not_a_fault(tmp_path):
    assert health.read(tmp_path) == Health()
    assert health.read(device(tmp_path, temp="nonsense", throttled="?")) == Health()


def test_what_the_process_writes_is_counted(tmp_path):
    root = device(tmp_path, io="rchar: 1\nwrite_bytes: 4096\ncancelled_write_bytes: 0")
    assert health.written_bytes(root) == 4096


def test_the_rate_falls_before_the_soc_throttles_and_comes_back(tmp_path):
    events, heat = (
        [],
        iter(["60000", "76000", "76000", "72000", "69000", "76000", *["67000"] * 6, "76000"]),
    )
    settings = ThrottleSettings(hot=75, cool=68, min_fps=5)
    governor = throttle.Governor(
        settings,
        15.0,
        lambda *event: events.append(event),
        lambda: health.read(device(tmp_path, temp=next(heat))),
    )
    rates = [round(governor(now * 5.0), 2) for now in range(13)]
    assert rates == [15, 12, 9.6, 9.6, 9.6, 7.68, 9.6, 12, 15, 15, 15, 15, 12]
    assert [kind for kind, _ in events] == ["throttled", "cooled"], "not again within ten minutes"
    assert "76.0 °C" in events[0][1]


def test_the_rate_never_falls_below_the_slowest(tmp_path):
    governor = throttle.Governor(
        ThrottleSettings(min_fps=5),
        15.0,
        read_health=lambda: Health(99.0, ("throttled",), (), None),
    )
    assert [governor(i * 5.0) for i in range(20)][-1] == 5
    slow = throttle.Governor(
        ThrottleSettings(min_fps=5), 1.0, read_health=lambda: Health(99.0, (), (), None)
    )
    assert slow(0.0) == 1.0


def test_throttling_counts_as_heat_where_no_temperature_is_told():
    governor = throttle.Governor(
        ThrottleSettings(), 15.0, read_health=lambda: Health(None, ("throttled",), (), None)
    )
    assert governor(0.0) == 12


class Camera:
    """A live source at `fps`, on a clock of its own."""

    paths, live, skipped = (), True, 0

    def __init__(self, pictures, fps=15.0):
        self.pictures, self.fps, self.now = pictures, fps, 0.0

    def __iter__(self):
        for frame in testing.frames(self.pictures, self.fps):
            self.now = frame.captured_at
            yield frame


def passed(pictures, settings, fps=15.0, max_fps=15.0):
    camera = Camera(pictures, fps)
    governor = throttle.Governor(settings, max_fps, read_health=lambda: Health(40.0, (), (), None))
    paced = throttle.ThrottledSource(camera, settings, governor, lambda: camera.now)
    return [frame.index for frame in paced]


def moving(count):
    return [np.full((60, 80), 255 * (i % 2), np.uint8) for i in range(count)]


@pytest.mark.parametrize(("max_fps", "expected"), [(15.0, 150), (7.5, 75), (5.0, 50), (30.0, 150)])
def test_a_camera_faster_than_the_rate_loses_the_rest_evenly(max_fps, expected):
    indices = passed(moving(150), ThrottleSettings(), max_fps=max_fps)
    assert abs(len(indices) - expected) <= 1
    assert max(np.diff(indices)) <= round(15 / max_fps) + 1


def test_where_nothing_moves_the_chain_rests_and_a_movement_wakes_it_at_once():
    pictures = [np.zeros((60, 80), np.uint8)] * 600
    pictures[450:] = moving(150)
    indices = passed(pictures, ThrottleSettings(idle_after=10, idle_fps=1))
    assert indices[:150] == list(range(150)), "full rate before it rests"
    assert 19 <= len([index for index in indices if 151 <= index < 450]) <= 21, (
        "one a second for twenty seconds"
    )
    assert [index for index in indices if index >= 451] == list(range(451, 600)), "full rate again"


def test_a_chain_that_may_not_rest_does_not():
    assert len(passed([np.zeros((60, 80), np.uint8)] * 600, ThrottleSettings(idle_after=0))) == 600


def test_a_weak_power_supply_does_not_make_the_rate_swing():
    events, limits = [], []
    governor = throttle.Governor(
        ThrottleSettings(),
        15.0,
        lambda *event: events.append(event),
        lambda: Health(50.0, limits[-1], (), None),
    )
    rates = []
    for i in range(120):
        limits.append(("throttled",) if i % 2 else ())
        rates.append(governor(i * 5.0))
    assert rates[-1] == rates[-20], "throttled each ten seconds: it stays low"
    assert len(events) == 1
