"""Teachers, the ensemble, distillation and two heads, all with minute networks on small data."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from mien_edge.contract import softmax
from mien_edge.errors import RunError
from mien_edge.model.bundle import load_bundle, shipped_bundle
from mien_edge.model.interpreter import Classifier
from mien_train import cli
from mien_train.data import augment, heads, read, strengths
from mien_train.data.source import DataSource
from mien_train.results import ablate, evaluate, export, report
from mien_train.training import (
    dequantize,
    derived,
    distill,
    ensemble,
    fake_quant,
    fit,
    loop,
    members,
    networks,
    prune,
    quantize,
    samples,
    start,
    steps,
)
from mien_train.training.recipes import EDGE, TEACHER_FACE, TINY, parse_recipe
from mien_train.training.run import RunRequest, begin, open_run

pytestmark = pytest.mark.slow

HEADS = ("fer2013", "ferplus")

TWO_HEADS = dataclasses.replace(TINY, heads=HEADS, fit=dataclasses.replace(TINY.fit, epochs=2))
DISTILLED = dataclasses.replace(
    TWO_HEADS,
    name="distilled",
    fit=dataclasses.replace(TWO_HEADS.fit, distillation_weight=0.8, teacher_views=2),
    quantize=dataclasses.replace(TWO_HEADS.quantize, distillation_weight=0.8, teacher_views=2),
)


@pytest.fixture(scope="module")
def begin_run(voted, tmp_path_factory):
    """Begins a run of a recipe on the small data, in a folder shared by these tests."""
    folder = tmp_path_factory.mktemp("runs")
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))

    def begin_in_folder(recipe, name, teacher=None):
        data = DataSource(voted, voted.parent / "fer2013new.csv")
        return begin(RunRequest(folder / name, recipe, data, "official", f"test {name}", teacher))

    yield begin_in_folder
    patch.undo()


@pytest.fixture(scope="module")
def teachers(begin_run):
    """Two fitted runs of other networks, and their ensemble's folder and figures."""
    plain = {
        "network": "plain",
        "arguments": {"widths": (8, 12), "depths": (1, 1)},
        "precision": "mixed_bfloat16",
    }
    runs = [
        begin_run(TWO_HEADS, "first"),
        begin_run(dataclasses.replace(TWO_HEADS, seed=1, **plain), "second"),
    ]
    for run in runs:
        fit.fit(run)
    folder = runs[0].folder.parent / "teachers"
    return folder, runs, gather(folder, runs)


def gather(folder, runs, **options):
    """`mien-train ensemble`."""
    paths = [run.folder for run in runs]
    return ensemble.make_ensemble(
        folder, members.open_members(paths, runs[0].data), runs[0].dataset, **options
    )


@pytest.fixture(scope="module")
def student(begin_run, teachers):
    """A distilled, quantised and exported run, with the bundle of each head."""
    run = begin_run(DISTILLED, "student", teachers[0])
    fit.fit(run)
    quantize.quantize(run)
    return run, {head: export.export(run, run.folder / "models", head) for head in HEADS}


def test_the_ensemble_is_the_weighted_mean_of_its_members(teachers):
    folder, _, _ = teachers
    teacher = ensemble.load_ensemble(folder)
    crops = np.random.default_rng(0).integers(0, 256, (5, 48, 48), np.uint8)
    parts = [
        member.share * member.probabilities(member.logits(crops)) for member in teacher.members
    ]
    probabilities = teacher(crops)
    assert probabilities == pytest.approx(sum(parts))
    assert probabilities.shape == (5, 14)
    assert probabilities.sum(axis=1) == pytest.approx(2)
    assert sum(member.share for member in teacher.members) == pytest.approx(1)


def test_a_mirrored_ensemble_says_the_same_of_a_crop_and_of_its_mirror_image(teachers, tmp_path):
    result = gather(tmp_path, teachers[1][:1], is_mirrored=True)
    mirrored = ensemble.load_ensemble(tmp_path)
    plain = ensemble.load_ensemble(teachers[0]).members[0]
    crops = np.random.default_rng(0).integers(0, 256, (5, 48, 48), np.uint8)
    mirror_images = np.ascontiguousarray(crops[:, :, ::-1])
    mean = (plain.predict(crops) + plain.predict(mirror_images)) / 2
    assert mirrored(crops) == pytest.approx(mean)
    assert mirrored(mirror_images) == pytest.approx(mean)
    assert not np.allclose(plain.predict(crops), mean)
    member = teachers[2]["members"][0]["figures"]["validation"]["fer2013"]
    assert result["figures"]["validation"]["fer2013"]["nll"] != member["nll"]


