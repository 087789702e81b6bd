"""Teachers, the ensemble, distillation and two heads, all with minute networks on small data."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from mien_edge.errors import RunError
from mien_edge.model.bundle import load_bundle, shipped_bundle
from mien_edge.model.interpreter import Classifier
from mien_train import cli
from mien_train.data import augment, read
from mien_train.results import ablate, evaluate, export, report
from mien_train.training import dequantize, distill, ensemble, fit, loop, networks, prune, quantize
from mien_train.training import run as runs
from mien_train.training import samples as materials
from mien_train.training import start as starts
from mien_train.training.recipes import EDGE, TEACHER_FACE, TINY
from mien_train.training.samples import HEADS

pytestmark = pytest.mark.slow

TWO_HEADS = dataclasses.replace(TINY, heads=HEADS, fit=dataclasses.replace(TINY.fit, epochs=2))
TAUGHT = dataclasses.replace(
    TWO_HEADS,
    name="taught",
    fit=dataclasses.replace(TWO_HEADS.fit, taught=0.8, views=2),
    quantize=dataclasses.replace(TWO_HEADS.quantize, taught=0.8, views=2),
)


@pytest.fixture(scope="module")
def begin(voted, tmp_path_factory):
    """Begins a run of a recipe on the small data, in a folder shared by these tests."""
    folder = tmp_path_factory.mktemp("runs")
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))

    def started(recipe, name, teacher=None):
        plus = voted.parent / "fer2013new.csv"
        began = starts.began(recipe, teacher)
        return runs.begin(folder / name, recipe, voted, plus, "official", False, f"test {name}", began, teacher)

    yield started
    patch.undo()


@pytest.fixture(scope="module")
def teachers(begin):
    """Two fitted runs of other networks, and their ensemble's folder and figures."""
    plain = {"network": "plain", "arguments": {"widths": (8, 12), "depths": (1, 1)}, "precision": "mixed_bfloat16"}
    members = [begin(TWO_HEADS, "first"), begin(dataclasses.replace(TWO_HEADS, seed=1, **plain), "second")]
    for member in members:
        fit.fit(member)
    folder = members[0].folder.parent / "teachers"
    return folder, members, gather(folder, members)


def gather(folder, members):
    """`mien-train ensemble`."""
    found = [each for run in members for each in ensemble.members(run.folder)]
    return ensemble.make(folder, found, members[0].dataset())


@pytest.fixture(scope="module")
def student(begin, teachers):
    """A distilled, quantised and exported run, with the bundle of each head."""
    run = begin(TAUGHT, "student", teachers[0])
    fit.fit(run)
    quantize.quantize(run)
    return run, {head: export.export(run, run.folder / "models", head) for head in HEADS}


def test_the_ensemble_is_the_weighted_mean_of_its_members(teachers):
    folder, _, _ = teachers
    asked = ensemble.load(folder)
    crops = np.random.default_rng(0).integers(0, 256, (5, 48, 48), np.uint8)
    parts = [each.share * each.calibrated(each.logits(crops)) for each in asked.members]
    told = asked(crops)
    assert told == pytest.approx(sum(parts))
    assert told.shape == (5, 2, 7)
    assert told.sum(axis=2) == pytest.approx(1)
    assert sum(each.share for each in asked.members) == pytest.approx(1)


def test_the_ensemble_measures_each_member_and_the_whole(teachers):
    folder, members, found = teachers
    assert [each["name"] for each in found["members"]] == [member.folder.name for member in members]
    for figures in (found["figures"], found["equal"], *(each["figures"] for each in found["members"])):
        assert set(figures) == {"validation", "PublicTest", "PublicTest unseen"}
        assert figures["PublicTest"]["ferplus"]["rows"] == 56
    assert (folder / "ensemble.png").read_bytes().startswith(b"\x89PNG")
    assert ensemble.as_text(found).count("\n") == len(members) + 2


def test_members_that_differ_in_heads_are_refused(teachers, tiny_run, tmp_path):
    with pytest.raises(RunError, match="other heads"):
        gather(tmp_path, [teachers[1][0], runs.load(tiny_run)])


