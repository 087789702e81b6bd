"""FER2013 as arrays: formats, bad rows, votes, duplicates, splits."""

import bz2
import dataclasses
import gzip
import json
import lzma
import os
import tempfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import ROOT
from mien_edge.contract import LABELS
from mien_edge.errors import DataError
from mien_train import cli
from mien_train.data import audit, duplicates, faces, fetch, read, splits
from mien_train.data import cache as data_cache
from mien_train.data.source import DataSource
from mien_train.results import evaluate
from mien_train.results.evaluation import Evaluation
from small_data import rows, write_csv
from small_packages import tarball


def read_photographs(folder):
    """A folder's data set, read as the commands read it."""
    return DataSource(folder).dataset


PACKERS = {".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}


def test_rows_come_back_as_they_stand_in_the_file(small):
    dataset = read.load_dataset(small)
    assert (dataset.images.shape, dataset.images.dtype) == ((364, 48, 48), np.uint8)
    expected = list(rows({"Training": 40, "PublicTest": 8, "PrivateTest": 4}))
    assert (dataset.images == np.stack([image for _, image, _ in expected])).all()
    assert dataset.labels.tolist() == [label for label, _, _ in expected]
    assert [read.USAGES[i] for i in dataset.usages] == [usage for _, _, usage in expected]


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".bz2", ".zip"])
def test_packed_files_and_any_column_order_give_the_same(tmp_path, suffix):
    entries = list(rows({"Training": 2}))
    plain = read.load_dataset(write_csv(tmp_path / "fer2013.csv", entries))
    other = write_csv(tmp_path / "other.csv", entries, header="Usage,emotion,pixels")
    packed = tmp_path / f"fer2013.csv{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(packed, "w") as archive:
            archive.write(other, "fer2013/fer2013.csv")
    else:
        packed.write_bytes(PACKERS[suffix](other.read_bytes()))
    assert (read.load_dataset(packed).images == plain.images).all()


def test_image_folders_tell_label_and_split(tmp_path):
    for index, (label, image, _) in enumerate(rows({"Training": 1})):
        for split, name in (
            ("train", f"Training_{index}"),
            ("test", f"PrivateTest_{index}"),
            ("test", f"im{index}"),
        ):
            folder = tmp_path / split / LABELS[label]
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"{name}.png"), image)
    dataset = read_photographs(tmp_path)
    assert np.bincount(dataset.usages).tolist() == [7, 7, 7]
    first = next(image for label, image, _ in rows({"Training": 1}) if label == dataset.labels[0])
    assert (dataset.images[0] == first).all()


def test_votes_beside_folders_are_left_alone_for_they_go_by_the_csv(tmp_path, voted, capsys):
    for label in LABELS:
        for split in ("train", "test"):
            (tmp_path / "fer2013" / split / label).mkdir(parents=True)
            picture = np.full((48, 48), 10 * LABELS.index(label) + len(split), np.uint8)
            cv2.imwrite(str(tmp_path / "fer2013" / split / label / "1.png"), picture)
    votes = voted.with_name("fer2013new.csv")
    (tmp_path / "fer2013new.csv").write_bytes(votes.read_bytes())
    assert cli.main(["data", "audit", str(tmp_path / "fer2013")]) == 0
    assert cli.main(["data", "audit", str(tmp_path / "fer2013"), "--ferplus", str(votes)]) == 1
    assert "give fer2013.csv" in capsys.readouterr().err


def test_an_unknown_label_beside_known_ones_is_refused_before_any_picture_is_opened(tmp_path):
    for label in ("angry", "bored"):
        (tmp_path / "train" / label).mkdir(parents=True)
        (tmp_path / "train" / label / "a.png").touch()
    with pytest.raises(DataError, match=r"unknown labels 'bored'.*--label-map"):
        read_photographs(tmp_path)


