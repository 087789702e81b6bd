"""When the whole picture is searched, by a detector that counts; and how well real ones are followed."""

import itertools

import cv2
import numpy as np
import pytest
from mien_edge import testing
from mien_edge.chain import detect, follow, motion, photos
from mien_edge.settings import DetectSettings
from mien_edge.values import Box, Face, Frame

INTERVAL = 0.5
FLAT = np.full((240, 320, 3), 90, np.uint8)
FACE = Face(Box(173, 60, 100, 130), 0.9)


class Detector:
    """What it is told to see, one entry a call, the last one for ever; `times` are those of its calls."""

    def __init__(self, *script):
        self.script = list(script)
        self.times = []

    def __call__(self, frame):
        self.times.append(frame.source_time)
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]


def frames(images, fps=15.0, **values):
    return [Frame(image, i, 1000 + i / fps, **values) for i, image in enumerate(images)]


def searched(follower, of):
    """The indices of the frames in which the detector was called."""
    indices = []
    for frame in of:
        calls = len(follower.detect.times)
        follower(frame)
        if len(follower.detect.times) > calls:
            indices.append(frame.index)
    return indices


def test_scenes_are_told_apart_and_motion_in_one_is_not_taken_for_another(astronaut):
    gray = detect.gray(astronaut)
    pictures = [gray, gray[:, ::-1], gray[::-1], FLAT[..., 0], np.full((90, 60), 20, np.uint8)]
    scenes = [motion.block_means(np.ascontiguousarray(picture)) for picture in pictures]
    for first, second in itertools.combinations(scenes, 2):
        assert motion.is_cut(first, second)
    swaying = [motion.block_means(detect.gray(picture)) for picture in swayed(astronaut, 45)]
    assert not any(itertools.starmap(motion.is_cut, itertools.pairwise(swaying)))
    noise = np.random.default_rng(0).normal(0, 15, gray.shape)
    noisy = (gray + noise).clip(0, 255).astype(np.uint8)
    assert not motion.is_cut(scenes[0], motion.block_means(noisy))


@pytest.mark.parametrize("fps", [1, 5, 10, 15, 24, 30, 60])
def test_the_whole_picture_is_searched_in_time_for_a_new_face_and_not_much_earlier(fps):
    follower = follow.Follower(INTERVAL, Detector(()))
    searched(follower, frames([FLAT] * (3 * fps), fps))
    gaps = np.diff(follower.detect.times)
    assert (gaps <= max(INTERVAL, 1 / fps) + 1e-6).all()
    assert (gaps > INTERVAL - 2 / fps).all()


def test_no_frame_is_later_than_the_interval_after_a_search_however_many_were_left_out():
    steps = [0.02, 0.03, 0.2, 0.15, 0.01, 0.05, 0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.05, 3.0]
    follower = follow.Follower(INTERVAL, Detector(()))
    for index, time in enumerate(np.cumsum(steps * 4)):
        follower(Frame(FLAT, index, 1000 + time))
        assert 1000 + time - follower.detect.times[-1] <= INTERVAL
    assert len(follower.detect.times) < 0.5 * index


def test_a_videos_frames_count_by_their_position():
    follower = follow.Follower(INTERVAL, Detector(()))
    clip = [Frame(FLAT, i, 1000.0, "clip.mp4", i / 10) for i in range(11)]
    assert searched(follower, clip) == [0, 5, 10]


def test_a_new_face_is_seen_within_the_interval_while_another_is_followed(astronaut):
    newcomer = Face(Box(300, 200, 60, 60), 0.8)
    detector = Detector((FACE,), (FACE, newcomer))
    follower = follow.Follower(INTERVAL, detector)
    faces = [follower(frame) for frame in frames([astronaut] * 9)]
    assert [len(each) for each in faces] == [1] * 7 + [2] * 2


def test_a_lost_face_is_searched_for_in_the_very_frame(astronaut):
    follower = follow.Follower(INTERVAL, Detector((FACE,)))
    covered = astronaut.copy()
    covered[40:210, 150:300] = 128
    assert searched(follower, frames([astronaut] * 3 + [covered])) == [0, 3]


def test_a_missing_face_is_searched_for_in_each_frame_until_it_is_back(astronaut):
    detector = Detector((FACE,), (), (), (FACE,))
    follower = follow.Follower(INTERVAL, detector)
    covered = astronaut.copy()
    covered[40:210, 150:300] = 128
    pictures = [astronaut] * 3 + [covered] * 2 + [astronaut] * 5
    assert searched(follower, frames(pictures)) == [0, 3, 4, 5]