def test_an_ensemble_needs_nothing_but_its_folder_and_can_grow(begin, teachers, tmp_path):
    folder, members, found = teachers
    shutil.copytree(folder, tmp_path / "moved", ignore=shutil.ignore_patterns("opinions"))
    crops = np.random.default_rng(0).integers(0, 256, (5, 48, 48), np.uint8)
    assert (ensemble.load(tmp_path / "moved")(crops) == ensemble.load(folder)(crops)).all()
    third = begin(dataclasses.replace(TWO_HEADS, seed=2), "third")
    fit.fit(third)
    joined = [*ensemble.members(tmp_path / "moved"), *ensemble.members(third.folder)]
    grown = ensemble.make(tmp_path / "grown", joined, members[0].dataset())
    assert [each["name"] for each in grown["members"]] == ["first", "second", "third"]
    assert grown["members"][0]["figures"] == found["members"][0]["figures"]


def test_weights_go_to_the_member_that_is_right():
    labels = np.array([[0], [1], [2], [3]])
    right = np.eye(7)[labels] * 0.9 + 0.1 / 7
    wrong = np.eye(7)[(labels + 1) % 7] * 0.9 + 0.1 / 7
    assert ensemble.best_weights([wrong, right], labels).tolist() == [0, 1]


def test_a_taught_recipe_without_a_teacher_says_how_to_get_one_and_that_helps(begin, teachers):
    with pytest.raises(RunError, match="--teacher"):
        begin(TAUGHT, "untaught")
    assert begin(TAUGHT, "untaught", teachers[0]).teacher() == teachers[0]


ONCE = dataclasses.replace(TINY.fit, epochs=1, learning_rate=0.0, taught=0.8, views=1)
CUT = dataclasses.replace(
    EDGE, name="small", arguments={"widths": (4, 8, 8), "halving": (1, 2)}, fit=ONCE, quantize=ONCE
)


@pytest.fixture(scope="module")
def faces(begin):
    """The folder of an ensemble whose only network is a `face`."""
    stage = dataclasses.replace(ONCE, taught=0.0)
    run = begin(dataclasses.replace(TEACHER_FACE, start="", fit=stage, quantize=stage), "face")
    fit.fit(run)
    gather(run.folder.parent / "faces", [run])
    return run.folder.parent / "faces"


@pytest.fixture(scope="module")
def cut_run(begin, faces):
    """A run that was cut out of it, with the bundles of its heads."""
    run = begin(CUT, "cut", faces)
    fit.fit(run)
    quantize.quantize(run)
    return run, [export.export(run, run.folder / "models", head) for head in HEADS]


def assert_kernels(run, expected):
    """The run's kernels are these; normalisations have gone on with what they saw."""
    for kept, wanted in zip(loop.best_weights(run.stage("fit")), expected, strict=True):
        if wanted.ndim > 1:
            np.testing.assert_allclose(kept, wanted, atol=1e-5)


def test_a_cut_recipe_starts_from_its_teachers_face_network(begin, teachers, faces, cut_run):
    with pytest.raises(RunError, match="small starts from a network of its own shape, or a cut of a `face`, and there"):
        begin(CUT, "uncut", teachers[0])
    with pytest.raises(RunError, match="its `fit` needs distillation"):
        begin(dataclasses.replace(CUT, fit=dataclasses.replace(ONCE, taught=0.0)), "untaught", faces)
    run, bundles = cut_run
    expected = networks.build(CUT)
    crops = CUT.preprocess.normalize(fit.material(run, CUT.fit).images)
    prune.prune(expected, starts.source(CUT, faces).network(), crops)
    assert_kernels(run, expected.get_weights())
    assert bundles[0].card.provenance["start"] == run.began == "cut out of face, before that: chance"


def test_a_network_of_the_same_shape_is_gone_on_from_even_beside_a_face(begin, faces, cut_run, voted, tmp_path):
    run, bundles = cut_run
    (member,) = dequantize.members([each.folder for each in bundles], run.dataset())
    assert member.name == "small-fer2013-1+small-ferplus-1"
    command = ["ensemble", tmp_path / "grown", faces, *(each.folder for each in bundles), "--data", voted]
    assert cli.main(list(map(str, command))) == 0
    share_alike(tmp_path / "grown")
    again = begin(CUT, "again", tmp_path / "grown")
    fit.fit(again)
    assert_kernels(again, member.weights)
    assert again.began == f"{member.name}, before that: cut out of face, before that: chance"
    only = begin(dataclasses.replace(CUT, start="cut"), "only", tmp_path / "grown")
    assert only.began == "cut out of face, before that: chance"


