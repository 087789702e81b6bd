"""A kill, a power cut or a failing disk at every single file operation of a bundle's life, and then the next boot."""

import errno
import shutil
from collections import Counter

import pytest
from mien_edge.model.bundle import load_bundle
from mien_edge.update.record import ProbationProgress
from stores import DeadError, Dying, Failing, commit, digest, refused, small, store

TRIED = Counter()
PROGRESS = ProbationProgress("small-3", 90.0, {"happy/sad": 3})


@pytest.fixture(scope="module", autouse=True)
def table():
    yield
    print("\n", *(f"{name:<24}{count:>6}\n" for name, count in TRIED.items()))  # noqa: T201 - pytest -s shows it


@pytest.fixture(scope="module", autouse=True)
def one_moment():
    """All happens at one moment, so that the same steps leave the same files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.time", lambda: 1_800_000_000.0)
        yield


@pytest.fixture(scope="module")
def sources(bundle, tmp_path_factory):
    """Folders of bundles small-1 to small-5."""
    place = tmp_path_factory.mktemp("sources")
    return {version: small(bundle, place / str(version), version) for version in range(1, 6)}


def installed(place, sources):
    commit(place, sources[1])
    commit(place, sources[2])
    place.install(sources[3])


def asked(place, sources):
    installed(place, sources)
    place.request(place.open("small-3"))


def asked_before(place, sources):
    """By a mien that called the link `next`."""
    asked(place, sources)
    (place.folder / "pending").rename(place.folder / "next")


def on_probation(place, sources):
    asked(place, sources)
    place.promote()


def suspended(place, sources):
    on_probation(place, sources)
    place.suspend_probation(PROGRESS)


def attempted(place, sources):
    installed(place, sources)
    place.begin_attempt("small-2")


def failed_before(place, sources):
    """The service has ended four times while small-2 was loaded, and the fifth time now."""
    attempted(place, sources)
    for _ in range(4):
        place.recover()
        place.begin_attempt("small-2")


def shadowed(place, sources):
    installed(place, sources)
    place.start_shadow(place.open("small-3"))


def deadly_shadow(place, sources):
    shadowed(place, sources)
    place.begin_attempt("small-3")


def damaged(place, sources):
    installed(place, sources)
    (place.folder / "small-2" / "model.tflite").write_bytes(b"rot")


def fresh(place, sources):
    """Nothing was ever installed."""


def first(place, sources):
    place.install(sources[3])
    place.request(place.open("small-3"))


STEPS = {
    "install": (installed, lambda place, sources: place.install(sources[4])),
    "install, the first": (fresh, lambda place, sources: place.install(sources[3])),
    "install over damaged": (damaged, lambda place, sources: place.install(sources[2])),
    "request": (installed, lambda place, _: place.request(place.open("small-3"))),
    "promote": (asked, lambda place, _: place.promote()),
    "promote, link of before": (asked_before, lambda place, _: place.promote()),
    "promote, the first": (first, lambda place, _: place.promote()),
    "commit": (on_probation, lambda place, _: place.commit("small-3")),
    "roll back": (on_probation, lambda place, _: place.roll_back("small-3", "a test")),
    "return from probation": (on_probation, lambda place, _: place.return_to_previous("a test")),
    "return from asked for": (asked, lambda place, _: place.return_to_previous("a test")),
    "return from committed": (installed, lambda place, _: place.return_to_previous("a test")),
    "suspend probation": (on_probation, lambda place, _: place.suspend_probation(PROGRESS)),
    "begin attempt": (installed, lambda place, _: place.begin_attempt("small-2")),
    "end attempt": (attempted, lambda place, _: place.end_attempt("small-2", has_read_face=True)),
    "shadow": (installed, lambda place, _: place.start_shadow(place.open("small-3"))),
    "shadow's end": (shadowed, lambda place, _: place.stop_shadow()),
    "remove": (installed, lambda place, _: place.remove("small-3")),
    "recover, link of before": (asked_before, lambda place, _: place.recover()),
    "recover": (on_probation, lambda place, _: place.recover()),
    "recover, suspended": (suspended, lambda place, _: place.recover()),
    "recover, failed attempt": (attempted, lambda place, _: place.recover()),
    "recover, failing starts": (failed_before, lambda place, _: place.recover()),
    "recover, deadly shadow": (deadly_shadow, lambda place, _: place.recover()),
    "recover from damage": (damaged, lambda place, _: place.recover()),
}


@pytest.fixture(scope="module", params=STEPS)
def case(request, sources, tmp_path_factory):
    """A step's name, the folder that it begins with, and the step."""
    prepare, step = STEPS[request.param]
    folder = tmp_path_factory.mktemp("prepared") / "models"
    folder.mkdir()
    prepare(store(folder), sources)
    return request.param, folder, lambda place: step(place, sources)


