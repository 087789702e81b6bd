"""Photographs become a data set: the device's crops, labels by name, groups whole, everything odd listed."""

import dataclasses

import cv2
import numpy as np
import pytest
from mien_edge.chain import detect
from mien_edge.contract import LABELS
from mien_edge.errors import DataError
from mien_edge.settings import DetectSettings
from mien_edge.values import Box, Frame
from mien_train import cli
from mien_train.data import (
    audit,
    augment,
    balance,
    findings,
    heads,
    imported,
    label_map,
    mixture,
    read,
    sights,
    splits,
)
from mien_train.data.photographs import load_photographs
from mien_train.data.source import DataSource
from mien_train.training import samples
from mien_train.training.recipes import RECIPES
from small_data import picture


@pytest.fixture(scope="module")
def portrait(astronaut):
    """(300, 300, 3) BGR with one face."""
    return astronaut[0:300, 100:400]


@pytest.fixture
def photos(tmp_path, portrait):
    """A folder of one person's photographs of three labels, an empty wall and two people."""
    folder = tmp_path / "photos"
    for index, (word, person) in enumerate(
        [("Happiness", "anna"), ("sad", "anna"), ("surprised", "ben"), ("sad", "cleo")]
    ):
        photograph = np.ascontiguousarray(portrait[:, :, ::-1] if index % 2 else portrait)
        photograph = cv2.convertScaleAbs(photograph, alpha=1, beta=20 * index)
        save(folder / word / person / f"{index}.jpg", photograph)
    save(folder / "sad" / "wall.jpg", np.full((240, 320, 3), 128, np.uint8))
    save(folder / "sad" / "two.jpg", np.hstack([portrait, portrait[:, ::-1]]))
    return folder


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def test_a_face_is_cropped_as_the_device_crops_it_to_the_pixel(tmp_path, portrait):
    save(tmp_path / "happy" / "a.png", portrait)
    dataset = load_photographs(tmp_path)
    (face,) = detect.detector(DetectSettings())(Frame(portrait, 0, 0.0))
    for recipe in RECIPES.values():
        preprocess = dataclasses.replace(recipe.preprocess, normalization="none")
        assert (dataset.images[0] == preprocess(detect.gray(portrait), face.box)).all()
    assert (dataset.surroundings[0][24:72, 24:72] == dataset.images[0]).all()
    assert dataset.label_names == ("happy",)


def test_a_gray_picture_of_48_pixels_stays_what_it_is(tmp_path):
    crop = picture(3, np.random.default_rng(0))
    save(tmp_path / "test" / "happy" / "PrivateTest_1.png", crop)
    dataset = load_photographs(tmp_path)
    assert (dataset.images[0] == crop).all()
    assert dataset.surroundings is dataset.groups is None
    assert (dataset.label_names, dataset.labels.tolist()) == (LABELS, [3])
    assert read.USAGES[dataset.usages[0]] == "PrivateTest"


def test_what_is_odd_is_listed_by_name_and_left_out_or_taken(photos):
    dataset = load_photographs(photos)
    listed = {(found.kind, found.name, found.is_left_out) for found in dataset.findings}
    assert (findings.NO_FACE, "sad/wall.jpg", True) in listed
    assert (findings.SEVERAL_FACES, "sad/two.jpg", False) in listed
    assert "sad/wall.jpg" not in dataset.names
    assert len(dataset) == 5
    page = audit.as_html(audit.audit(dataset), dataset, photos)
    assert "sad/wall.jpg" in page
    assert page.count("data:image/png") >= 2


def test_words_are_matched_to_labels_and_a_map_renames_and_leaves_out(photos, tmp_path):
    assert load_photographs(photos).label_names == ("happy", "sad", "surprise")
    table = tmp_path / "map.csv"
    table.write_text("word,label\nsad,tired\nsurprised,\n")
    dataset = load_photographs(photos, table)
    assert dataset.label_names == ("happy", "tired")
    assert load_photographs(photos).sha256 != dataset.sha256
    table.write_text("word,label\nsad,none\n")
    with pytest.raises(DataError, match=r"map.csv: line 2: 'none' cannot be a label"):
        load_photographs(photos, table)


def test_labels_of_which_none_is_known_are_the_data_sets_own():
    words = ["tired", "Wide Awake"]
    assert label_map.match_labels(words, {}, "x") == {"tired": "tired", "Wide Awake": "wide-awake"}
    with pytest.raises(DataError, match="unknown labels 'tired'"):
        label_map.match_labels(["tired", "joy"], {}, "x")