def share_alike(folder):
    """Let every member count, whatever a minute network is worth."""
    path = folder / "ensemble.json"
    found = json.loads(path.read_text())
    for each in found["members"]:
        each["share"] = 1 / len(found["members"])
    path.write_text(json.dumps(found))


def test_what_was_recorded_before_starts_were_is_told_as_it_was():
    values = json.loads(json.dumps(CUT.to_dict()))
    del values["start"]
    kinds = [runs.parse_recipe({**values, **old}).start for old in ({"pretrained": True}, {"cut": True}, {})]
    assert kinds == ["pretrained", "cut", ""]
    told = [starts.began(dataclasses.replace(CUT, start=kind), None) for kind in kinds]
    assert "HSE-FaceRes" in told[0]
    assert told[1:] == ["a network of its teacher's", "chance"]


def test_the_shipped_bundles_in_float_say_what_they_say_on_a_device():
    names = [shipped_bundle().resolve().name.replace("ferplus", head) for head in HEADS]
    shipped = [load_bundle(shipped_bundle().parent / name) for name in names]
    recipe = runs.parse_recipe(shipped[0].card.provenance["recipe"])
    model = dequantize.network(shipped, recipe, export.golden_inputs(48, 256, seed=1))
    with np.load(shipped[0].folder / "golden.npz") as golden:
        crops = golden["inputs"]
    told = loop.predict(model, crops).reshape(len(crops), -1, 7)
    for head, each in enumerate(shipped):
        assert each.card.provenance["head"] == recipe.heads[head]
        classifier = Classifier(each.model)
        logits = np.stack([classifier.logits(crop) for crop in crops])
        steps = np.abs(logits - told[:, head]) / classifier.output.scale
        assert steps.mean() < 3
        assert np.ptp(logits) > 100 * classifier.output.scale


@pytest.fixture
def altered(cut_run, tmp_path):
    """A copy of a run's bundle with other values in its card's origin."""

    def made(head, **origin):
        found = cut_run[1][HEADS.index(head)]
        target = tmp_path / f"{len(list(tmp_path.iterdir()))}-1"
        shutil.copytree(found.folder, target)
        card = json.loads((target / "card.json").read_text())
        card["origin"] |= origin
        (target / "card.json").write_text(json.dumps(card))
        return target

    return made


def test_bundles_that_make_no_network_are_refused(cut_run, student, altered):
    run, bundles = cut_run
    dataset, both = run.dataset(), [each.folder for each in bundles]
    held = dict(bundles[0].card.provenance["data"])

    def refused(folders, match):
        with pytest.raises(RunError, match=match):
            dequantize.members(folders, dataset)

    refused(both[:1], r"small-fer2013-1 is one head .* of its run: fer2013, ferplus")
    refused([*both, altered("ferplus")], "is one head of a network")
    refused([student[1]["fer2013"].folder], "its network is a `residual`")
    refused([altered("fer2013", recipe={})], r"origin does not fit this mien \('network'\)")
    refused([altered("fer2013", data=None)], "origin does not fit this mien")
    refused([altered(head, data=held | {"held rows": "others"}) for head in HEADS], "trained on other data")
    old = {key: value for key, value in held.items() if key != "held rows"}
    assert dequantize.members([altered(head, data=old) for head in HEADS], dataset)
    refused([altered(head, data=old | {"sha256": "other"}) for head in HEADS], "trained on other data")


def test_heads_of_two_networks_are_refused(cut_run):
    _, bundles = cut_run
    shipped = load_bundle(shipped_bundle())
    with pytest.raises(RunError, match="are not of one network"):
        dequantize.network([bundles[0], shipped], CUT, export.golden_inputs(48, 8, seed=1))
    wide = dataclasses.replace(CUT, arguments={"widths": (4, 8, 12), "halving": (1, 2)})
    with pytest.raises(RunError, match="does not fit its card's recipe"):
        dequantize.network(bundles, wide, export.golden_inputs(48, 8, seed=1))


