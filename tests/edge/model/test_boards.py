"""What the whole line may cost on a Raspberry Pi."""

import math

import pytest
from mien_edge.model import boards, tflite
from mien_edge.model.boards import BOARDS, Load
from mien_edge.model.bundle import find_bundle, load_bundle
from mien_edge.settings import DetectSettings, Settings


@pytest.fixture(scope="module")
def operators():
    return tflite.operators(load_bundle(find_bundle("")).model.read_bytes())


def load(**values):
    defaults = {
        "size": 320,
        "fps": 15.0,
        "faces": 1.0,
        "looks": 2.0,
        "reference_look": 4.0,
        "other": 0.5,
    }
    return Load(**defaults | values)


def test_the_detector_takes_what_was_published_at_the_sizes_that_were_measured():
    zero = BOARDS["zero2w"]
    assert zero.detector_milliseconds(640) == pytest.approx(380.04)
    assert zero.detector_milliseconds(320) == pytest.approx(380.04 * 41.079 / 143.775)


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_a_larger_picture_never_takes_less_and_one_of_the_same_padding_the_same(board):
    sizes = range(64, 1281, 32)
    milliseconds = [board.detector_milliseconds(size) for size in sizes]
    assert milliseconds == sorted(milliseconds)
    assert board.detector_milliseconds(240) == board.detector_milliseconds(256)


def test_a_second_is_looks_and_frames(operators):
    line = boards.estimate_line(operators, load(), BOARDS["pi4"])
    factor = BOARDS["pi4"].detector_milliseconds(320) / 4.0
    frame = line.network + 0.5 * factor
    expected = 2.0 * line.detector + 15.0 * frame
    assert math.isclose(line.milliseconds, expected)
    assert math.isclose(line.cores, expected / 1000)
    assert f"= {expected:.0f} ms a second" in line.as_text()


def test_fewer_looks_and_a_smaller_picture_take_less(operators):
    def cores(**values):
        return boards.estimate_line(operators, load(**values), BOARDS["zero2w"]).cores

    assert cores(looks=2.0) < cores(looks=15.0)
    assert cores(size=256) < cores(size=320)


@pytest.mark.parametrize(
    ("model", "key"),
    [
        ("Raspberry Pi Zero 2 W Rev 1.0", "zero2w"),
        ("Raspberry Pi 4 Model B Rev 1.1", "pi4"),
        ("Raspberry Pi 5 Model B Rev 1.0", "pi5"),
        ("Raspberry Pi 3 Model B Rev 1.2", ""),
        ("", ""),
    ],
)
def test_a_board_is_known_by_its_device_tree(model, key):
    assert boards.board_of(model) == key


def test_the_proposed_settings_change_what_the_text_says_and_nothing_else():
    zero = BOARDS["zero2w"]
    heavy = Settings(detect=DetectSettings(size=640, max_distance=3.0, interval=0.0, blur=False))
    text = boards.proposal_text(heavy, zero)
    assert text == "detect.size = 256, detect.max_distance = 0.0, detect.interval = 0.5"
    light = boards.proposed(heavy, zero)
    assert light == Settings(detect=DetectSettings(size=256, blur=False))
    assert boards.proposal_text(light, zero) == ""


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_with_the_proposed_settings_one_face_keeps_one_core_busy_at_most(board, operators):
    settings = boards.proposed(Settings(), board)
    assert boards.expected(operators, settings, board).cores <= 1


def test_searching_every_frame_of_large_pictures_takes_more(operators):
    zero = BOARDS["zero2w"]
    heavy = Settings(detect=DetectSettings(size=640, interval=0.0))
    light = boards.proposed(heavy, zero)
    heavy_cores = boards.expected(operators, heavy, zero).cores
    assert heavy_cores > 5 > 1 > boards.expected(operators, light, zero).cores
