"""Each layout is made small, as the data set has it, and read back: labels, splits, groups, boxes."""

import csv

import numpy as np
import pytest
from mien_edge.errors import DataError
from mien_edge.values import Box
from mien_train.data.layouts.picture import PRIVATE_TEST, TEST, TRAIN, VALIDATION
from mien_train.data.layouts.recognize import read_layout
from mien_train.data.read import VOTES

KNOWN = ("happy", "happiness", "sad", "neutral")


def touch(folder, *names):
    """Empty files; no reader opens a picture."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def read(folder):
    """(layout, {path below the folder: picture})."""
    layout = read_layout(folder, KNOWN)
    return layout.name, {
        picture.path.relative_to(folder).as_posix(): picture for picture in layout.pictures
    }


def test_raf_db_is_read_from_its_list_with_the_original_photographs_and_their_boxes(tmp_path):
    write(
        tmp_path / "EmoLabel/list_patition_label.txt",
        "train_00001.jpg 5\ntrain_00002.jpg 1\ntest_0001.jpg 7\n",
    )
    touch(
        tmp_path / "Image",
        *("original/train_00001.jpg", "original/test_0001.jpg"),
        *("aligned/train_00001_aligned.jpg", "aligned/train_00002_aligned.jpg"),
    )
    box = "Annotation/boundingbox/train_00001_boundingbox.txt"
    write(tmp_path / box, "10.5 20 110.5 140\n")
    name, pictures = read(tmp_path)
    first = pictures["Image/original/train_00001.jpg"]
    assert (name, len(pictures)) == ("RAF-DB", 3)
    assert (first.label, first.split, first.box) == ("sadness", TRAIN, Box(10.5, 20, 100, 120))
    assert pictures["Image/aligned/train_00002_aligned.jpg"].label == "surprise"
    test = pictures["Image/original/test_0001.jpg"]
    assert (test.label, test.split, test.box) == ("neutral", TEST, None)


def test_affectnets_first_layout_is_read_from_its_tables(tmp_path):
    columns = (
        "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,"
        "expression,valence,arousal\n"
    )
    write(tmp_path / "training.csv", columns + "1/a.jpg,5,6,70,80,1;2,1,0.5,0.5\n")
    rows = "2/b.jpg,5,6,70,80,1;2,7,0,0\n2/c.jpg,0,0,9,9,1;2,9,-2,-2\n"
    write(tmp_path / "validation.csv", columns + rows)
    touch(tmp_path / "Manually_Annotated_Images", "1/a.jpg", "2/b.jpg", "2/c.jpg")
    name, pictures = read(tmp_path)
    happy = pictures["Manually_Annotated_Images/1/a.jpg"]
    contempt = pictures["Manually_Annotated_Images/2/b.jpg"]
    assert name == "AffectNet"
    assert (happy.label, happy.split, happy.box) == ("happy", TRAIN, Box(5, 6, 70, 80))
    assert (contempt.label, contempt.split) == ("contempt", TEST)
    assert pictures["Manually_Annotated_Images/2/c.jpg"].doubt == "uncertain"


def test_affectnets_second_layout_is_read_from_its_annotations_which_run_no_code(tmp_path):
    for part, stem, expression in (
        ("train_set", "0", "0"),
        ("train_set", "7", "6"),
        ("val_set", "3", "3"),
    ):
        touch(tmp_path / part, f"images/{stem}.jpg")
        (tmp_path / part / "annotations").mkdir(exist_ok=True)
        np.save(tmp_path / part / "annotations" / f"{stem}_exp.npy", np.array(expression))
    name, pictures = read(tmp_path)
    labels = {path: (picture.label, picture.split) for path, picture in pictures.items()}
    assert name == "AffectNet"
    assert labels == {
        "train_set/images/0.jpg": ("neutral", TRAIN),
        "train_set/images/7.jpg": ("anger", TRAIN),
        "val_set/images/3.jpg": ("surprise", TEST),
    }
    pickled = tmp_path / "val_set/annotations/3_exp.npy"
    np.save(pickled, np.array([object()]), allow_pickle=True)
    with pytest.raises(DataError, match=r"3_exp\.npy"):
        read(tmp_path)


def test_expw_has_a_box_for_each_face_and_a_group_for_each_photograph(tmp_path):
    lines = "a_1.jpg 0 10 20 120 140 98.5 3\na_1.jpg 1 15 200 290 130 60 6\n"
    write(tmp_path / "label/label.lst", lines)
    touch(tmp_path / "image/origin", "a_1.jpg")
    layout = read_layout(tmp_path, KNOWN)
    assert layout.name == "ExpW"
    assert [(picture.label, picture.group) for picture in layout.pictures] == [
        ("happy", "a_1.jpg"),
        ("neutral", "a_1.jpg"),
    ]
    assert layout.pictures[0].box == Box(20, 10, 100, 130)
    write(tmp_path / "label/label.lst", "a_1.jpg 0 10 20 120 140 98.5\n")
    with pytest.raises(DataError, match=r"label.lst: line 1: 7 fields where 8"):
        read_layout(tmp_path, KNOWN)


def test_ck_plus_gives_the_labelled_peaks_and_the_neutral_starts_by_person(tmp_path):
    for frame in ("01", "02", "11"):
        touch(tmp_path, f"cohn-kanade-images/S005/001/S005_001_000000{frame}.png")
    touch(tmp_path, "cohn-kanade-images/S010/002/S010_002_00000001.png")
    write(tmp_path / "Emotion/S005/001/S005_001_00000011_emotion.txt", "   3.0000000e+00\n")
    name, pictures = read(tmp_path)
    folder = "cohn-kanade-images/S005/001"
    labels = {path: (picture.label, picture.group) for path, picture in pictures.items()}
    assert name == "CK+"
    assert labels == {
        f"{folder}/S005_001_00000001.png": ("neutral", "S005"),
        f"{folder}/S005_001_00000011.png": ("disgust", "S005"),
    }


def test_kdef_is_read_from_its_names_and_both_sessions_of_a_person_are_one_group(tmp_path):
    touch(tmp_path / "KDEF", "AF01/AF01AFFL.JPG", "BF01/BF01SUS.JPG", "AM35/AM35HAHR.JPG")
    touch(tmp_path, "KDEF/Read me.txt")
    name, pictures = read(tmp_path)
    labels = {path: (picture.label, picture.group) for path, picture in pictures.items()}
    assert name == "KDEF"
    assert labels == {
        "KDEF/AF01/AF01AFFL.JPG": ("afraid", "F01"),
        "KDEF/BF01/BF01SUS.JPG": ("surprised", "F01"),
        "KDEF/AM35/AM35HAHR.JPG": ("happy", "M35"),
    }


def test_jaffe_is_read_from_its_names(tmp_path):
    touch(tmp_path, "KA.AN1.39.tiff", "YM.FE4.70.tiff", "README_FIRST.txt")
    name, pictures = read(tmp_path)
    labels = {path: (picture.label, picture.group) for path, picture in pictures.items()}
    assert name == "JAFFE"
    assert labels == {"KA.AN1.39.tiff": ("anger", "KA"), "YM.FE4.70.tiff": ("fear", "YM")}


def test_ferplus_folders_give_votes_and_what_most_people_voted_for(tmp_path):
    def votes(**counts):
        return [str(counts.get(name, 0)) for name in VOTES]

    for part, name, cells in (
        ("FER2013Train", "fer0000000.png", votes(anger=6, sadness=4)),
        ("FER2013Train", "fer0000001.png", votes(fear=5, surprise=5)),
        ("FER2013Valid", "fer0028638.png", votes(contempt=9)),
        ("FER2013Test", "fer0032220.png", votes(NF=8)),
    ):
        touch(tmp_path / part, name)
        with (tmp_path / part / "label.csv").open("a") as table:
            csv.writer(table).writerow([name, "(0, 0, 48, 48)", *cells])
    name, pictures = read(tmp_path)
    first = pictures["FER2013Train/fer0000000.png"]
    assert (name, first.label, first.split) == ("FER+ folders", "anger", TRAIN)
    assert (first.votes[4], sum(first.votes)) == (6, 10)
    assert pictures["FER2013Train/fer0000001.png"].label == ""
    assert pictures["FER2013Valid/fer0028638.png"].label == "contempt"
    test = pictures["FER2013Test/fer0032220.png"]
    assert (test.split, bool(test.doubt)) == (PRIVATE_TEST, True)


@pytest.mark.parametrize(
    ("path", "label", "split", "group"),
    [
        ("happy/1.jpg", "happy", "", ""),
        ("Validation/Happiness/1.jpg", "Happiness", VALIDATION, ""),
        ("happy/anna/1.jpg", "happy", "", "anna"),
        ("anna/happy/1.jpg", "happy", "", "anna"),
        ("test/anna/2024/happy/1.jpg", "happy", TEST, "anna/2024"),
        ("train/happy/Training_7.jpg", "happy", TRAIN, ""),
        ("test/happy/PrivateTest_7.jpg", "happy", PRIVATE_TEST, ""),
    ],
)
def test_folders_tell_label_split_and_person_wherever_the_label_stands(
    tmp_path, path, label, split, group
):
    touch(tmp_path, path, ".DS_Store", "__MACOSX/happy/._1.jpg")
    name, pictures = read(tmp_path)
    picture = pictures[path]
    assert (name, len(pictures)) == ("folders of labels", 1)
    assert (picture.label, picture.split, picture.group) == (label, split, group)


def test_a_manifest_tells_split_group_and_box_and_names_the_line_that_is_wrong(tmp_path):
    table = tmp_path / "manifest.csv"
    rows = ["File,Label,Split,Group,Box", "a.jpg,joy,train,anna,1 2 30 40", "b.jpg,,,,"]
    write(table, "\n".join(rows))
    name, pictures = read(tmp_path)
    first = pictures["a.jpg"]
    assert (name, first.label, first.split) == ("manifest.csv", "joy", TRAIN)
    assert (first.group, first.box) == ("anna", Box(1, 2, 30, 40))
    assert pictures["b.jpg"].doubt == "no label in manifest.csv"
    for row, problem in (
        ("c.jpg,sad,later,,", "line 4: the split 'later'"),
        ("c.jpg,sad,,,1 2 3", "line 4: the box '1 2 3'"),
        (",sad,,,", "line 4: it names no file"),
        ("b.jpg,sad,,,", "line 4: 'b.jpg' stands on line 3 already"),
    ):
        write(table, "\n".join([*rows, row]))
        with pytest.raises(DataError, match=problem):
            read(tmp_path)


def test_a_table_of_corners_is_a_manifest_too_and_of_several_one_must_be_named(tmp_path):
    write(tmp_path / "wild.csv", "file,x,y,width,height,label\na.jpg,1,2,3,4,happy\n")
    name, pictures = read(tmp_path)
    assert (name, pictures["a.jpg"].box) == ("wild.csv", Box(1, 2, 3, 4))
    write(tmp_path / "other.csv", "file,emotion\na.jpg,sad\n")
    with pytest.raises(DataError, match=r"other.csv, wild.csv could each name its pictures"):
        read(tmp_path)
    assert read_layout(tmp_path / "other.csv", KNOWN).pictures[0].label == "sad"
    write(tmp_path / "labels.csv", "file,emotion\na.jpg,neutral\n")
    assert read(tmp_path)[0] == "labels.csv"
