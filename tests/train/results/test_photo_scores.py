"""Bundles are measured on photographs as a device reads them, and compared on the same ones."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
from mien_edge import testing
from mien_edge.errors import DataError
from mien_edge.service.run import RunOptions, Service
from mien_edge.settings import ModelSettings, Settings, SourceSettings
from mien_train import cli
from mien_train.data.source import DataSource
from mien_train.results import photo_page, photo_scores
from mien_train.results.evaluate import MeasuredRows
from mien_train.results.photo_scores import Photograph, ReadPhotographs


@pytest.fixture(scope="module")
def portrait(astronaut):
    """(300, 300, 3) BGR with one face."""
    return astronaut[0:300, 100:400]


@pytest.fixture(scope="module")
def photos(tmp_path_factory, portrait):
    """A folder of five photographs of one face, brighter and brighter, and of an empty wall; with labels and votes."""
    folder = tmp_path_factory.mktemp("photos")
    labels = ["happy", "happy", "sad", "neutral", "happy"]
    for index in range(len(labels)):
        picture = cv2.convertScaleAbs(portrait, alpha=1, beta=10 * index)
        assert cv2.imwrite(str(folder / f"{index}.jpg"), picture)
    assert cv2.imwrite(str(folder / "wall.jpg"), np.full((240, 320, 3), 128, np.uint8))
    rows = [f"{index}.jpg,{label}" for index, label in enumerate(labels)]
    (folder / "labels.csv").write_text("\n".join(["file,emotion", *rows, "wall.jpg,happy"]) + "\n")
    votes = ["0.jpg,happy,Happiness,happy", "1.jpg,happy,sad,happy", "2.jpg,sad,sad,sad"]
    (folder / "votes.csv").write_text("\n".join(["file,emotion,rater_1,rater_2", *votes]) + "\n")
    return folder


def read(bundle, truths, readings, votes=None):
    """What a bundle reads, made up: a label, or None for no face, for each photograph."""
    photographs = [
        Photograph(None, f"{row}.jpg", truth, votes=votes[row] if votes else ())
        for row, truth in enumerate(truths)
    ]
    faces = [label and testing.reading(label, confidence=0.8) for label in readings]
    return ReadPhotographs(bundle, photographs, list(truths), faces, {})


def command(photos, *arguments):
    return ["evaluate", *map(str, arguments), "--data", str(photos)]


def test_the_figures_are_those_of_the_device_on_the_same_photographs(bundle, photos):
    [each] = photo_scores.read_photographs([bundle], DataSource(photos), "official")
    scores = photo_scores.measure(each)
    settings = dataclasses.replace(
        Settings(),
        source=SourceSettings(uri=str(photos)),
        model=ModelSettings(bundle=str(bundle.folder)),
    )
    device = Service.from_settings(settings, RunOptions(labels=photos / "labels.csv")).run().score
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "settled_accuracy"):
        assert scores.figures[name].value == device[name]
        assert (scores.figures[name].low, scores.figures[name].high) == device["intervals"][name]
    assert (scores.photographs, scores.faces_found) == (6, 5)
    assert scores.settled == device["settled"]
    assert scores.recall["happy"].photographs == 4
    assert scores.recall["happy"].right < 4, "the wall has no face"


def test_photographs_that_a_bundle_was_trained_on_are_left_out(bundle, photos, monkeypatch):
    source = DataSource(photos)
    origin = {**bundle.card.provenance, "data": {"sha256": source.dataset.sha256}}
    card = dataclasses.replace(bundle.card, provenance=origin)
    own = dataclasses.replace(bundle, card=card)
    rows = MeasuredRows(np.array([1, 3]), "test")
    monkeypatch.setattr(photo_scores, "measured_rows", lambda *_: rows)
    trained, other = photo_scores.read_photographs([own, bundle], source, "official")
    assert [each.name for each in trained.photographs] == ["1.jpg", "3.jpg"]
    assert len(other.photographs) == 6
    scores = photo_scores.measure(trained)
    assert "photographs that it was not trained on (test, a face in each)" in scores.as_text()
    assert photo_scores.compare(trained, other).photographs == 2


def test_of_data_with_a_test_part_that_is_measured_with_its_missed_faces(bundle, photos, tmp_path):
    table = photos / "manifest-parts.csv"
    parts = ["0.jpg,happy,train", "1.jpg,happy,test", "wall.jpg,happy,test"]
    table.write_text("\n".join(["file,label,split", *parts]) + "\n")
    try:
        [each] = photo_scores.read_photographs([bundle], DataSource(table), "official")
    finally:
        table.unlink()
    scores = photo_scores.measure(each)
    assert (scores.photographs, scores.faces_found) == (2, 1)
    assert "2 photographs (the data's own test part)" in scores.as_text()


def test_where_the_data_mark_a_face_that_one_is_read_and_not_the_largest(
    bundle, tmp_path, portrait
):
    small = cv2.resize(portrait, None, fx=0.6, fy=0.6)
    picture = np.full((300, 520, 3), 128, np.uint8)
    picture[:, :300] = portrait
    picture[60:240, 320:500] = small
    assert cv2.imwrite(str(tmp_path / "two.png"), picture)
    table = tmp_path / "manifest.csv"
    table.write_text("file,label,box\ntwo.png,happy,\ntwo.png,happy,380 80 80 100\n")
    [each] = photo_scores.read_photographs([bundle], DataSource(tmp_path), "official")
    largest, marked = each.readings
    assert largest.box.x < 300 < marked.box.x


def test_a_label_that_the_bundle_has_not_is_left_out_and_counted(three_labels, photos):
    [each] = photo_scores.read_photographs([three_labels], DataSource(photos), "official")
    scores = photo_scores.measure(each)
    assert scores.photographs == 5
    assert scores.left_out == {"neutral": 1}
    assert set(scores.recall) == {"happiness", "sadness"}


def test_two_bundles_are_compared_photograph_by_photograph(bundle):
    """Of 40, the one has 30 right and the other 20, of which the first has 16."""
    truths = ["happy"] * 40
    own = read(bundle, truths, ["happy"] * 30 + ["sad"] * 10)
    others = read(bundle, truths, ["sad"] * 14 + ["happy"] * 20 + [None] * 6)
    comparison = photo_scores.compare(own, others)
    assert (comparison.mcnemar.gained, comparison.mcnemar.lost) == (14, 4)
    gain = comparison.gains["accuracy"]
    assert gain.value == pytest.approx(0.25)
    # the standard error of a paired difference: sqrt((18 / 40 - 0.25 ** 2) / 40) = 0.098
    assert gain.high - gain.low == pytest.approx(2 * 1.96 * 0.098, rel=0.1)
    assert gain.low < 0.25 < gain.high
    assert "14 gained, 4 lost, McNemar's p = 0.031" in comparison.as_text()


def test_a_missed_face_is_the_last_to_get_a_label_and_wrong(bundle):
    """Of 40, 36 are right at 0.8; four have no face: 90 % of all are right, and all of 36."""
    scores = photo_scores.measure(read(bundle, ["sad"] * 40, ["sad"] * 36 + [None] * 4))
    assert scores.coverage == {"80%": 1.0, "90%": 1.0, "95%": 0.925}
    assert "surest first       80% right of 100.0 %, 90% right of 100.0 %, 95%" in scores.as_text()
    assert "too narrow" not in scores.as_text()
    few = photo_scores.measure(read(bundle, ["sad"] * 4, ["sad", "sad", None, "happy"]))
    assert "fewer than 30 photographs: these intervals are too narrow" in few.as_text()


def test_what_is_counted_as_unanimous_has_the_same_word_of_all_raters(bundle):
    votes = [("sad", "sad", "sad"), ("sad", "sad", "fear"), ("sad", "sad"), ("sad",), ()]
    each = read(bundle, ["sad"] * 5, ["sad", "sad", "neutral", "sad", "sad"], votes)
    scores = photo_scores.measure(each)
    assert scores.recall["sad"] == photo_scores.LabelRecall(5, 4)
    assert scores.unanimous_recall == {"sad": photo_scores.LabelRecall(2, 1)}
    assert "where all raters agree: sad 1 of 2 (50 %)" in scores.as_text()


def test_votes_beside_the_photographs_are_read_by_name(photos):
    by_name = {each.name: each for each in photo_scores.labelled_photographs(DataSource(photos))}
    assert by_name["0.jpg"].votes == ("happy", "happy", "happy")
    assert by_name["wall.jpg"].votes == ()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("file,word\n0.jpg,happy\n", "no table with the columns file, and emotion or rater_1"),
        ("file,rater_1,rater_2\n0.jpg,happy\n", "line 2: 2 columns where 3 are needed; correct"),
    ],
)
def test_a_bad_table_of_votes_is_refused_by_name(photos, tmp_path, content, problem):
    table = tmp_path / "mine.csv"
    table.write_text(content)
    with pytest.raises(DataError, match=f"mine.csv: {problem}"):
        photo_scores.labelled_photographs(DataSource(photos), table)


def test_the_worst_mistakes_are_the_surest_ones_and_each_has_its_face_on_the_page(bundle, photos):
    [each] = photo_scores.read_photographs([bundle], DataSource(photos), "official")
    labels = ["angry"] * len(each.labels)
    wrong = dataclasses.replace(each, labels=labels)
    rows = photo_page.worst_mistakes(wrong)
    confidences = [each.readings[row].emotion.confidence for row in rows]
    assert sorted(rows) == [0, 1, 2, 3, 4], "the wall has no prediction"
    assert confidences == sorted(confidences, reverse=True)
    result = photo_scores.evaluate(wrong)
    page = photo_page.as_html([wrong], [result], "mien-train evaluate")
    gallery = page[page.index('<div class="gallery">') :]
    assert gallery.count("<img") == 5
    assert "angry\n→ happy" in gallery
    assert "2 happy, 1 sad" in gallery
    assert page.count("<img") == 7, "and two drawings"


def test_evaluate_prints_a_table_of_several_bundles_and_faces_in_the_page_alone(
    bundle, photos, tmp_path, capsys
):
    other = bundle.folder.parent / "edge-1"
    page = tmp_path / "page.html"
    picture = tmp_path / "picture.png"
    written = ["--html", page, "--out", picture]
    arguments = command(photos, bundle.folder, other, "--against", other, *written)
    assert cli.main(arguments) == 0
    text = capsys.readouterr().out
    assert f"{bundle.card.id} on 6 photographs, in brackets 95 % bootstrap intervals" in text
    assert text.count("against edge-1, on the same 6 photographs") == 1, "not against itself"
    assert "\n| bundle | accuracy | balanced accuracy |" in text
    assert "| edge-1 | " in text
    assert "mien: on photographs" in page.read_text()
    assert cv2.imread(str(picture)) is not None
    assert cli.main([*command(photos, bundle.folder, other), "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["model"], second["model"]) == (bundle.card.id, "edge-1")
    assert first["recall"]["happy"]["photographs"] == 4
    assert cli.main([*command(photos, bundle.folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == first


@pytest.mark.parametrize("option", ["--html", "--out", "--votes"])
def test_what_is_of_photographs_is_refused_for_rows_of_face_crops(bundle, small, capsys, option):
    assert cli.main([*command(small, bundle.folder), option, "x"]) == 1
    assert f"{option} is for photographs" in capsys.readouterr().err


def test_runs_and_bundles_are_not_measured_in_one_call(bundle, tmp_path, capsys):
    assert cli.main(["evaluate", str(bundle.folder), str(tmp_path)]) == 1
    assert f"{tmp_path} is no bundle, as others are; give runs alone" in capsys.readouterr().err