BAD = {
    "pixel count": ("0," + "1 " * 2303 + ",Training", "line 3: 2303 pixels"),
    "pixel range": ("0," + "256 " * 2304 + ",Training", "line 3: pixel values 256 to 256"),
    "negative": ("0," + "-1 " * 2304 + ",Training", "line 3: pixel values -1"),
    "no number": ("0," + "x " * 2304 + ",Training", "line 3: a pixel is not a whole number"),
    "label": ("7," + "1 " * 2304 + ",Training", "line 3: emotion '7'"),
    "usage": ("0," + "1 " * 2304 + ",Test", "line 3: Usage 'Test'"),
    "columns": ("0", "line 3: 1 columns"),
}


@pytest.mark.parametrize(("row", "reason"), BAD.values(), ids=BAD)
def test_a_bad_row_is_named_and_left_out_only_when_asked(tmp_path, row, reason):
    path = write_csv(tmp_path / "f.csv", rows({"Training": 1}))
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], row, *lines[2:]]) + "\n")
    with pytest.raises(DataError, match=reason):
        read.load_dataset(path)
    dataset = read.load_dataset(path, skip_bad=True)
    assert (len(dataset), dataset.skipped) == (7, 1)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\r\n", "\n\n"])
def test_a_file_that_windows_saved_again_gives_the_same(tmp_path, encoding, end):
    path = write_csv(tmp_path / "f.csv", rows({"Training": 1}))
    plain = read.load_dataset(path)
    spaced = path.read_text().replace(",", " , ").replace("\n", end) + end
    path.write_bytes(spaced.encode(encoding))
    again = read.load_dataset(path)
    assert (again.images == plain.images).all()
    assert again.row_numbers.tolist() == plain.row_numbers.tolist()


def test_a_bad_row_below_blank_lines_has_the_line_that_an_editor_shows(tmp_path):
    path = write_csv(tmp_path / "f.csv", rows({"Training": 1}))
    path.write_text(path.read_text().replace("\n", "\n\n") + "8,1,Training\n")
    with pytest.raises(DataError, match="line 17: emotion '8' is not 0 to 6"):
        read.load_dataset(path)


def zipped(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize("pack", [tarball, zipped])
def test_the_table_of_kaggles_archive_is_chosen_by_its_header(tmp_path, pack):
    path = write_csv(tmp_path / "f.csv", rows({"Training": 1}), "emotion,Usage,pixels")
    plain = read.load_dataset(path)
    members = {
        "__MACOSX/._icml_face_data.csv": b"\0\5\26\7junk",
        "a/._icml_face_data.csv": b"\0\5\26\7junk",
        "example_submission.csv": b"emotion\n1\n",
        "test.csv": b"pixels\n1 2 3\n",
        "train.csv": b"emotion,pixels\n1,1 2 3\n",
        "icml_face_data.CSV": path.read_bytes().replace(b",", b", "),
    }
    pack(tmp_path / "CHALLENGES.ZIP", members)
    assert (read.load_dataset(tmp_path / "CHALLENGES.ZIP").images == plain.images).all()
    del members["icml_face_data.CSV"]
    pack(tmp_path / "other", members)
    with pytest.raises(
        DataError,
        match=r"columns emotion, pixels, Usage .* but example_submission.csv, test.csv, train",
    ):
        read.load_dataset(tmp_path / "other")


def test_a_file_is_unpacked_by_its_content_whatever_its_name(tmp_path):
    path = write_csv(tmp_path / "f.csv", rows({"Training": 1}))
    content = path.read_bytes()
    for name in ("plain.CSV.GZ", "misnamed.csv"):
        (tmp_path / name).write_bytes(gzip.compress(content))
        assert len(read.load_dataset(tmp_path / name)) == 7


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "fer2013.csv")
    with pytest.raises(DataError, match=r"fer2013\.csv: a pipe or a device, not a file"):
        read.load_dataset(tmp_path / "fer2013.csv")


