"""The engine on plain lists, and the whole chain on a real photograph with the committed bundle."""

import numpy as np
import pytest
from mien_edge import testing
from mien_edge.chain import classify, detect, pipeline, quality, sources
from mien_edge.model.interpreter import Classifier
from mien_edge.service.run import RunOptions, Service, build_chain, load_model
from mien_edge.settings import (
    DetectSettings,
    ModelSettings,
    QualitySettings,
    Settings,
    SourceSettings,
)
from mien_edge.values import Box, Face, Frame


def test_the_engine_passes_each_frame_to_every_sink_and_watcher():
    capture = testing.Capture()
    indices = []
    images = [np.zeros((2, 2), np.uint8)] * 3
    count = pipeline.run(
        testing.frames(images),
        lambda frame: (testing.reading(time=frame.captured_at),) * frame.index,
        [capture],
        [lambda frame, readings: indices.append(frame.index)],
    )
    assert count == 3
    assert [len(readings) for readings in capture.frames] == [0, 1, 2]
    assert indices == [0, 1, 2]


def test_the_engine_stops_after_the_frame_in_which_it_is_told():
    capture = testing.Capture()
    pipeline.run(
        testing.frames([np.zeros((2, 2), np.uint8)] * 9),
        lambda frame: (),
        [capture],
        (),
        lambda: len(capture.frames) == 4,
    )
    assert len(capture.frames) == 4


def test_a_chain_calls_its_stages_in_order():
    calls = []

    def stage(name, result):
        return lambda *arguments: calls.append((name, len(arguments))) or result

    chain = pipeline.Chain(
        stage("detect", ()), stage("track", ()), stage("classify", ()), stage("smooth", ("end",))
    )
    assert chain(Frame(np.zeros((2, 2), np.uint8), 0, 0.0)) == ("end",)
    assert calls == [("detect", 1), ("track", 2), ("classify", 2), ("smooth", 1)]


@pytest.mark.parametrize("method", ["yunet", "haar"])
@pytest.mark.parametrize("colour", [True, False], ids=["colour", "gray"])
def test_each_detector_finds_the_one_face(astronaut, method, colour):
    image = astronaut if colour else detect.gray(astronaut)
    (face,) = detect.detector(DetectSettings(method=method, size=512))(Frame(image, 0, 0.0))
    x, y = face.box.centre
    assert 195 < x < 255
    assert 80 < y < 150
    assert 80 < face.box.height < 150


def test_yunet_tells_where_the_eyes_are(astronaut):
    (face,) = detect.YuNet(DetectSettings())(Frame(astronaut, 0, 0.0))
    (right_eye, left_eye, nose, *_) = face.landmarks
    assert right_eye[0] < nose[0] < left_eye[0]
    assert nose[1] > right_eye[1]
    assert quality.yaw_ratio(face) < 0.3


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 900, 3), (900, 3), (7, 7)])
@pytest.mark.parametrize("method", ["yunet", "haar"])
def test_pictures_too_small_for_a_face_have_none(shape, method):
    assert (
        detect.detector(DetectSettings(method=method))(Frame(np.full(shape, 80, np.uint8), 0, 0.0))
        == ()
    )


def test_a_12_megapixel_picture_works(astronaut):
    import cv2

    large = cv2.copyMakeBorder(
        cv2.resize(astronaut, (3000, 3000)), 0, 0, 0, 1000, cv2.BORDER_CONSTANT
    )
    (face,) = detect.YuNet(DetectSettings())(Frame(large, 0, 0.0))
    assert 400 < face.box.height < 900


def face(size=80.0, nose=40.0):
    return Face(
        Box(0, 0, size, size),
        0.9,
        ((20.0, 30.0), (60.0, 30.0), (nose, 50.0), (25.0, 70.0), (55.0, 70.0)),
    )


def test_small_turned_and_blurred_faces_are_told_as_such(astronaut):
    settings = QualitySettings(min_face_pixels=32, max_yaw=0.55)
    assert quality.before_crop(face(), settings) == "good"
    assert quality.before_crop(face(size=20), settings) == "too small"
    assert quality.before_crop(face(nose=75), settings) == "turned away"
    crop = detect.gray(astronaut)[60:156, 175:271]
    import cv2

    assert quality.after_crop(cv2.resize(crop, (48, 48)), QualitySettings()) == "good"
    assert quality.after_crop(np.full((48, 48), 9, np.uint8), QualitySettings()) == "blurred"
    assert (
        quality.after_crop(
            cv2.GaussianBlur(cv2.resize(crop, (48, 48)), (0, 0), 6), QualitySettings()
        )
        == "blurred"
    )


def test_levelling_brings_the_eyes_to_one_height():
    import cv2

    image = np.zeros((300, 300), np.uint8)
    cv2.circle(image, (120, 130), 6, 255, -1)
    cv2.circle(image, (180, 170), 6, 255, -1)
    tilted = Face(Box(100, 100, 100, 100), 0.9, ((120.0, 130.0), (180.0, 170.0)))
    patch, box = quality.align_eyes(image, tilted)
    rows = np.argwhere(patch > 128)[:, 0]
    assert rows.max() - rows.min() < 16
    assert box.width == 100


def test_the_classifier_gives_a_distribution(bundle, astronaut):
    stage = classify.Classify(bundle, Classifier(bundle.model), QualitySettings())
    frame = Frame(astronaut, 0, 0.0)
    (reading,) = stage(frame, detect.YuNet(DetectSettings())(frame))
    assert sum(reading.emotion.scores) == pytest.approx(1)
    assert (reading.label, reading.quality, reading.model) == (None, "good", bundle.card.id)


def test_the_demo_goes_through_the_whole_line(bundle):
    capture = testing.Capture()
    source = sources.Demo(15, paced=False)
    settings = Settings(source=SourceSettings(uri="demo"))
    model = load_model(settings, bundle)
    summary = Service(settings, model, source=source, sinks=[capture]).run()
    assert summary.frames == 240
    assert summary.readings > 150
    tracks = {reading.track for readings in capture.frames for reading in readings}
    assert len(tracks) <= 3
    assert () in capture.frames
    labels = [reading.label for readings in capture.frames for reading in readings if reading.label]
    assert labels.count("happy") > 0.9 * len(labels) > 0


def test_more_threads_compute_the_same(bundle):
    one, two = (
        build_chain(settings, load_model(settings, bundle))
        for settings in (Settings(), Settings(model=ModelSettings(threads=2)))
    )
    frame = Frame(sources.Demo(15).picture(0), 0, 0.0)
    assert one(frame)[0].emotion == two(frame)[0].emotion


def test_the_run_ends_after_the_frames_asked_for(bundle):
    model = load_model(Settings(), bundle)
    source = sources.Demo(15, paced=False)
    summary = Service(Settings(), model, RunOptions(max_frames=5), source=source).run()
    assert summary.frames == 5


def test_labelled_photographs_are_found_and_mostly_told_better_than_by_chance(bundle, photographs):
    settings = Settings(source=SourceSettings(uri=str(photographs)))
    result = Service(settings, load_model(settings, bundle)).run().score
    assert result["photographs"] == 274
    assert result["faces_missed"] <= 3
    assert result["accuracy"] > 0.55
