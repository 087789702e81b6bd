"""Runs: heads as values, data that is read once a command, and records of earlier versions."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mien_edge import files
from mien_edge.errors import RunError
from mien_train import cli
from mien_train.data import heads, read
from mien_train.data.heads import FER2013, Head
from mien_train.data.source import DataSource
from mien_train.training import ensemble, fit, start
from mien_train.training.recipes import EDGE, TINY, parse_recipe
from mien_train.training.run import RunRequest, begin, open_run

pytestmark = pytest.mark.slow

MODELS = Path(__file__).parents[3] / "models"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder for runs, with a cache of its own."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield folder


def request(folder, data, recipe=TINY):
    return RunRequest(folder, recipe, DataSource(data), "official", "test")


def test_another_head_is_one_entry_and_a_recipe(folder, small, monkeypatch):
    happy = Head("smile", "smiles", "It predicts a smile.", 0.5, labels=("happy", "neutral"))
    monkeypatch.setitem(heads.HEADS, "smile", happy)
    two_steps = replace(TINY.fit, epochs=1, batch_size=120)
    run = begin(
        request(folder / "third", small, replace(TINY, heads=("fer2013", "smile"), fit=two_steps))
    )
    assert len(run.split.train) // two_steps.batch_size == 2
    (entry,) = fit.fit(run)
    assert {"val_accuracy_0", "val_accuracy_1"} <= set(entry)
    assert fit.float_network(run, "smile").output_shape == (None, 2)


def test_a_head_matches_labels_by_name_and_a_row_without_one_teaches_it_nothing(small):
    dataset = read.load_dataset(small)
    shuffled = replace(dataset, label_names=("neutral", "x", "fear", "happy", "sad", "y", "angry"))
    head = Head("smile", "smiles", "It predicts a smile.", 0.5, labels=("happy", "neutral"))
    indices = head.label_indices(shuffled)
    assert indices.tolist() == [{3: 0, 0: 1}.get(label, -1) for label in dataset.labels]
    targets = head.targets(shuffled, 0.1)
    assert targets.shape == (len(dataset), 2)
    assert (targets.sum(axis=1) == (indices >= 0)).all()
    weighted = replace(shuffled, weights=np.full(len(dataset), 0.5, np.float32))
    joined = heads.join_targets(weighted, (heads.FER2013, head), 0.1)
    assert joined.shape == (len(dataset), 9)
    assert joined[:, 7:] == pytest.approx(0.5 * targets)


def test_the_head_of_the_datas_own_labels_takes_their_names(small):
    dataset = replace(read.load_dataset(small), label_names=tuple("abcdefg"))
    (head,) = heads.resolve(("labels",), dataset)
    assert head.labels == tuple("abcdefg")
    assert (head.label_indices(dataset) == dataset.labels).all()


def test_ferplus_with_contempt_has_eight_labels(voted):
    dataset = read.load_dataset(voted, voted.parent / "fer2013new.csv")
    votes = np.zeros_like(dataset.votes)
    votes[:, read.VOTES.index("contempt")] = 6
    votes[:, read.VOTES.index("anger")] = 4
    dataset = replace(dataset, votes=votes)
    assert (heads.FERPLUS8.label_indices(dataset) == 7).all()
    assert (heads.FERPLUS.label_indices(dataset) == -1).all()
    assert heads.FERPLUS8.targets(dataset, 0.0)[0] == pytest.approx([0.4, *[0] * 6, 0.6])


def test_an_unknown_head_is_refused_with_those_there_are(folder, small):
    with pytest.raises(RunError, match="unknown head 'other'; choose one of fer2013, ferplus"):
        begin(request(folder / "unknown", small, replace(TINY, heads=("other",))))


def test_the_threshold_goes_by_what_people_see_where_that_is_known():
    assert heads.calibration_head([heads.FER2013, heads.FERPLUS]) is heads.FERPLUS
    assert heads.calibration_head([heads.FER2013]) is FER2013


def count_reads(monkeypatch, path):
    """Return a list that grows by one whenever that file is hashed, as it is whenever it is read."""
    hashed = []
    sha256 = files.sha256

    def counting_sha256(file):
        if file == path:
            hashed.append(file)
        return sha256(file)

    monkeypatch.setattr(files, "sha256", counting_sha256)
    return hashed


def test_a_command_reads_and_hashes_its_data_once(folder, small, tiny_run, monkeypatch, capsys):
    finished = folder / "finished"
    shutil.copytree(tiny_run, finished)
    data = ["--data", str(small), "--folder"]
    commands = [
        ["fit", "tiny", "--epochs", "1", *data, str(folder / "new")],
        ["run", "tiny", *data, str(finished)],
        *([name, str(finished)] for name in ("quantize", "report", "evaluate")),
    ]
    for command in commands:
        with monkeypatch.context() as patch:
            reads = count_reads(patch, small)
            assert cli.main(command) == 0
            assert len(reads) == 1, command


def test_an_ensemble_of_runs_reads_their_data_once(folder, small, monkeypatch, capsys):
    paths = [folder / "one", folder / "two"]
    for seed, path in enumerate(paths):
        brief = replace(TINY.fit, epochs=1, batch_size=120)
        fit.fit(begin(request(path, small, replace(TINY, seed=seed, fit=brief))))
    capsys.readouterr()
    reads = count_reads(monkeypatch, small)
    command = ["ensemble", str(folder / "both"), *map(str, paths), "--data", str(small), "--json"]
    assert cli.main(command) == 0
    assert len(json.loads(capsys.readouterr().out)["members"]) == 2
    assert len(reads) == 1


def test_data_that_changed_since_the_run_began_is_refused(folder, small, tmp_path):
    data = tmp_path / "fer2013.csv"
    data.write_bytes(small.read_bytes())
    begin(request(folder / "changed", data))
    data.write_bytes(small.read_bytes().rsplit(b"\n", 2)[0] + b"\n")
    with pytest.raises(Exception, match="changed since"):
        _ = open_run(folder / "changed").dataset
    with pytest.raises(RunError, match="another data"):
        begin(request(folder / "changed", data))


AUGMENT = {
    "flip": 0.5, "rotate": 12.0, "scale": 0.15, "shift": 3.0, "brightness": 20.0, "contrast": 0.2, "blur": 0.1,
    "noise": 6.0, "erase": 0.3, "mixup": 0.2, "device": 0.0, "gamma": 0.0, "shrink": 0.0, "jpeg": 0.0,
}  # fmt: skip
FIT = {
    "epochs": 3, "batch_size": 32, "learning_rate": 0.002, "warmup": 0, "weight_decay": 0.05, "smoothing": 0.1,
    "average": 0.9, "patience": 20, "augment": AUGMENT, "taught": 0.0, "views": 16, "optimizer": "adamw",
    "schedule": "cosine",
}  # fmt: skip
QUANTIZE = FIT | {"epochs": 1, "learning_rate": 0.0001, "weight_decay": 0.002, "patience": 1}
RECIPE = {
    "name": "tiny", "network": "residual", "fit": FIT, "quantize": QUANTIZE,
    "arguments": {"stem": 4, "widths": [8, 12], "depths": [1, 1]},
    "preprocess": {"size": 48, "margin": -0.03, "tone": "standard"},
    "seed": 0, "heads": ["fer2013"], "precision": "float32", "start": "",
}  # fmt: skip


def write_old_run(folder, data, votes):
    """Write run.json as version 0.1.0 did, with the names of then."""
    source = {
        "path": str(data), "plus": str(votes), "plus_sha256": files.sha256(votes), "sha256": files.sha256(data),
        "rows": 364, "skipped": 0, "skip_bad": False,
    }  # fmt: skip
    record = {
        "recipe": RECIPE, "began": "chance", "command": "mien-train fit tiny", "data": source, "split": "honest",
        "versions": {"mien": "0.1.0"}, "teacher": None, "pretrained": None,
    }  # fmt: skip
    files.write_text(folder / "run.json", json.dumps(record))


def test_a_run_folder_of_an_earlier_version_opens_and_is_continued(folder, voted):
    votes = voted.parent / "fer2013new.csv"
    write_old_run(folder / "old", voted, votes)
    run = open_run(folder / "old")
    assert run.recipe.to_dict() == json.loads(json.dumps(TINY.to_dict())) | {"heads": ("fer2013",)}
    assert (run.start, run.record["split"]) == ("chance", "official")
    assert run.dataset.votes is not None
    again = begin(RunRequest(folder / "old", TINY, DataSource(voted, votes), "official", "test"))
    assert again.start == "chance"
    with pytest.raises(RunError, match="another recipe"):
        begin(
            RunRequest(
                folder / "old", replace(TINY, seed=1), DataSource(voted, votes), "official", "test"
            )
        )


def test_a_run_that_lacks_a_key_names_it(folder, voted):
    write_old_run(folder / "partial", voted, voted.parent / "fer2013new.csv")
    path = folder / "partial" / "run.json"
    record = json.loads(path.read_text())
    del record["began"]
    path.write_text(json.dumps(record))
    with pytest.raises(RunError, match="'start' does not fit this mien"):
        open_run(folder / "partial")


def test_recipes_in_committed_cards_are_read_with_todays_names():
    card = json.loads((MODELS / "edge-fer2013-4" / "card.json").read_text())
    recipe = parse_recipe(card["origin"]["recipe"])
    assert recipe.initial_weights == EDGE.initial_weights
    assert recipe.fit.distillation_weight == card["origin"]["recipe"]["fit"]["taught"] > 0
    assert recipe.fit.ema_decay == EDGE.fit.ema_decay
    assert parse_recipe(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_the_committed_teachers_are_read_with_todays_names():
    record = json.loads((MODELS / "teachers" / "ensemble.json").read_text())
    teacher = ensemble.load_ensemble(MODELS / "teachers")
    facts = record["facts"]
    assert teacher.facts.validation_rows == facts["validation_rows"]
    earlier = {key: value for key, value in facts.items() if key != "validation_rows"}
    earlier |= {"held rows": facts["validation_rows"], "split": "honest"}
    assert ensemble.Facts.from_record(earlier) == teacher.facts
    assert teacher.facts.split == "official"
    assert [member.name for member in teacher.members] == [
        member["name"] for member in record["members"]
    ]
    member = start.initial_member(EDGE, teacher)
    assert member.has_shape_of(EDGE)
    crops = np.random.default_rng(0).integers(0, 256, (4, 48, 48), np.uint8)
    assert member.probabilities(member.logits(crops)).sum(axis=1) == pytest.approx(2)


DISTILLED = replace(
    TINY,
    name="distilled",
    fit=replace(TINY.fit, distillation_weight=0.5),
)


def test_a_teacher_of_other_rows_is_refused_before_a_face_is_searched(voted, tmp_path, monkeypatch):
    record = json.loads((MODELS / "teachers" / "ensemble.json").read_text())
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "ensemble.json").write_text(json.dumps(record))
    monkeypatch.setattr("mien_train.data.faces.detect_boxes", None)
    data = DataSource(voted, voted.parent / "fer2013new.csv")
    recipe = replace(DISTILLED, heads=("fer2013", "ferplus"))
    wanted = RunRequest(tmp_path / "run", recipe, data, "official", "", tmp_path / "teacher")
    with pytest.raises(RunError, match=r"teacher has other validation rows than .*run"):
        begin(wanted)
    assert not (tmp_path / "run").exists()


def test_what_is_missing_or_differs_is_said_before_the_data_are_read(folder, small, tmp_path):
    unread = DataSource(tmp_path / "none.csv")
    for recipe, name, teacher, reason in (
        (DISTILLED, "new", tmp_path / "nobody", "no ensemble here"),
        (replace(TINY, seed=5), "begun", None, "holds a run with another recipe"),
    ):
        wanted = RunRequest(tmp_path / name, recipe, unread, "official", "", teacher)
        if name == "begun":
            begin(replace(wanted, recipe=TINY, data=DataSource(small)))
        with pytest.raises(RunError, match=reason):
            begin(wanted)