def test_a_teacher_that_saw_other_rows_is_refused(begin, teachers, monkeypatch):
    run = begin(TAUGHT, "deduplicated", teachers[0])
    run.record["split"] = "deduplicated"
    with pytest.raises(RunError, match="other split"):
        fit.fit(run)


def test_runs_and_ensembles_with_a_split_name_of_an_earlier_version_still_open(begin, teachers, tmp_path):
    run = begin(TWO_HEADS, "old-split")
    record = run.record | {"split": "honest"}
    (run.folder / "run.json").write_text(json.dumps(record))
    assert runs.load(run.folder).record["split"] == "official"
    assert begin(TWO_HEADS, "old-split").record["split"] == "official"
    shutil.copytree(teachers[0], tmp_path / "copy")
    path = tmp_path / "copy" / "ensemble.json"
    facts = json.loads(path.read_text())
    facts["facts"]["split"] = "honest"
    path.write_text(json.dumps(facts))
    assert ensemble.load(tmp_path / "copy").members[0].facts["split"] == "official"


def test_a_damaged_member_is_refused(teachers, tmp_path):
    shutil.copytree(teachers[0], tmp_path / "copy")
    (tmp_path / "copy" / "first.npz").write_bytes(b"half")
    with pytest.raises(RunError, match=r"first\.npz"):
        ensemble.load(tmp_path / "copy")
    (tmp_path / "copy" / "first.npz").unlink()
    with pytest.raises(RunError, match=r"first\.npz"):
        ensemble.load(tmp_path / "copy")


def test_a_member_whose_training_is_not_over_is_refused(begin, tmp_path):
    begun = begin(TWO_HEADS, "begun")
    with pytest.raises(RunError, match="not finished"):
        gather(tmp_path, [begun])


def test_opinions_are_what_the_teacher_says_of_the_very_view(student, teachers):
    run, _ = student
    made = fit.material(run, run.recipe.fit)
    view = materials.judged(made, run.recipe.fit.augment, run.recipe.seed, 1)(np.arange(len(made.images)))
    assert np.abs(made.opinions[1].astype(float) - ensemble.load(teachers[0])(view)).max() < 0.01


def test_opinions_are_asked_for_once_and_a_missing_one_again(student, teachers):
    run, _ = student
    kept = sorted((teachers[0] / "opinions").rglob("*.npz"))
    assert len(kept) == 2  # the same augmentation in both stages
    before = [path.stat().st_mtime_ns for path in kept]
    kept[0].unlink()
    dataset = run.dataset()
    plain = materials.of(dataset, run.split(dataset), HEADS, run.recipe.preprocess, 0.1)
    assert len(distill.taught(run, run.recipe.fit, plain).opinions) == 2
    after = [path.stat().st_mtime_ns for path in kept]
    assert after[0] > before[0]
    assert after[1] == before[1]


def test_each_heads_bundle_computes_that_heads_logits(student):
    run, made = student
    crops = np.random.default_rng(0).integers(0, 256, (20, 48, 48), np.uint8)
    for head in HEADS:
        told = evaluate.int8_logits(made[head].model, crops)
        aware = quantize.quantized(run, head).predict(crops[..., None] / np.float32(255), verbose=0)
        assert np.abs(told - aware).max() < 0.1 * np.ptp(aware)
    heads = [fit.fitted(run, head).predict(crops[..., None] / np.float32(255), verbose=0) for head in HEADS]
    assert np.abs(heads[0] - heads[1]).max() > 1e-3


def test_bundles_are_named_after_their_heads_and_say_who_taught_them(student, teachers):
    _, made = student
    assert [each.card.id for each in made.values()] == ["taught-fer2013-1", "taught-ferplus-1"]
    for head, each in made.items():
        assert each.card.provenance["head"] == head
        assert sum(member["share"] for member in each.card.provenance["teacher"]) == pytest.approx(1)
        assert each.card.metrics["device"]["faces"] + each.card.metrics["device"]["missed"] == 56