def test_the_ensemble_measures_each_member_and_the_whole(teachers):
    folder, runs, result = teachers
    members = result["members"]
    assert [member["name"] for member in members] == [run.folder.name for run in runs]
    for figures in (result["figures"], result["equal"], *(member["figures"] for member in members)):
        assert set(figures) == {"validation", "PublicTest", "PublicTest unseen"}
        assert figures["PublicTest"]["ferplus"]["rows"] == 56
    assert (folder / "ensemble.png").read_bytes().startswith(b"\x89PNG")
    assert ensemble.as_text(result).count("\n") == len(runs) + 2


def test_networks_with_eight_labels_in_a_head_make_an_ensemble_too(begin_run, tmp_path):
    eight = dataclasses.replace(
        TWO_HEADS, heads=("fer2013", "ferplus8"), fit=dataclasses.replace(TWO_HEADS.fit, epochs=1)
    )
    run = begin_run(eight, "eight")
    fit.fit(run)
    result = gather(tmp_path / "eights", [run])
    assert set(result["figures"]["validation"]) == {"fer2013", "ferplus8"}
    assert list(map(len, result["facts"]["labels"])) == [7, 8]
    teacher = ensemble.load_ensemble(tmp_path / "eights")
    crops = np.random.default_rng(0).integers(0, 256, (5, 48, 48), np.uint8)
    assert teacher(crops).shape == (5, 15)


def test_members_that_differ_in_heads_are_refused(teachers, tiny_run, tmp_path):
    with pytest.raises(RunError, match="other heads"):
        gather(tmp_path, [teachers[1][0], open_run(tiny_run)])


def test_an_ensemble_needs_nothing_but_its_folder_and_can_grow(begin_run, teachers, tmp_path):
    folder, _, result = teachers
    shutil.copytree(folder, tmp_path / "moved", ignore=shutil.ignore_patterns("soft-targets"))
    crops = np.random.default_rng(0).integers(0, 256, (5, 48, 48), np.uint8)
    assert (
        ensemble.load_ensemble(tmp_path / "moved")(crops) == ensemble.load_ensemble(folder)(crops)
    ).all()
    third = begin_run(dataclasses.replace(TWO_HEADS, seed=2), "third")
    fit.fit(third)
    joined = members.open_members([tmp_path / "moved", third.folder], third.data)
    grown = ensemble.make_ensemble(tmp_path / "grown", joined, third.dataset)
    assert [member["name"] for member in grown["members"]] == ["first", "second", "third"]
    assert grown["members"][0]["figures"] == result["members"][0]["figures"]


def test_weights_go_to_the_member_that_is_right():
    labels = np.arange(20)[:, None] % 7
    right = np.full((20, 7), 0.05)
    right[np.arange(20), labels[:, 0]] = 0.7
    wrong = np.roll(right, 1, axis=1)
    assert ensemble.select_shares([wrong, right], labels, [7]).tolist() == [0, 1]


def test_a_taught_recipe_without_a_teacher_says_how_to_get_one_and_that_helps(begin_run, teachers):
    with pytest.raises(RunError, match="--teacher"):
        begin_run(DISTILLED, "untaught")
    assert begin_run(DISTILLED, "untaught", teachers[0]).teacher.folder == teachers[0]


ONCE = dataclasses.replace(
    TINY.fit, epochs=1, learning_rate=0.0, distillation_weight=0.8, teacher_views=1
)
CUT = dataclasses.replace(
    EDGE,
    name="small",
    heads=HEADS,
    arguments={"widths": (4, 8, 8), "halving": (1, 2)},
    fit=ONCE,
    quantize=ONCE,
)