def runs(folder):
    """The bundle that would run now: '' for the one that came with mien. It has to be whole."""
    link = folder / "current"
    if not link.is_symlink():
        return ""
    return load_bundle(link).card.id


def copied(prepared, tmp_path):
    folder = tmp_path / "models"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(prepared, folder, symlinks=True)
    return folder


class Boots:
    """Boots of folders. Many stops leave equal folders behind, and each of those is booted once."""

    def __init__(self, sources, tmp_path):
        self.sources, self.tmp_path = sources, tmp_path
        self._results, self._interrupted = {}, {}

    def __call__(self, folder):
        """The bundle that runs after a boot of the folder, which is used up."""
        key = digest(folder)
        if key not in self._results:
            TRIED["different folders that were booted"] += 1
            self._results[key] = booted(folder, self.sources)
        return self._results[key]

    def interrupted(self, stopped, loses):
        """The bundles that run after boots of the folder that were stopped at each operation, and another boot."""
        key = digest(stopped), loses
        if key not in self._interrupted:
            self._interrupted[key] = set(self._stopped_everywhere(stopped, loses))
        return self._interrupted[key]

    def _stopped_everywhere(self, stopped, loses):
        at = 0
        while True:
            folder = copied(stopped, self.tmp_path)
            try:
                store(folder, Dying(at, loses)).recover()
            except DeadError:
                TRIED["the boot after those"] += 1
                yield self(folder)
                at += 1
            else:
                return


@pytest.fixture(scope="module")
def boots(sources, tmp_path_factory):
    return Boots(sources, tmp_path_factory.mktemp("boots"))


def booted(folder, sources):
    """After a boot a committed bundle runs, or one whose process ended in order, nothing is left over, and updates work; that
    bundle's name.
    """
    place = store(folder)
    recovery = place.recover()
    running = runs(folder)
    state = place.state()
    assert state.on_probation == (recovery.probation is not None)
    assert not (folder / "probation.json").exists(), "it excuses one start"
    hidden = {path.name for path in folder.iterdir() if path.name.startswith(".")}
    assert hidden <= {".lock", ".installing"}
    for name in state.record.committed:
        load_bundle(folder / name)
    commit(place, sources[5])
    assert runs(folder) == "small-5"
    return running


def allowed(name):
    """What may run after the boot: what was committed before, or what the step makes so."""
    if name.endswith("the first"):
        return {""}
    if "damage" in name:
        return {"small-1", "small-2"}
    return {"small-2"} | {
        "commit": {"small-3"},
        "return from committed": {"small-1"},
        "return from asked for": {"small-1"},
        "suspend probation": {"small-3"},
        "recover, suspended": {"small-3"},
        "recover, failing starts": {"small-1"},
    }.get(name, set())


def operations(prepared, step, tmp_path):
    disk = Dying()
    step(store(copied(prepared, tmp_path), disk))
    return disk.done


@pytest.mark.parametrize("loses", ["nothing", "data", "names"])
def test_whatever_a_kill_or_a_power_cut_stops_a_boot_puts_right(case, loses, boots, tmp_path):
    name, prepared, step = case
    count = operations(prepared, step, tmp_path)
    assert count > 1
    for at in range(count):
        folder = copied(prepared, tmp_path)
        with pytest.raises(DeadError):
            step(store(folder, Dying(at, loses)))
        TRIED[f"{name}"] += 1
        assert boots.interrupted(folder, loses) <= allowed(name)
        assert boots(folder) in allowed(name)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS], ids=errno.errorcode.get)
def test_a_disk_that_fails_once_costs_nothing(case, code, boots, tmp_path):
    name, prepared, step = case
    before = store(prepared).state().record.committed[:1] or ("",)
    for at in range(operations(prepared, step, tmp_path)):
        folder = copied(prepared, tmp_path)
        reason = refused(lambda at=at, folder=folder: step(store(folder, Failing(at, code))))
        TRIED["failing operations"] += 1
        assert "\n" not in reason
        if "damage" not in name:
            assert runs(folder) in {*before, "small-1", "small-3"}
        assert boots(folder) in allowed(name) | set(before)