def test_damaged_and_encrypted_archives_are_refused_by_name(tmp_path):
    path = write_csv(tmp_path / "f.csv", rows({"Training": 3}))
    zipped(tmp_path / "cut.zip", {"fer2013.csv": path.read_bytes()})
    content = (tmp_path / "cut.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(content[:-40])
    encrypted = bytearray(content)
    for header in (b"PK\3\4", b"PK\1\2"):  # APPNOTE.TXT 4.4.4: bit 0 of the flags
        encrypted[content.index(header) + (6 if header == b"PK\3\4" else 8)] |= 1
    (tmp_path / "encrypted.zip").write_bytes(encrypted)
    for name in ("cut.zip", "encrypted.zip"):
        with pytest.raises(DataError, match=f"{name}: .*damaged"):
            read.load_dataset(tmp_path / name)


def test_what_a_mac_and_windows_put_into_folders_is_no_picture(tmp_path):
    folder = tmp_path / "train" / "angry"
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "a.JPG"), np.zeros((48, 48), np.uint8))
    for name in ("._a.JPG", "Thumbs.db", ".DS_Store"):
        (folder / name).write_bytes(b"\0\5\26\7")
    assert len(read_photographs(tmp_path)) == 1


def test_bad_pictures_of_a_folder_are_named_and_left_out_only_when_asked(tmp_path):
    folder = tmp_path / "train" / "angry"
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "a.png"), np.zeros((48, 48), np.uint8))
    (folder / "empty.jpg").touch()
    (folder / "gone.jpg").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"angry/gone.jpg: no such file; fix the data"):
        read_photographs(tmp_path)
    (folder / "gone.jpg").unlink()
    with pytest.raises(DataError, match=r"angry/empty.jpg: an empty file.*--skip-bad"):
        read_photographs(tmp_path)
    dataset = DataSource(tmp_path, skip_bad=True).dataset
    assert (len(dataset), dataset.skipped) == (1, 1)


def test_a_file_cut_off_is_refused(tmp_path):
    path = write_csv(tmp_path / "f.csv", rows({"Training": 3}))
    packed = tmp_path / "f.csv.xz"
    packed.write_bytes(lzma.compress(path.read_bytes())[:-4000])
    with pytest.raises(DataError, match="ends early or is damaged"):
        read.load_dataset(packed)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(DataError, match="line 22"):
        read.load_dataset(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "it is empty"), ("emotion,pixels,Usage\n", "no usable row")],
)
def test_an_empty_file_is_refused(tmp_path, text, reason):
    (tmp_path / "f.csv").write_text(text)
    with pytest.raises(DataError, match=reason):
        read.load_dataset(tmp_path / "f.csv")


def test_a_damaged_cache_is_read_anew(small):
    read.load_dataset(small)
    (cache,) = data_cache.cache_folder().glob("*.npz")
    cache.write_bytes(cache.read_bytes()[:1000])
    assert len(read.load_dataset(small)) == 364


@pytest.mark.parametrize("place", ["file", "/proc/x", "/dev/full"])
def test_a_cache_that_cannot_be_written_is_told_once_and_work_goes_on(
    small, tmp_path, monkeypatch, caplog, place
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / place))
    dataset = read.load_dataset(small)
    assert faces.cached_boxes(dataset, np.array([0])).shape == (1, 4)
    assert len(read.load_dataset(small)) == 364
    (record,) = caplog.records
    assert "nothing can be cached there" in record.getMessage()
    assert "XDG_CACHE_HOME" in record.getMessage()


