"""What the store's tests share: small bundles, and a disk that dies or fails after so many operations."""

import errno
import hashlib
import shutil

from helpers import pin_again
from mien_edge import contract
from mien_edge.errors import BundleError
from mien_edge.update.disk import Disk
from mien_edge.update.store import Store


class DeadError(BaseException):
    """The process was killed, or the power cut."""


class Dying(Disk):
    """Dies before operation number `at` (0-based). What is lost then depends on `loses`:

    'nothing': a kill, the kernel still writes all. 'data': the power was cut; files that were not synced hold zeros.
    'names': and what happened in folders that were not synced since has not happened.
    """

    def __init__(self, at=None, loses="nothing"):
        self.at, self.loses, self.done, self.is_dead = at, loses, 0, False
        self.unsynced, self.undo = set(), []

    def _step(self):
        if self.is_dead:
            raise DeadError
        if self.done == self.at:
            self.is_dead = True
            self._lose()
            raise DeadError
        self.done += 1

    def _lose(self):
        if self.loses != "nothing":
            for path in self.unsynced:
                if path.is_file():
                    path.write_bytes(bytes(path.stat().st_size))
        if self.loses == "names":
            for folder, back in reversed(self.undo):
                if folder.is_dir():
                    back()

    def _named(self, path, back):
        self.undo.append((path.parent, back))

    def make_folder(self, path):
        self._step()
        super().make_folder(path)
        self._named(path, lambda: shutil.rmtree(path, ignore_errors=True))

    def copy(self, source, target):
        self._step()
        super().copy(source, target)
        self._made(target)

    def write(self, path, content):
        self._step()
        self._named(path, _restorer(path))
        super().write(path, content)
        self.unsynced.add(path)

    def _made(self, path):
        self.unsynced.add(path)
        self._named(path, lambda: path.unlink(missing_ok=True))

    def link(self, name, path):
        self._step()
        super().link(name, path)
        self._named(path, lambda: path.unlink(missing_ok=True))

    def rename(self, source, target):
        self._step()
        put_back = _restorer(target)
        super().rename(source, target)
        self.unsynced = {target if path == source else path for path in self.unsynced}

        def back():
            target.rename(source)
            put_back()

        self._named(target, back)

    def remove(self, path):
        self._step()
        self._named(path, _restorer(path))
        super().remove(path)

    def remove_folder(self, path):
        self._step()
        super().remove_folder(path)
        self._named(path, path.mkdir)

    def sync(self, path):
        self._step()
        self.unsynced.discard(path)
        if path.is_dir():
            self.undo = [(folder, back) for folder, back in self.undo if folder != path]


def _restorer(path):
    """Puts back what is at `path` now."""
    if path.is_symlink():
        target = path.readlink()
        return lambda: (path.unlink(missing_ok=True), path.symlink_to(target))
    if path.is_file():
        content = path.read_bytes()
        return lambda: path.write_bytes(content)
    return lambda: path.is_dir() or path.unlink(missing_ok=True)


class Failing(Disk):
    """Operation number `at` fails with `code`; the others work."""

    def __init__(self, at, code):
        self.at, self.code, self.done = at, code, 0

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if name.startswith("_") or name in ("at", "code", "done"):
            return found

        def tried(*arguments):
            self.done += 1
            if self.done - 1 == self.at:
                raise OSError(self.code, errno.errorcode[self.code])
            return found(*arguments)

        return tried


def digest(folder):
    """Tells apart what a boot can tell apart: names, contents and links, and which entry is older than which."""
    state = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            content = b"link to " + bytes(path.readlink())
        elif path.is_dir():
            content = b"folder"
        else:
            content = b"file of " + hashlib.sha256(path.read_bytes()).digest()
        state.update(f"{path.relative_to(folder)}\0".encode() + content)
    entries = [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]
    ages = sorted({path.stat().st_mtime_ns for path in entries})
    state.update(
        str(sorted((path.name, ages.index(path.stat().st_mtime_ns)) for path in entries)).encode()
    )
    return state.hexdigest()


def believe(folder, name):
    """Trust in everybody."""


def small(bundle, folder, version, name="small"):
    """A bundle that is whole, with a network of a few bytes: nothing here interprets it."""
    folder.mkdir(parents=True)
    for each in bundle.card.files:
        (folder / each).write_bytes(f"{each} {version}".encode())
    (folder / "card.json").write_text(bundle.card.to_json())
    pin_again(folder, name=name, version=version)
    return folder


def store(folder, disk=None):
    """A store that believes all and replays nothing."""
    return Store(folder, believe, disk, replay=lambda *_: None)


def commit(place, source):
    """From a folder to a committed bundle."""
    done = place.install(source)
    place.request(done)
    assert place.promote() == done
    place.commit(done.card.id)
    return done.card.id


def refused(work):
    """The reason why `work` is refused; '' if it is not."""
    try:
        work()
    except (BundleError, contract.ContractError) as problem:
        return str(problem)
    return ""