@pytest.fixture(scope="module")
def faces(begin_run):
    """The folder of an ensemble whose only network is a `face`."""
    stage = dataclasses.replace(ONCE, distillation_weight=0.0)
    run = begin_run(
        dataclasses.replace(TEACHER_FACE, initial_weights="random", fit=stage, quantize=stage),
        "face",
    )
    fit.fit(run)
    gather(run.folder.parent / "faces", [run])
    return run.folder.parent / "faces"


@pytest.fixture(scope="module")
def cut_run(begin_run, faces):
    """A run that was pruned from it, with the bundles of its heads."""
    run = begin_run(CUT, "cut", faces)
    fit.fit(run)
    quantize.quantize(run)
    return run, [export.export(run, run.folder / "models", head) for head in HEADS]


def assert_kernels(run, expected):
    """The run's kernels are these; normalizations have followed their inputs meanwhile."""
    weights = loop.best_weights(run.stage_folder("fit"))
    for values, expected_values in zip(weights, expected, strict=True):
        if expected_values.ndim > 1:
            np.testing.assert_allclose(values, expected_values, atol=1e-5)


def test_a_cut_recipe_starts_from_its_teachers_face_network(begin_run, teachers, faces, cut_run):
    with pytest.raises(
        RunError,
        match="small starts from a network of its own shape, or a pruned `face`, and there",
    ):
        begin_run(CUT, "uncut", teachers[0])
    with pytest.raises(RunError, match="its `fit` needs distillation"):
        begin_run(
            dataclasses.replace(CUT, fit=dataclasses.replace(ONCE, distillation_weight=0.0)),
            "untaught",
            faces,
        )
    run, bundles = cut_run
    expected = networks.build(CUT, 14)
    crops = CUT.preprocess.normalize(fit.training_set(run, CUT.fit).images)
    prune.prune(
        expected, start.initial_member(CUT, ensemble.load_ensemble(faces)).network(), crops, 7
    )
    assert_kernels(run, expected.get_weights())
    assert (
        bundles[0].card.provenance["start"]
        == run.start
        == "pruned from face, before that: random weights"
    )


def test_a_network_of_the_same_shape_is_gone_on_from_even_beside_a_face(
    begin_run, faces, cut_run, voted, tmp_path
):
    run, bundles = cut_run
    (member,) = dequantize.members([each.folder for each in bundles], run.dataset)
    assert member.name == "small-fer2013-1+small-ferplus-1"
    command = [
        "ensemble",
        tmp_path / "grown",
        faces,
        *(each.folder for each in bundles),
        "--data",
        voted,
    ]
    assert cli.main(list(map(str, command))) == 0
    share_alike(tmp_path / "grown")
    again = begin_run(CUT, "again", tmp_path / "grown")
    fit.fit(again)
    assert_kernels(again, member.weights)
    assert (
        again.start == f"{member.name}, before that: pruned from face, before that: random weights"
    )
    only = begin_run(dataclasses.replace(CUT, initial_weights="pruned"), "only", tmp_path / "grown")
    assert only.start == "pruned from face, before that: random weights"


def share_alike(folder):
    """Let every member count, whatever a minute network is worth."""
    path = folder / "ensemble.json"
    record = json.loads(path.read_text())
    for member in record["members"]:
        member["share"] = 1 / len(record["members"])
    path.write_text(json.dumps(record))


def test_what_was_recorded_before_starts_were_is_told_as_it_was():
    values = json.loads(json.dumps(CUT.to_dict()))
    del values["initial_weights"]
    old = ({"pretrained": True}, {"cut": True}, {}, {"start": "cut"}, {"start": ""})
    kinds = [parse_recipe({**values, **field}).initial_weights for field in old]
    assert kinds == ["pretrained", "pruned", "random", "pruned", "random"]
    texts = [
        start.describe(dataclasses.replace(CUT, initial_weights=kind), None) for kind in kinds[:3]
    ]
    assert "HSE-FaceRes" in texts[0]
    assert texts[1:] == ["a network of its teacher's", "random weights"]