def test_a_user_without_a_home_has_a_cache(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    assert data_cache.cache_folder() == Path(tempfile.gettempdir()) / "mien"


def votes_csv(path, entries):
    lines = ["Usage,Image name," + ",".join(read.VOTES)]
    lines += [f"{usage},{name}," + ",".join(map(str, votes)) for usage, name, votes in entries]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_votes_join_in_order_or_by_row_number(tmp_path):
    csv = write_csv(tmp_path / "f.csv", rows({"Training": 1}))
    happy, tie, nobody = [0, 8, 0, 0, 0, 0, 0, 0, 0, 2], [5, 5] + [0] * 8, [0] * 9 + [10]
    seven = [
        ("Training", f"fer{i:07d}.png", vote)
        for i, vote in enumerate([happy, tie, nobody] + [happy] * 4)
    ]
    ordered = read.load_dataset(csv, votes_csv(tmp_path / "v.csv", seven))
    assert ordered.majority().tolist() == [3, -1, -1, 3, 3, 3, 3]
    more = [*seven, ("PublicTest", "fer0000007.png", happy)]
    named = read.load_dataset(csv, votes_csv(tmp_path / "w.csv", more))
    assert named.majority().tolist() == ordered.majority().tolist()


def test_votes_by_row_number_are_right_below_blank_lines(tmp_path):
    csv = write_csv(tmp_path / "f.csv", rows({"Training": 1}))
    csv.write_text(csv.read_text().replace("\n", "\n\n"))
    votes = [[0] * index + [10] + [0] * (9 - index) for index in range(8)]
    entries = [("Training", f"fer{index:07d}.png", vote) for index, vote in enumerate(votes)]
    dataset = read.load_dataset(csv, votes_csv(tmp_path / "v.csv", entries))
    assert dataset.votes.tolist() == votes[:7]


@pytest.mark.parametrize("vote", ["300", "-1", "11", "", "x", "1.0"])
def test_a_vote_that_is_none_is_named_with_line_and_column(tmp_path, vote):
    csv = write_csv(tmp_path / "f.csv", rows({"Training": 1}))
    lines = [("Training", f"fer{i:07d}.png", [0, 1, 2, 3, 4, 0, 0, 0, 0, 0]) for i in range(7)]
    lines[4] = ("Training", "fer0000004.png", [0, 1, 2, vote, 4, 0, 0, 0, 0, 0])
    with pytest.raises(
        DataError, match=f"v.csv: line 6: column 'sadness': '{vote}' is not 0 to 10"
    ):
        read.load_dataset(csv, votes_csv(tmp_path / "v.csv", lines))


def test_votes_that_windows_saved_again_are_the_same_and_latin_1_is_named(tmp_path, voted):
    plain = voted.with_name("fer2013new.csv").read_text()
    expected = read.load_dataset(voted, voted.with_name("fer2013new.csv")).votes
    again = tmp_path / "again.csv"
    spaced = plain.replace(",", ", ").replace("\n", "\r\n") + "\r\n"
    again.write_bytes(spaced.encode("utf-8-sig"))
    assert (read.load_dataset(voted, again).votes == expected).all()
    again.write_bytes(plain.replace("fer0000000.png", "fér0000000.png").encode("latin-1"))
    with pytest.raises(DataError, match="line 2: column 'Image name' is not UTF-8"):
        read.load_dataset(voted, again)


def test_votes_of_another_file_are_refused(tmp_path):
    csv = write_csv(tmp_path / "f.csv", rows({"Training": 1}))
    wrong = [("PublicTest", f"fer{i:07d}.png", [10] + [0] * 9) for i in range(7)]
    with pytest.raises(DataError, match="row 0 is PublicTest here but Training"):
        read.load_dataset(csv, votes_csv(tmp_path / "v.csv", wrong))
    few = [("Training", f"fer{i:07d}.png", [1] * 10) for i in range(3)]
    with pytest.raises(DataError, match="no votes for row 3"):
        read.load_dataset(csv, votes_csv(tmp_path / "w.csv", few))


@pytest.fixture
def doubled(tmp_path):
    """Training rows 0 to 34; then a copy of row 0, a mirror of row 1, a brighter row 2; PublicTest is row 3 again."""
    entries = list(rows({"Training": 5}))
    images = [image for _, image, _ in entries]
    more = [
        (1, images[0], "Training"), (1, images[1][:, ::-1], "Training"),
        (2, np.clip(images[2].astype(int) + 9, 0, 255), "Training"), (3, images[3], "PublicTest"),
    ]  # fmt: skip
    return read.load_dataset(write_csv(tmp_path / "f.csv", entries + more))


def test_exact_and_near_duplicates_are_found(doubled):
    exact, near = duplicates.exact_groups(doubled.images), duplicates.near_groups(doubled.images)
    assert exact[0] == exact[35]
    assert exact[3] == exact[38]
    assert exact[1] != exact[36]
    assert near[0] == near[35]
    assert near[1] == near[36]
    assert near[2] == near[37]


def test_the_deduplicated_split_keeps_all_duplicates_apart(doubled):
    near = duplicates.near_groups(doubled.images)
    for seed in range(5):
        parts = splits.split_dataset(doubled, "deduplicated", seed, validation_fraction=0.3)
        groups = [
            set(near[rows_].tolist()) for rows_ in (parts.train, parts.validation, parts.test)
        ]
        assert not groups[0] & groups[1]
        assert not (groups[0] | groups[1]) & groups[2]
        assert parts.test.tolist() == [38]


def test_the_official_split_validates_on_the_same_rows_and_trains_on_all_others(doubled):
    near = duplicates.near_groups(doubled.images)
    for seed in range(5):
        deduplicated = splits.split_dataset(doubled, "deduplicated", seed, validation_fraction=0.3)
        official = splits.split_dataset(doubled, "official", seed, validation_fraction=0.3)
        assert official.validation.tolist() == deduplicated.validation.tolist()
        assert len(official.train) + len(official.validation) == 38
        assert not set(near[official.train].tolist()) & set(near[official.validation].tolist())
        assert splits.without_near_duplicates(doubled, deduplicated).tolist() == [True]
        assert splits.without_near_duplicates(doubled, official).tolist() == [False]


def test_the_decks_split_validates_on_both_tests(small):
    parts = splits.split_dataset(read.load_dataset(small), "deck")
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (280, 84, 0)


def test_the_audit_counts_what_is_wrong(doubled):
    figures = audit.audit(doubled).figures.to_json()
    assert figures["exact_duplicates"] == {
        "groups": 2, "across_splits": 1, "with_different_labels": 1, "surplus_rows": 2,
    }  # fmt: skip
    assert figures["near_duplicates"]["groups"] >= 4
    assert figures["splits"]["Training"]["shape"] == [38, 48, 48]


def test_the_audit_page_and_the_grid_are_drawn(doubled):
    result = audit.audit(doubled)
    page = audit.as_html(result, doubled)
    assert page.count("data:image/png;base64,") >= 2
    assert 'src="http' not in page
    assert audit.show(doubled, 12).startswith(b"\x89PNG")


def test_without_a_kaggle_token_the_error_tells_how_to_get_one(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KAGGLE_KEY", "KAGGLE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DataError, match="Create new token"):
        fetch.fetch("msambare/fer2013", tmp_path / "data")


def test_the_real_file_has_the_real_counts(fer2013):
    dataset = read.load_dataset(fer2013, fer2013.with_name("fer2013new.csv"))
    assert np.bincount(dataset.usages).tolist() == [28560, 3579]
    assert dataset.labels[0] == 0
    figures = audit.audit(dataset).figures
    assert figures.exact_duplicates.groups == 1272
    assert figures.exact_duplicates.across_splits == 269


def test_the_real_split_shares_no_near_duplicate(fer2013):
    dataset = read.load_dataset(fer2013)
    groups = duplicates.cached_near_groups(dataset)
    parts = splits.split_dataset(dataset, "deduplicated")
    train, validation, test = (
        set(groups[rows_].tolist()) for rows_ in (parts.train, parts.validation, parts.test)
    )
    assert not train & validation
    assert not (train | validation) & test
    assert len(parts.validation) > 2500


def test_the_committed_bundle_is_as_good_on_publictest_as_its_card_says(fer2013, bundle):
    dataset = read.load_dataset(fer2013, fer2013.with_name("fer2013new.csv"))
    result = evaluate.evaluate_bundle(bundle, dataset, "official")
    card = Evaluation.from_json(bundle.card.metrics, "card.json")
    assert result.test_name == "PublicTest"
    for labels, scores in result.scores.items():
        pinned = card.networks["int8"].test[labels].accuracy
        # Another processor may round a few rows otherwise.
        assert scores.accuracy == pytest.approx(pinned, abs=0.003)
    own = result.scores[result.head]
    floating = card.networks["float"].test[result.head]
    assert result.head == "real"
    assert own.accuracy >= 0.78
    assert floating.accuracy - own.accuracy <= 0.005
    assert own.calibration_error <= 0.04
    assert result.device.cost["real"] <= 0.03
    assert result.cost.bytes <= 1_000_000
    assert result.cost.macs <= 30_000_000


def test_the_same_pictures_are_held_whatever_file_they_come_in(small, tmp_path, monkeypatch):
    dataset = read.load_dataset(small)
    first = splits.split_dataset(dataset, "official")
    names = tmp_path / "validation_ids.txt"
    names.write_text("\n".join(splits.picture_id(dataset.images[row]) for row in first.validation))
    monkeypatch.setattr(splits, "_VALIDATION_IDS", names)
    order = np.random.default_rng(3).permutation(len(dataset))
    other = dataclasses.replace(dataset.take(order), sha256="another file")
    again = splits.split_dataset(other, "official")
    assert splits.validation_digest(other, again) == splits.validation_digest(dataset, first)
    assert sorted(order[again.train]) == first.train.tolist()
    part = dataclasses.replace(dataset.take(first.validation[1:]), sha256="a part")
    split_of_part = splits.split_dataset(part, "official")
    assert splits.validation_digest(part, split_of_part) != splits.validation_digest(dataset, first)


def test_the_real_data_holds_the_rows_that_the_committed_teachers_left_out(fer2013):
    dataset = read.load_dataset(fer2013)
    facts = json.loads((ROOT / "models" / "teachers" / "ensemble.json").read_text())["facts"]
    assert (
        splits.validation_digest(dataset, splits.split_dataset(dataset, "official"))
        == facts["validation_rows"]
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["data", "audit", "x.csv", "--plus", "votes.csv"], "--plus is now --ferplus; rename it"),
        (
            ["fit", "edge", "--split", "honest"],
            "argument --split: honest is now official; rename it",
        ),
        (
            ["evaluate", "runs/edge", "--split", "strict"],
            "argument --split: strict is now deduplicated; rename it",
        ),
        (["tune", "--rows", "8000"], "--rows is now --max-rows; rename it"),
        (["tune", "--most-macs", "20"], "--most-macs is now --max-macs; rename it"),
        (
            ["ablate", "--teacher", "t", "--aware-epochs", "1"],
            "--aware-epochs is now --qat-epochs; rename it",
        ),
    ],
)
def test_a_word_of_an_earlier_version_is_a_usage_error_that_names_the_new_one(
    arguments, line, capsys
):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"error: {line}")