def test_a_face_is_searched_once_wherever_its_picture_lies(photos, tmp_path, monkeypatch):
    first = load_photographs(photos)
    photos.rename(tmp_path / "moved")
    monkeypatch.setattr(sights, "_detector", None)
    again = load_photographs(tmp_path / "moved")
    assert (again.images == first.images).all()


def test_a_damaged_cache_of_faces_is_begun_anew(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = load_photographs(photos)
    (tmp_path / "cache" / "mien" / "photographs.sqlite").write_bytes(b"no database" * 1000)
    assert (load_photographs(photos).images == first.images).all()


def test_a_box_tells_which_of_two_faces_is_meant(tmp_path, portrait):
    save(tmp_path / "two.png", np.hstack([portrait, portrait[:, ::-1]]))
    (face,) = detect.detector(DetectSettings())(Frame(portrait, 0, 0.0))
    mirrored = Box(600 - face.box.x - face.box.width, *face.box[1:])
    lines = ["file,label,box"]
    lines += [f"two.png,happy,{' '.join(map(str, box))}" for box in (face.box, mirrored)]
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    dataset = load_photographs(tmp_path)
    assert len(dataset) == 2
    assert dataset.findings == ()
    left, right = dataset.images.astype(int)
    assert 2 * np.abs(left - right[:, ::-1]).mean() < np.abs(left - right).mean()


def test_the_imported_file_gives_the_same_data_set_without_the_photographs(photos, tmp_path):
    into = tmp_path / "faces.npz"
    words = ["data", "import", str(photos), "--into", str(into)]
    assert cli.main(words) == 0
    dataset = DataSource(photos).dataset
    again = DataSource(into).dataset
    assert (again.sha256, again.label_names) == (dataset.sha256, dataset.label_names)
    assert again.findings == dataset.findings
    for name in ("images", "surroundings", "labels", "usages", "groups", "names", "boxes"):
        assert (getattr(again, name) == getattr(dataset, name)).all()
    into.write_bytes(into.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"faces.npz: no file of imported faces, or a damaged one"):
        imported.load(into)


def test_an_import_that_cannot_be_written_is_refused_before_a_picture_is_opened(
    photos, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("mien_train.data.photographs.load_photographs", None)
    (tmp_path / "file").touch()
    for into, reason in ((tmp_path / "a.csv", "ends in .npz"), (tmp_path / "file/a.npz", "file")):
        assert cli.main(["data", "import", str(photos), "--into", str(into)]) == 1
        assert reason in capsys.readouterr().err


def rows_of(count, **fields):
    """A data set of noise whose rows differ."""
    rng = np.random.default_rng(7)
    values = {
        "images": rng.integers(0, 256, (count, 48, 48), np.uint8),
        "labels": np.arange(count, dtype=np.int8) % 7,
        "usages": np.full(count, read.UNASSIGNED, np.int8),
        "row_numbers": np.arange(count, dtype=np.int32),
        "sha256": f"{count} {sorted(fields)}",
    }
    return read.Dataset(**values | fields)


@pytest.mark.parametrize("seed", range(5))
def test_groups_and_near_duplicates_never_straddle_a_split(seed, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    dataset = rows_of(90, groups=np.arange(90, dtype=np.int32) // 3)
    dataset.images[5] = dataset.images[80]  # links two groups
    split = splits.split_dataset(dataset, "official", seed=seed)
    parts = [split.train, split.validation, split.test]
    people = [set(dataset.groups[rows]) for rows in parts]
    assert sorted(np.concatenate(parts)) == list(range(90))
    assert len(set.union(*people)) == sum(map(len, people))
    assert sum(5 in rows for rows in parts) == 1
    assert [80 in rows for rows in parts] == [5 in rows for rows in parts]
    assert 12 <= len(split.test) <= 24
    assert 3 <= len(split.validation) <= 12


def test_a_split_of_ones_own_is_kept_but_what_it_tears_is_not_trained_on(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    usages = np.array([read.TRAINING] * 6 + [read.VALIDATION] * 3 + [read.PUBLIC_TEST] * 3, np.int8)
    groups = np.array([0, 0, 1, 2, 3, 4, 4, 5, 6, 2, 7, 8], np.int32)
    split = splits.split_dataset(rows_of(12, usages=usages, groups=groups), "official")
    assert split.validation.tolist() == [6, 7, 8]
    assert split.test.tolist() == [9, 10, 11]
    assert split.train.tolist() == [0, 1, 2, 4]  # 3 is of the test's group 2, 5 of validation's 4


def test_a_mixture_matches_labels_by_name_and_keeps_groups_apart():
    first = rows_of(4, label_names=LABELS)
    second = rows_of(
        3,
        labels=np.array([0, 1, -1], np.int8),
        label_names=("happy", "contempt"),
        groups=np.zeros(3, np.int32),
    )
    both = mixture.mix([first, second, second], [1, 2, 0.5])
    assert both.label_names == (*LABELS, "contempt")
    assert both.labels.tolist() == [0, 1, 2, 3, 3, 7, -1, 3, 7, -1]
    assert both.groups.tolist() == [-1] * 4 + [0] * 3 + [1] * 3
    assert both.weights.tolist() == [1] * 4 + [2] * 3 + [0.5] * 3


def test_pictures_of_weight_0_have_no_labels_and_are_all_for_training():
    first = rows_of(40, label_names=LABELS)
    second = rows_of(20, label_names=LABELS, groups=np.arange(20, dtype=np.int32))
    second.images[:] = 255 - second.images
    both = mixture.mix([first, second], [1, 0])
    assert (both.labels[40:] == -1).all()
    split = splits.split_dataset(both, "official")
    assert set(range(40, 60)) <= set(split.train.tolist())
    assert len(split.validation)
    assert not heads.join_targets(both, [heads.FER2013], 0.1)[40:].any()


def test_balance_by_loss_counts_all_labels_the_same_and_by_sampling_draws_them_as_often():
    labels = np.array([0] * 40 + [1] * 8 + [2] * 12 + [-1] * 5, np.int8)
    weights = balance.loss_weights(labels)
    sums = [weights[labels == label].sum() for label in range(3)]
    assert np.allclose(sums, 20, rtol=1e-4)
    assert (weights[labels < 0] == 1).all()
    order = balance.balanced_order(labels, np.random.default_rng(0), 130)
    counts = {label: int((labels[order] == label).sum()) for label in (-1, 0, 1, 2)}
    assert counts == {-1: 10, 0: 40, 1: 40, 2: 40}
    assert set(order) == set(range(65))
    assert (order == balance.balanced_order(labels, np.random.default_rng(0), 130)).all()


def test_sampling_shows_rare_labels_as_often_as_frequent_ones_in_an_epoch(small):
    labels = np.array([0] * 27 + [1] * 3, np.int8)
    rows = np.arange(30)
    dataset = DataSource(small, balance="sampling").dataset.take(rows)
    training = samples.training_set(
        dataclasses.replace(dataset, labels=labels),
        splits.Split(rows, rows, rows[:0], "none"),
        (heads.FER2013,),
        sights.CROP,
        0.0,
    )
    order = samples.Pictures.of(training).order(np.random.default_rng(0))
    assert np.bincount(labels[order]).tolist() == [15, 15]


def test_an_augmented_view_shows_what_was_around_the_crop():
    around = np.zeros((1, 96, 96), np.uint8)
    around[0, :, 72:] = 200
    crop = around[:, 24:72, 24:72]
    draws = augment.draw(1, augment.Augment(0, 0, 0, 0, 0, 0, 0, 0, 0, 0), np.random.default_rng(0))
    moved = dataclasses.replace(draws, shift=np.array([[-10.0, 0.0]]))
    assert augment.apply(crop, moved).max() == 0
    shown = augment.apply(crop, moved, None, around)[0]
    assert (shown[:, 38:] == 200).all()
    assert (shown[:, :38] == 0).all()
    assert (augment.apply(crop, draws, None, around) == crop).all()
    edges = np.pad(crop, ((0, 0), (24, 24), (24, 24)), mode="edge")
    assert (augment.apply(crop, moved, None, edges) == augment.apply(crop, moved)).all()


def test_weights_that_do_not_fit_the_data_are_refused_before_anything_is_read(tmp_path, capsys):
    (tmp_path / "a.csv").touch()
    for words, reason in (
        (["--data", str(tmp_path / "a.csv"), "--weight", "1", "--weight", "2"], "2 --weight for 1"),
        (["--data", str(tmp_path / "a.csv"), "--weight", "-1"], "0 or more, not -1"),
        (["--data", str(tmp_path / "a.csv"), "--weight", "0"], "above 0 for some data"),
        (["--data", str(tmp_path / "none")], "no such file or folder"),
    ):
        assert cli.main(["fit", "tiny", *words, "--folder", str(tmp_path / "run")]) == 1
        assert reason in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_mixture_of_sources_is_opened_again_from_its_record(small, photos):
    source = DataSource(small, balance="loss", others=(DataSource(photos, weight=2.0),))
    record = source.to_record()
    again = DataSource.from_record(record)
    assert again == source.resolve()
    assert again.dataset.sha256 == record["sha256"]
    assert np.isclose(again.dataset.weights[: len(again.dataset) - 5].mean(), 1, rtol=0.2)