def test_a_face_that_stays_away_is_searched_for_in_each_frame_for_one_interval_only(astronaut):
    follower = follow.Follower(INTERVAL, Detector((FACE,), ()))
    covered = astronaut.copy()
    covered[40:210, 150:300] = 128
    pictures = [astronaut] * 2 + [covered] * 18
    assert searched(follower, frames(pictures)) == [0, *range(2, 10), 16]


def test_a_new_scene_is_searched_at_once_with_or_without_faces(astronaut):
    other = astronaut[:, ::-1].copy()
    empty = follow.Follower(INTERVAL, Detector(()))
    assert searched(empty, frames([astronaut] * 3 + [other] * 3)) == [0, 3]
    busy = follow.Follower(INTERVAL, Detector((FACE,)))
    assert searched(busy, frames([astronaut] * 3 + [other] * 3)) == [0, 3]


def test_another_file_another_size_and_a_clock_set_back_are_searched_at_once():
    first = frames([FLAT] * 2, name="a.mp4", position=0.0)
    second = frames([FLAT] * 2, name="b.mp4", position=0.0)
    larger = frames([np.full((480, 640, 3), 90, np.uint8)] * 2, name="b.mp4", position=0.0)
    earlier = [Frame(larger[0].image, 9, 0.0, "b.mp4", -0.1)]
    follower = follow.Follower(INTERVAL, Detector(()))
    for frame in (*first, *second, *larger, *earlier):
        follower(frame)
    assert len(follower.detect.times) == 4


def test_every_photograph_is_searched(astronaut):
    follower = follow.Follower(INTERVAL, Detector((FACE,)))
    assert searched(follower, frames([astronaut] * 3, name="a.jpg")) == [0, 1, 2]


def test_an_interval_of_0_searches_every_frame():
    assert isinstance(follow.following_detector(DetectSettings(interval=0)), detect.YuNet)
    assert isinstance(follow.following_detector(DetectSettings()), follow.Follower)


def test_faces_stay_ordered_by_size_while_they_are_followed(astronaut):
    small = Face(Box(300, 200, 60, 60), 0.8)
    follower = follow.Follower(INTERVAL, Detector((FACE, small)))
    for frame in frames([astronaut] * 4):
        faces = follower(frame)
    assert [face.score for face in faces] == [0.9, 0.8]


def swayed(image, count):
    """Pictures in which a photograph sways, nods and comes nearer by a tenth."""
    height, width = image.shape[:2]
    for index in range(count):
        angle = 2 * np.pi * index / count
        matrix = cv2.getRotationMatrix2D(
            (width / 2, height / 2), 8 * np.sin(angle), 1 + 0.1 * np.sin(angle)
        )
        matrix[:, 2] += (0.12 * width * np.sin(angle), 0.05 * height * np.sin(2 * angle))
        yield cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)


def overlaps(image, count=45):
    """IoU of followed and detected box in each frame, and how many were searched."""
    every_frame = detect.detector(DetectSettings())
    calls = itertools.count()

    def counting(frame):
        next(calls)
        return every_frame(frame)

    follower = follow.Follower(INTERVAL, counting)
    values = []
    for frame in frames(swayed(image, count)):
        faces = every_frame(frame)
        followed = follower(frame)
        if faces and followed:
            values.append(faces[0].box.iou(followed[0].box))
    return values, next(calls)


def test_a_moving_face_is_followed_as_the_detector_would_see_it(astronaut):
    values, searches = overlaps(astronaut)
    assert np.median(values) > 0.85
    assert len(values) == 45
    assert searches == 7


def test_labelled_photographs_that_move_are_followed(photographs):
    values = []
    searches = 0
    for path in sorted(photographs.glob("*.jpg"))[::35]:
        image = photos.read_photo(path)
        padded = cv2.copyMakeBorder(image, 65, 65, 145, 145, cv2.BORDER_REPLICATE)
        each, count = overlaps(padded, 22)
        values += each
        searches += count
    assert len(values) > 100
    assert np.median(values) >= 0.85
    assert searches < 0.35 * len(values)


def test_testing_frames_are_a_camera_that_is_followed():
    follower = follow.Follower(INTERVAL, Detector(()))
    assert searched(follower, testing.frames([FLAT] * 3)) == [0]