def test_the_report_shows_both_heads(student):
    page = report.report(student[0]).read_text()
    assert "Tells FER2013 labels" in page
    assert "Tells FER+ majorities" in page
    assert page.count("<figcaption>Risk-coverage") == 2
    assert "The teacher" in page


def test_evaluate_compares_two_bundles(student, voted, capsys):
    _, made = student
    first, second = (str(each.folder) for each in made.values())
    assert cli.main(["evaluate", first, "--against", second, "--data", str(voted), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["against"]) == {"model", "fer2013", "ferplus"}
    assert 0 < found["against"]["fer2013"]["p"] <= 1
    assert {each["operator"] for each in found["layers"]} >= {"CONV_2D", "FULLY_CONNECTED"}
    assert "Cortex-A72" in "".join(found["network"]["estimates"])


def test_the_ablation_measures_each_row_and_three_ways_to_int8(begin, teachers, tmp_path):
    def started(recipe):
        teacher = teachers[0] if recipe.fit.taught or recipe.quantize.taught else None
        return begin(recipe, recipe.name, teacher)

    rows = [("plain", dataclasses.replace(TINY, name="ablated")), ("+ all", dataclasses.replace(TAUGHT, name="last"))]
    found = ablate.ablate(rows, started, 1, 1, tmp_path)
    titles = ["plain", "+ all", "int8, PTQ", "int8, QAT", "int8, QAT + distillation"]
    assert [row.title for row in found] == titles
    assert found[0].ferplus is None
    assert all(0 <= row.fer2013 <= 1 and row.ferplus is not None for row in found[1:])
    assert found[4].seconds > found[2].seconds == found[1].seconds > 0
    assert (tmp_path / "ablation.csv").read_text().count("\n") == 6
    assert "data:image/png;base64," in (tmp_path / "ablation.html").read_text()


def test_votes_become_shares_and_doubt_counts_less(voted):
    dataset = read.load(voted, voted.parent / "fer2013new.csv")
    shares = materials.targets(dataset, ("ferplus",), 0.1)[:, 0]
    assert shares.sum(axis=1) == pytest.approx(0.8)  # two of ten did not know
    assert shares[0, 0] == pytest.approx(0.6)


def test_a_recipe_of_votes_needs_votes(small):
    with pytest.raises(read.DataError, match="--ferplus"):
        materials.targets(read.load(small), HEADS, 0.1)


def test_the_loss_of_a_row_is_its_cross_entropy_whatever_it_sums_to():
    from mien_train.training import loop

    targets = np.array([[[0.5, 0.25, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0]]], np.float32)
    logits = np.array([[1, 2, 0, 0, 0, 0, 0, 9, 9, 9, 9, 9, 9, 9]], np.float32)
    logs = logits[0, :7] - np.log(np.exp(logits[0, :7]).sum())
    assert loop.loss(targets, logits).numpy() == pytest.approx([-(0.5 * logs[0] + 0.25 * logs[1])])


def test_the_detectors_crop_of_a_picture_is_the_one_that_training_draws(voted):
    """A real face: the device's crop and the augmentation's agree, but for how they resample."""
    import cv2
    from mien_edge.chain import sources
    from mien_edge.contract import Preprocess
    from mien_train.data import faces

    gray = cv2.cvtColor(sources.read_photo(sources.astronaut()), cv2.COLOR_BGR2GRAY)
    face = cv2.resize(gray[50:210, 145:305], (48, 48), interpolation=cv2.INTER_AREA)[None]
    dataset = dataclasses.replace(
        read.load(voted), images=face, labels=np.zeros(1, np.int8), usages=np.zeros(1, np.int8), sha256="one-face"
    )
    plain = Preprocess(48, -0.03, "none")
    found, crops = evaluate.device_rows(dataset, np.array([0]), plain)
    assert found.tolist() == [0]
    always = augment.draw(1, dataclasses.replace(augment.OFF, device=1.0), np.random.default_rng(0))
    drawn = augment.apply(face, always, faces.squares(dataset, plain))
    assert np.corrcoef(drawn.ravel(), crops.ravel())[0, 1] > 0.98