def test_the_shipped_bundles_in_float_say_what_they_say_on_a_device():
    models = shipped_bundle().parent
    shipped = [load_bundle(models / f"edge-{head}-6") for head in HEADS]
    recipe = parse_recipe(shipped[0].card.provenance["recipe"])
    model = dequantize.network(shipped, recipe, export.golden_inputs(48, 256, seed=1))
    with np.load(shipped[0].folder / "golden.npz") as golden:
        crops = golden["inputs"]
    float_logits = np.split(loop.predict(model, crops), 2, axis=1)
    for head, loaded in enumerate(shipped):
        assert loaded.card.provenance["head"] == recipe.heads[head]
        classifier = Classifier(loaded.model)
        logits = np.stack([classifier.logits(crop) for crop in crops])
        steps = np.abs(logits - float_logits[head]) / classifier.output.scale
        assert steps.mean() < 3
        assert np.ptp(logits) > 50 * classifier.output.scale


def test_a_shipped_bundle_made_anew_is_the_same_file():
    shipped = load_bundle(shipped_bundle())
    recipe = parse_recipe(shipped.card.provenance["recipe"])
    model = dequantize.fake_quantized_network(shipped, recipe)
    assert quantize.quantized_content(recipe, model) == shipped.model.read_bytes()


def test_a_bundle_with_one_step_for_a_depthwise_kernel_made_anew_says_what_it_said(tmp_path):
    shipped = load_bundle(shipped_bundle().parent / "edge-ferplus-4")
    recipe = parse_recipe(shipped.card.provenance["recipe"])
    model = dequantize.fake_quantized_network(shipped, recipe)
    path = tmp_path / "model.tflite"
    path.write_bytes(quantize.quantized_content(recipe, model))
    with np.load(shipped.folder / "golden.npz") as golden:
        crops = golden["inputs"]
    anew = Classifier(path)
    assert anew.output.scale == pytest.approx(Classifier(shipped.model).output.scale, rel=1e-4)
    logits = evaluate.int8_logits(path, crops)
    expected = evaluate.int8_logits(shipped.model, crops)
    assert (logits.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.95
    assert np.abs(logits - expected).mean() < 2 * anew.output.scale
    assert fake_quant.predict(model, crops) == pytest.approx(logits, abs=1e-3)


@pytest.fixture
def altered(cut_run, tmp_path):
    """A copy of a run's bundle with other values in its card's origin."""

    def copy(head, **origin):
        original = cut_run[1][HEADS.index(head)]
        target = tmp_path / f"{len(list(tmp_path.iterdir()))}-1"
        shutil.copytree(original.folder, target)
        card = json.loads((target / "card.json").read_text())
        card["origin"] |= origin
        (target / "card.json").write_text(json.dumps(card))
        return target

    return copy


def test_bundles_that_make_no_network_are_refused(cut_run, student, altered):
    run, bundles = cut_run
    dataset, both = run.dataset, [each.folder for each in bundles]
    data = dict(bundles[0].card.provenance["data"])

    def refused(folders, match):
        with pytest.raises(RunError, match=match):
            dequantize.members(folders, dataset)

    refused(both[:1], r"small-fer2013-1 is one head .* of its run: fer2013, ferplus")
    refused([*both, altered("ferplus")], "is one head of a network")
    refused([student[1]["fer2013"].folder], "its network is a `residual`")
    refused([altered("fer2013", recipe={})], r"origin does not fit this mien \('network'\)")
    refused([altered("fer2013", data=None)], "origin does not fit this mien")
    refused(
        [altered(head, data=data | {"validation_rows": "others"}) for head in HEADS],
        "trained on other data",
    )
    old = {key: value for key, value in data.items() if key != "validation_rows"}
    assert dequantize.members([altered(head, data=old) for head in HEADS], dataset)
    refused(
        [altered(head, data=old | {"sha256": "other"}) for head in HEADS], "trained on other data"
    )


def test_heads_of_two_networks_are_refused(cut_run):
    _, bundles = cut_run
    shipped = load_bundle(shipped_bundle())
    with pytest.raises(RunError, match="are not of one network"):
        dequantize.network([bundles[0], shipped], CUT, export.golden_inputs(48, 8, seed=1))
    wide = dataclasses.replace(CUT, arguments={"widths": (4, 8, 12), "halving": (1, 2)})
    with pytest.raises(RunError, match="does not fit its card's recipe"):
        dequantize.network(bundles, wide, export.golden_inputs(48, 8, seed=1))


def test_a_teacher_that_saw_other_rows_is_refused(begin_run, teachers, monkeypatch):
    run = begin_run(DISTILLED, "deduplicated", teachers[0])
    run = dataclasses.replace(run, record=run.record | {"split": "deduplicated"})
    with pytest.raises(RunError, match="other split"):
        fit.fit(run)


def test_runs_and_ensembles_with_a_split_name_of_an_earlier_version_still_open(
    begin_run, teachers, tmp_path
):
    run = begin_run(TWO_HEADS, "old-split")
    record = run.record | {"split": "honest"}
    (run.folder / "run.json").write_text(json.dumps(record))
    assert open_run(run.folder).record["split"] == "official"
    assert begin_run(TWO_HEADS, "old-split").record["split"] == "official"
    shutil.copytree(teachers[0], tmp_path / "copy")
    path = tmp_path / "copy" / "ensemble.json"
    facts = json.loads(path.read_text())
    facts["facts"]["split"] = "honest"
    path.write_text(json.dumps(facts))
    assert ensemble.load_ensemble(tmp_path / "copy").facts.split == "official"


def test_a_damaged_member_is_refused(teachers, tmp_path):
    shutil.copytree(teachers[0], tmp_path / "copy")
    (tmp_path / "copy" / "first.npz").write_bytes(b"half")
    with pytest.raises(RunError, match=r"first\.npz"):
        ensemble.load_ensemble(tmp_path / "copy")
    (tmp_path / "copy" / "first.npz").unlink()
    with pytest.raises(RunError, match=r"first\.npz"):
        ensemble.load_ensemble(tmp_path / "copy")


def test_a_member_whose_training_is_not_over_is_refused(begin_run, tmp_path):
    begun = begin_run(TWO_HEADS, "begun")
    with pytest.raises(RunError, match="not finished"):
        gather(tmp_path, [begun])


def test_soft_targets_are_what_the_teacher_predicts_on_the_very_view(student, teachers):
    run, _ = student
    training = fit.training_set(run, run.recipe.fit)
    view = samples.teacher_view(training, run.recipe.fit.augment, run.recipe.seed, 1)(
        np.arange(len(training))
    )
    assert (
        np.abs(
            training.teacher_probabilities[1].astype(float)
            - ensemble.load_ensemble(teachers[0])(view)
        ).max()
        < 0.01
    )


def test_soft_targets_are_computed_once_and_a_missing_one_again(student, teachers):
    run, _ = student
    cached = sorted((teachers[0] / "soft-targets").rglob("*.npz"))
    assert len(cached) == 2  # the same augmentation in both stages
    before = [path.stat().st_mtime_ns for path in cached]
    cached[0].unlink()
    plain = samples.training_set(run.dataset, run.split, run.heads, run.recipe.preprocess, 0.1)
    assert len(distill.with_soft_targets(run, run.recipe.fit, plain).teacher_probabilities) == 2
    after = [path.stat().st_mtime_ns for path in cached]
    assert after[0] > before[0]
    assert after[1] == before[1]


@pytest.fixture(scope="module")
def derived_run(begin_run, teachers):
    """A run with a derived head that keeps the first weights of the ensemble's network."""
    recipe = dataclasses.replace(
        DISTILLED,
        heads=(*HEADS, "real"),
        initial_weights="teacher",
        fit=dataclasses.replace(DISTILLED.fit, epochs=0, distillation_weight=0.0),
        quantize=dataclasses.replace(
            DISTILLED.quantize, distilled_from="fit", distillation_weight=1.0, teacher_views=1
        ),
    )
    run = begin_run(recipe, "derived", teachers[0])
    fit.fit(run)
    return run


def test_a_derived_head_learns_what_the_teachers_other_heads_say(derived_run, teachers):
    stage = dataclasses.replace(DISTILLED.fit, teacher_views=1)
    training = fit.training_set(derived_run, stage)
    [probabilities] = training.teacher_probabilities
    sizes = [7, 7]
    priors = derived.priors(training.targets[:, :14], sizes)
    expected = derived.probabilities(probabilities[:, :14], HEADS, priors)
    assert np.abs(probabilities[:, 14:] - expected).max() < 1e-3
    assert not training.targets[:, 14:].any()
    assert (training.validation_labels[:, 2] == -1).all()


def test_without_an_epoch_the_ensembles_network_is_kept_and_a_derived_head_is_the_mean(
    derived_run, teachers
):
    member = start.initial_member(derived_run.recipe, derived_run.teacher)
    weights = loop.best_weights(derived_run.stage_folder("fit"))
    assert all(map(np.array_equal, weights[:-2], member.weights[:-2]))
    kernel = weights[-2]
    assert np.array_equal(kernel[:, :14], member.weights[-2])
    assert np.allclose(kernel[:, 14:], (kernel[:, :7] + kernel[:, 7:14]) / 2)


def test_quantization_aware_training_can_learn_from_its_own_float_network(derived_run):
    training = fit.training_set(derived_run, derived_run.recipe.quantize)
    [probabilities] = training.teacher_probabilities
    view = samples.teacher_view(
        training, derived_run.recipe.quantize.augment, derived_run.recipe.seed, 0
    )(np.arange(len(training)))
    logits = loop.predict(fit.float_network(derived_run, "real"), view)
    assert np.abs(probabilities[:, 14:] - softmax(logits)).max() < 1e-3


def test_of_mixtures_a_student_learns_the_teachers_word_alone(derived_run):
    stage = dataclasses.replace(
        DISTILLED.fit,
        augment=dataclasses.replace(DISTILLED.fit.augment, blend=0.3, splice=0.3),
        distillation_weight=0.5,
        teacher_views=1,
    )
    training = fit.training_set(derived_run, stage)
    [mixed] = training.mixed_rows
    [probabilities] = training.teacher_probabilities
    targets = training.epoch_targets(0)
    assert 0.3 < mixed.mean() < 0.9
    assert np.array_equal(targets[mixed], probabilities[mixed].astype(np.float32))
    assert not probabilities[mixed, 14:].any()
    assert np.allclose(probabilities[~mixed, 14:].sum(axis=1), 1, atol=0.01)
    halfway = (training.targets + probabilities.astype(np.float32)) / 2
    assert np.allclose(targets[~mixed], halfway[~mixed])


def test_a_derived_heads_bundle_is_measured_by_majorities(derived_run):
    quantize.quantize(derived_run)
    models = derived_run.folder / "models"
    bundles = [export.export(derived_run, models, head) for head in derived_run.recipe.heads]
    real = bundles[-1].card
    assert real.id == "distilled-real-1"
    assert real.provenance["head"] == "real"
    assert {"fer2013", "real"} <= set(real.metrics["networks"]["int8"]["test"])
    assert "Training" in report.report(derived_run).read_text()


def test_each_heads_bundle_computes_that_heads_logits(student):
    run, bundles = student
    crops = np.random.default_rng(0).integers(0, 256, (20, 48, 48), np.uint8)
    for head in HEADS:
        logits = evaluate.int8_logits(bundles[head].model, crops)
        aware = fake_quant.predict(quantize.quantized_network(run, head), crops)
        assert np.abs(logits - aware).max() < 0.1 * np.ptp(aware)
    heads = [
        fit.float_network(run, head).predict(crops[..., None] / np.float32(255), verbose=0)
        for head in HEADS
    ]
    assert np.abs(heads[0] - heads[1]).max() > 1e-3


def test_bundles_are_named_after_their_heads_and_say_who_taught_them(student, teachers):
    _, bundles = student
    assert [loaded.card.id for loaded in bundles.values()] == [
        "distilled-fer2013-1",
        "distilled-ferplus-1",
    ]
    for head, loaded in bundles.items():
        assert loaded.card.provenance["head"] == head
        assert sum(
            member["share"] for member in loaded.card.provenance["teacher"]
        ) == pytest.approx(1)
        assert (
            loaded.card.metrics["device"]["faces"] + loaded.card.metrics["device"]["missed"] == 56
        )


def test_the_report_shows_both_heads(student):
    page = report.report(student[0]).read_text()
    assert "Predicts FER2013 labels" in page
    assert "Predicts FER+ majorities" in page
    assert page.count("<figcaption>Risk-coverage") == 2
    assert "The teacher" in page


def test_evaluate_compares_two_bundles(student, voted, capsys):
    _, bundles = student
    first, second = (str(loaded.folder) for loaded in bundles.values())
    assert cli.main(["evaluate", first, "--against", second, "--data", str(voted), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result["against"]) == {"model", "fer2013", "ferplus", "ferplus-published"}
    assert 0 < result["against"]["fer2013"]["p"] <= 1
    assert {layer["operator"] for layer in result["layers"]} >= {"CONV_2D", "FULLY_CONNECTED"}
    assert "Cortex-A72" in "".join(result["network"]["estimates"])


def test_the_ablation_measures_each_row_and_three_ways_to_int8(begin_run, teachers, tmp_path):
    def begin_row(recipe):
        teacher = teachers[0] if recipe.is_distilled else None
        return begin_run(recipe, recipe.name, teacher)

    rows = [
        ("plain", dataclasses.replace(TINY, name="ablated")),
        ("+ all", dataclasses.replace(DISTILLED, name="last")),
    ]
    result = ablate.ablate(rows, begin_row, 1, 1, tmp_path)
    titles = ["plain", "+ all", "int8, PTQ", "int8, QAT", "int8, QAT + distillation"]
    assert [row.title for row in result] == titles
    assert result[0].ferplus is None
    assert all(0 <= row.fer2013 <= 1 and row.ferplus is not None for row in result[1:])
    assert result[4].seconds > result[2].seconds == result[1].seconds > 0
    assert (tmp_path / "ablation.csv").read_text().count("\n") == 6
    assert "data:image/png;base64," in (tmp_path / "ablation.html").read_text()


def test_votes_become_shares_and_doubt_counts_less(voted):
    dataset = read.load_dataset(voted, voted.parent / "fer2013new.csv")
    shares = heads.FERPLUS.targets(dataset, 0.1)
    assert shares.sum(axis=1) == pytest.approx(0.8)  # two of ten did not know
    assert shares[0, 0] == pytest.approx(0.6)


def test_a_recipe_of_votes_needs_votes(small):
    with pytest.raises(read.DataError, match="--ferplus"):
        heads.FERPLUS.targets(read.load_dataset(small), 0.1)


def test_the_loss_of_a_row_is_its_cross_entropy_whatever_it_sums_to():
    targets = np.array([[0.5, 0.25, *[0] * 12]], np.float32)
    logits = np.array([[1, 2, 0, 0, 0, 0, 0, 9, 9, 9, 9, 9, 9, 9]], np.float32)
    logs = logits[0, :7] - np.log(np.exp(logits[0, :7]).sum())
    losses = np.asarray(steps.loss(targets, logits, (7, 7)))
    assert losses == pytest.approx([-(0.5 * logs[0] + 0.25 * logs[1])])


def test_the_detectors_crop_of_a_picture_is_the_one_that_training_draws(voted):
    """A real face: the device's crop and the augmentation's agree, but for how they resample."""
    import cv2
    from mien_edge.chain import photos, sources
    from mien_edge.contract import Preprocess
    from mien_train.data import faces

    gray = cv2.cvtColor(photos.read_photo(sources.astronaut()), cv2.COLOR_BGR2GRAY)
    face = cv2.resize(gray[50:210, 145:305], (48, 48), interpolation=cv2.INTER_AREA)[None]
    dataset = dataclasses.replace(
        read.load_dataset(voted),
        images=face,
        labels=np.zeros(1, np.int8),
        usages=np.zeros(1, np.int8),
        sha256="one-face",
    )
    plain = Preprocess(48, -0.03, "none")
    found, crops = evaluate.device_crops(dataset, np.array([0]), plain)
    assert found.tolist() == [0]
    always = augment.draw(
        1, dataclasses.replace(strengths.OFF, device=1.0), np.random.default_rng(0)
    )
    drawn = augment.apply(face, always, faces.device_squares(dataset, plain))
    assert np.corrcoef(drawn.ravel(), crops.ravel())[0, 1] > 0.98
