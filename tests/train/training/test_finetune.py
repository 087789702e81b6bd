"""Fine-tuning a bundle: refusals first; what its network starts from; what it must not forget."""

import cv2
import numpy as np
import pytest
from mien_edge.model.bundle import shipped_bundle
from mien_train import cli
from small_data import picture

START = shipped_bundle()


def write_pictures(folder, **counts):
    """Write so many pictures of each label as train/LABEL/N.png."""
    rng = np.random.default_rng(0)
    for index, (label, count) in enumerate(counts.items()):
        (folder / "train" / label).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            cv2.imwrite(str(folder / "train" / label / f"{number}.png"), picture(index, rng))
    return folder


def finetune(tmp_path, *words):
    return cli.main(["run", "finetune", "--folder", str(tmp_path / "run"), *map(str, words)])


def test_what_is_missing_is_named_before_any_work(tmp_path, capsys):
    photos = write_pictures(tmp_path / "photos", happy=30, sad=30)
    for words, message in (
        (["--data", photos], f"name it with --start, such as the one that ships: --start {START}"),
        (["--start", START], "your own photographs; name them with --data FOLDER"),
        (["--start", tmp_path, "--data", photos], "card.json"),
        (["--start", START, "--data", tmp_path / "none"], "none: no such file or folder"),
    ):
        assert finetune(tmp_path, *words) == 1
        (error,) = capsys.readouterr().err.splitlines()
        assert message in error
    assert not (tmp_path / "run").exists()


def test_start_is_refused_for_recipes_that_do_not_start_from_a_bundle(small, tmp_path, capsys):
    words = ["--data", str(small), "--start", str(START), "--folder", str(tmp_path / "run")]
    assert cli.main(["fit", "tiny", *words]) == 1
    assert "--start is for the recipe finetune; leave it out for tiny" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"happy": 20, "sad": 10}, "30 pictures with a face and a label are too few; 40 are needed"),
        ({"happy": 50}, "all pictures are labelled 'happy'; add pictures of other labels"),
        ({"happy": 50, "sad": 1}, "there is one picture of 'sad', which cannot be learnt and"),
    ],
)  # fmt: skip
def test_too_few_pictures_are_refused_before_anything_is_written(tmp_path, capsys, counts, message):
    photos = write_pictures(tmp_path / "photos", **counts)
    assert finetune(tmp_path, "--start", START, "--data", photos) == 1
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()