def test_a_split_of_an_earlier_version_keeps_its_meaning():
    assert [splits.current_split_name(name) for name in ("honest", "strict", "deck")] == list(
        splits.SPLITS
    )
    assert [splits.current_split_name(name) for name in splits.SPLITS] == list(splits.SPLITS)


def test_boxes_of_some_rows_are_found_without_a_search_in_the_others(small, monkeypatch):
    dataset = read.load_dataset(small)
    searched = []

    def detect(images):
        searched.append(len(images))
        return images.reshape(len(images), -1)[:, :4] / 255

    monkeypatch.setattr(faces, "detect_boxes", detect)
    rows_ = np.array([5, 300, 7])
    some = faces.cached_boxes(dataset, rows_)
    others = faces.cached_boxes(dataset, rows_ + 1)
    assert searched == [3, 3]
    every = faces.cached_boxes(dataset)
    assert (every[rows_] == some).all()
    assert (every[rows_ + 1] == others).all()
    assert (faces.cached_boxes(dataset, rows_) == some).all()
    assert (faces.cached_boxes(dataset, rows_[:1]) == some[:1]).all()
    assert searched == [3, 3, len(dataset)], "each only once, and from all where there are all"


def test_caches_of_the_first_version_are_still_found(small):
    dataset = read.load_dataset(small)
    old = data_cache.cache_folder() / f"{dataset.sha256}-{len(dataset)}-boxes-bb1ddc1d.npz"
    boxes = np.zeros((len(dataset), 4))
    data_cache.cached(old, lambda: boxes)
    assert (faces.cached_boxes(dataset) == boxes).all(), "the detector was not asked again"
    names = [splits.first_split_name(name) for name in splits.SPLITS]
    assert names == ["honest", "strict", "deck"]
