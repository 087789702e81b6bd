"""The walls between the rooms: who may import whom, and what a process with a network never loads."""

import ast
import os
import shutil
import subprocess
import sys

import pytest
from helpers import ROOT

PACKAGES = {
    "mien_edge": ROOT / "edge",
    "mien_train": ROOT / "train",
    "mien_deploy": ROOT / "deploy",
}
FORBIDDEN = {
    "mien_edge": ("mien_train", "mien_deploy", "tensorflow", "keras"),
    "mien_train": ("mien_deploy",),
    "mien_deploy": ("mien_train", "tensorflow", "keras"),
}


# --- what is imported, read from the source ----------------------------------------------------------------------


def sources(places):
    """Each module's file by its dotted name; `places` are the folders that hold the packages, by package."""
    modules = {}
    for package, place in places.items():
        for path in sorted((place / package).rglob("*.py")):
            parts = path.relative_to(place).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            modules[name] = path
    return modules


def imported(name, path, modules):
    """What a module imports anywhere: at its top, in functions, under TYPE_CHECKING; dotted names.

    `from package import module` is an import of the module; of any other name, an import of the package.
    """
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*parents, *filter(None, [node.module])])
            for alias in node.names:
                module = f"{base}.{alias.name}"
                yield module if module in modules else base


def packages_of(name):
    """The packages that a module is in, and itself: a, a.b, a.b.c."""
    parts = name.split(".")
    return {".".join(parts[: count + 1]) for count in range(len(parts))}


def edges(places):
    """Which modules each module's imports run: those that it names, and the __init__ of packages on the way there."""
    modules = sources(places)
    graph = {}
    for name, path in modules.items():
        targets = {target for target in imported(name, path, modules) if target in modules}
        inits = {package for target in targets for package in packages_of(target)} & set(modules)
        graph[name] = (targets | (inits - packages_of(name))) - {name}
    return graph


def circles(graph):
    """Groups of modules that import each other in a circle (strongly connected components; Tarjan 1972)."""
    index, low, stack, found = {}, {}, [], []

    def visit(module):
        index[module] = low[module] = len(index)
        stack.append(module)
        for target in sorted(graph[module]):
            if target not in index:
                visit(target)
                low[module] = min(low[module], low[target])
            elif target in stack:
                low[module] = min(low[module], index[target])
        if low[module] == index[module]:
            start = stack.index(module)
            group = sorted(stack[start:])
            del stack[start:]
            if len(group) > 1:
                found.append(group)

    for module in sorted(graph):
        if module not in index:
            visit(module)
    return sorted(found)


def plant(folder, **files):
    """A package of a few modules; returns it as `places`."""
    for name, text in files.items():
        path = folder / "house" / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        (path.parent / "__init__.py").touch()
    (folder / "house" / "__init__.py").touch()
    return {"house": folder}


def test_no_imports_go_in_a_circle():
    assert circles(edges(PACKAGES)) == []


@pytest.mark.parametrize(
    "back",
    [
        "from house import one\n",
        "import house.one\n",
        "from house.one import VALUE\n",
        "from .one import VALUE\n",
        "from . import one\n",
        "def later():\n    from house import one\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.one import VALUE\n",
    ],
)
def test_a_planted_circle_is_noticed(tmp_path, back):
    places = plant(tmp_path, one="from house import two\nVALUE = 1\n", two=back)
    assert circles(edges(places)) == [["house.one", "house.two"]]


def test_a_circle_through_a_packages_init_is_noticed_and_a_tree_has_none(tmp_path):
    places = plant(
        tmp_path,
        one="import os\n",
        room__two="from house import one\n",
        room__three="from house.room import two\n",
    )
    assert circles(edges(places)) == []
    (tmp_path / "house" / "room" / "__init__.py").write_text("from house.room.two import VALUE\n")
    (tmp_path / "house" / "room" / "two.py").write_text("from house import one\nVALUE = 1\n")
    (tmp_path / "house" / "one.py").write_text("from house.room.three import two\n")
    assert circles(edges(places)) == [
        ["house.one", "house.room", "house.room.three", "house.room.two"]
    ]


def strangers(places, forbidden):
    """Imports that cross a wall, as 'module imports name'."""
    found = set()
    modules = sources(places)
    for name, path in modules.items():
        for target in imported(name, path, modules):
            if target.partition(".")[0] in forbidden[name.partition(".")[0]]:
                found.add(f"{name} imports {target.partition('.')[0]}")
    return sorted(found)


def test_no_package_imports_what_it_must_not():
    assert strangers(PACKAGES, FORBIDDEN) == []


@pytest.mark.parametrize(
    "line", ["import tensorflow as tf", "from mien_train import cli", "import mien_deploy.cli"]
)
def test_a_planted_import_over_a_wall_is_noticed(tmp_path, line):
    places = plant(tmp_path, one=f"def later():\n    {line}\n")
    (line_found,) = strangers(places, {"house": FORBIDDEN["mien_edge"]})
    assert line_found.startswith("house.one imports ")


# --- what is loaded, in a fresh process --------------------------------------------------------------------------

NO_PIXELS = ("export", "log", "publish", "status", "view")
"""Folders of what runs in a process with a network, or beside one: they know readings and no pictures."""

IMPORT_ALL = """
import importlib, pkgutil, sys
for folder in {folders}:
    package = importlib.import_module("mien_edge." + folder)
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
heavy = ("numpy", "cv2", "mien_edge.chain", "mien_edge.model")
loaded = [name for name in sys.modules if any(name == each or name.startswith(each + ".") for each in heavy)]
sys.exit("loaded: " + ", ".join(sorted(loaded)) if loaded else 0)
"""


def imports_all(place, folders=NO_PIXELS):
    """What a fresh process loads that it must not, importing all of these folders from `place`; '' if all is well."""
    command = [sys.executable, "-P", "-c", IMPORT_ALL.format(folders=folders)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(place)}
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stderr.strip()


@pytest.mark.parametrize("folder", NO_PIXELS)
def test_what_may_have_a_network_loads_nothing_that_knows_pixels(folder):
    assert imports_all(ROOT / "edge", (folder,)) == ""


@pytest.mark.parametrize(
    "line", ["import cv2", "import numpy", "from mien_edge.model import bundle"]
)
def test_a_planted_import_of_what_knows_pixels_is_noticed(tmp_path, line):
    without_caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "edge" / "mien_edge", tmp_path / "mien_edge", ignore=without_caches)
    victim = sorted((tmp_path / "mien_edge" / "view").glob("[a-z]*.py"))[0]
    victim.write_text(f"{line}\n{victim.read_text()}")
    assert imports_all(tmp_path, ("view",)).startswith("loaded: ")
