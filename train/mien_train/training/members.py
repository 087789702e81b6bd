"""What an ensemble can be made of: fitted runs, bundles, and the members of other ensembles."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from mien_edge.errors import RunError

from mien_train.data.source import DataSource
from mien_train.training import dequantize, loop, package_network
from mien_train.training.ensemble import Member, load_ensemble, read_packages, round_kernels
from mien_train.training.package_network import PackageNetwork
from mien_train.training.run import OpenRun, open_run


def open_members(paths: Sequence[Path], data: DataSource) -> list[Member]:
    """Return the members in these folders: a fitted run is one, an ensemble holds several, the
    bundles of all heads of a run are one. Those of bundles come first.

    data: the source that the command has opened. Raises RunError or BundleError for what cannot be
    a member.
    """
    bundles = [path for path in paths if (path / "card.json").exists()]
    members = dequantize.members(bundles, data.dataset)
    for path in paths:
        if path not in bundles:
            members.extend(_folder_members(path, data))
    return members


def open_packages(paths: Sequence[Path], contracts: Sequence[Path]) -> list[PackageNetwork]:
    """Return the networks of others that contracts declare, and those of the ensembles among the
    paths; a contract takes the place of an ensemble's network of the same name.

    Raises RunError for what is no contract, and for a network whose file is not there.
    """
    packages = {}
    for path in paths:
        if (path / "ensemble.json").exists():
            packages.update({package.name: package for package in read_packages(path)})
    for contract in contracts:
        package = package_network.load_package(contract)
        packages[package.name] = package
    for package in packages.values():
        package.check()
    return list(packages.values())


def run_member(run: OpenRun) -> Member:
    """Return a run's float network. Raises RunError where its training is not finished."""
    if not loop.is_finished(run.history("fit"), run.recipe.fit):
        raise RunError(
            f"{run.folder}: its training is not finished; resume it with: {run.record['command']}"
        )
    weights = round_kernels(loop.best_weights(run.stage_folder("fit")))
    return Member(run.folder.name, run.recipe, run.record["command"], run.facts, weights, run.start)


def _folder_members(path: Path, data: DataSource) -> Iterator[Member]:
    if (path / "ensemble.json").exists():
        yield from load_ensemble(path).members
    else:
        yield run_member(open_run(path, data))
