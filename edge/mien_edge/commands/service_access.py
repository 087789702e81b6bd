"""What mien.service may open and reach, read from a device's files: its unit, users and nodes."""

import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

USER = "mien"

_UNIT = "mien.service"
_UNIT_FOLDERS = ("usr/lib/systemd/system", "run/systemd/system", "etc/systemd/system")
_TRUE = ("yes", "true", "on", "1")
_FALSE = ("no", "false", "off", "0", "")

_IPA_FOLDERS = ("usr/lib", "usr/lib/*", "usr/local/lib", "usr/local/lib/*")


def systemd_files(root: Path, folders: Iterable[str], name: str) -> list[Path]:
    """Return the files that systemd reads for a configuration, in that order: the file `name`, then
    its drop-ins in the order of their names.

    folders: below `root`; a later one hides files of the same name in those before.
    """
    main_files: list[Path] = []
    drop_ins: dict[str, Path] = {}
    for folder in folders:
        path = root / folder / name
        if path.is_file():
            main_files = [path]
        for drop_in in (root / folder / f"{name}.d").glob("*.conf"):
            drop_ins[drop_in.name] = drop_in
    return [*main_files, *(drop_ins[key] for key in sorted(drop_ins))]


@dataclass(frozen=True, slots=True)
class Unit:
    """What systemd is told of mien.service, as systemd.unit(5) reads it.

    assignments: key and value of each line, in order; empty where the unit is not installed.
    """

    assignments: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls, root: Path) -> "Unit":
        """Read the unit of a device whose files lie below `root`."""
        paths = systemd_files(root, _UNIT_FOLDERS, _UNIT)
        texts = [path.read_text(errors="replace") for path in paths]
        return cls(tuple(pair for text in texts for pair in assignments(text)))

    def values(self, key: str) -> list[str]:
        """Return the values of a key in order."""
        return [value for name, value in self.assignments if name == key]

    @property
    def is_installed(self) -> bool:
        """Whether there is a unit."""
        return bool(self.assignments)

    @property
    def has_network(self) -> bool:
        """Whether the service may reach a network."""
        values = [value.lower() for value in self.values("PrivateNetwork")]
        is_private = bool(values) and values[-1] not in _FALSE
        return not is_private and self._may_open_sockets

    @property
    def _may_open_sockets(self) -> bool:
        """Whether RestrictAddressFamilies= leaves IPv4 or IPv6."""
        internet = {"AF_INET", "AF_INET6"}
        allowed: set[str] | None = None  # all of them
        for value in self.values("RestrictAddressFamilies"):
            families = set(value.removeprefix("~").split())
            if not families:
                allowed = None
            elif value.startswith("~"):
                allowed = (internet if allowed is None else allowed) - families
            else:
                allowed = (allowed or set()) | families
        return allowed is None or bool(internet & allowed)

    @property
    def may_isolate(self) -> bool:
        """Whether the service may make user and network namespaces (RestrictNamespaces=)."""
        may = True
        for value in self.values("RestrictNamespaces"):
            if value.lower() in _TRUE:
                may = False
            elif value.lower() in _FALSE:
                may = True
            elif value.startswith("~"):
                may = may and not {"user", "net"} & set(value[1:].split())
            else:
                may = may or {"user", "net"} <= set(value.split())
        return may

    def may_use_devices(self, name: str) -> bool:
        """Whether DeviceAllow= names a class of devices, such as char-gpiochip."""
        return any(value.split()[:1] == [name] for value in self.values("DeviceAllow"))


def assignments(text: str) -> Iterator[tuple[str, str]]:
    """Yield key and value of each line of a unit's file."""
    for line in text.splitlines():
        key, separator, value = line.partition("=")
        if separator and not line.startswith(("#", ";", "[")):
            yield key.strip(), value.strip()


@dataclass(frozen=True, slots=True)
class ServiceUser:
    """The service's user: uid, and gids of its groups, with those that the unit adds."""

    uid: int
    gids: frozenset[int]

    @classmethod
    def read(cls, root: Path, unit: Unit) -> "ServiceUser | None":
        """Read the user from passwd(5) and group(5) below `root`; None if there is none."""
        users = {row[0]: row for row in _table(root / "etc/passwd", 4)}
        if USER not in users:
            return None
        _, _, uid, gid, *_ = users[USER]
        unit_groups = " ".join(unit.values("SupplementaryGroups")).split()
        gids = {int(gid)}
        for group, _, group_id, members, *_ in _table(root / "etc/group", 4):
            if group in unit_groups or USER in members.split(","):
                gids.add(int(group_id))
        return cls(int(uid), frozenset(gids))

    def may_open(self, node: "Node") -> bool:
        """Whether the user may read and write a node, by its mode alone."""
        if node.uid == self.uid:
            needed = stat.S_IRUSR | stat.S_IWUSR
        elif node.gid in self.gids:
            needed = stat.S_IRGRP | stat.S_IWGRP
        else:
            needed = stat.S_IROTH | stat.S_IWOTH
        return node.mode & needed == needed


@dataclass(frozen=True, slots=True)
class Node:
    """A device node: its path on the device, owner, group, the group's name, and mode."""

    path: str
    uid: int
    gid: int
    group: str
    mode: int

    @property
    def is_open_to_group(self) -> bool:
        """Whether a group that is not root's may read and write it."""
        needed = stat.S_IRGRP | stat.S_IWGRP
        return self.gid != 0 and self.mode & needed == needed


def nodes(root: Path, pattern: str) -> list[Node]:
    """Return the nodes below `root` that match a pattern such as dev/media*, by name."""
    names = {int(gid): name for name, _, gid, *_ in _table(root / "etc/group", 4)}
    result = []
    for path in sorted(root.glob(pattern)):
        try:
            status = path.stat()
        except OSError:  # unplugged, or a link to what was
            continue
        group = names.get(status.st_gid, str(status.st_gid))
        name = f"/{path.relative_to(root)}"
        mode = stat.S_IMODE(status.st_mode)
        result.append(Node(name, status.st_uid, status.st_gid, group, mode))
    return result


def closed_nodes(user: ServiceUser, candidates: Iterable[Node]) -> list[Node]:
    """Return the nodes that the service's user may not open."""
    return [node for node in candidates if not user.may_open(node)]


def unsigned_modules(root: Path) -> list[str]:
    """Return libcamera's IPA modules for the Raspberry Pi that have no signature beside them.

    libcamera loads a module whose signature is valid into its process, and starts any other in a
    process of its own, isolated with unshare(CLONE_NEWUSER | CLONE_NEWNET)
    (src/libcamera/ipa_manager.cpp, process.cpp).
    """
    modules = {
        path
        for folder in _IPA_FOLDERS
        for depth in ("libcamera", "libcamera/ipa")
        for path in root.glob(f"{folder}/{depth}/ipa_*.so")
        if "rpi" in path.name or "raspberrypi" in path.name
    }
    unsigned = [path for path in modules if not path.with_name(f"{path.name}.sign").exists()]
    return sorted(f"/{path.relative_to(root)}" for path in unsigned)


def _table(path: Path, columns: int) -> list[list[str]]:
    """Return the rows of passwd(5) or group(5) with a number, which NIS' +::: lacks."""
    if not path.is_file():
        return []
    rows = [line.split(":") for line in path.read_text(errors="replace").splitlines()]
    return [row for row in rows if len(row) >= columns and row[2].isdecimal()]
