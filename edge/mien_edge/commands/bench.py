"""`mien-edge bench`: what a frame costs, and which part of it; memory and start-up time."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien_edge.commands import unit
from mien_edge.commands.common import json_option, model_option, settings_from, settings_option
from mien_edge.errors import SettingsError
from mien_edge.settings import Settings

if TYPE_CHECKING:
    from mien_edge.model import boards
    from mien_edge.model.bundle import Bundle

_BOARDS = ("zero2w", "pi4", "pi5")
_SHELL = "none"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `bench`."""
    settings_option(parser)
    model_option(parser)
    json_option(parser)
    parser.add_argument(
        "--layers",
        action="store_true",
        help="measure each layer of the network instead of the stages",
    )
    parser.add_argument(
        "--frames",
        type=int,
        default=210,
        metavar="N",
        help="number of frames to measure in each scene (default: 210)",
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="FILE",
        help="compare with what an earlier `bench --json` printed into this file",
    )
    parser.add_argument(
        "--board",
        choices=_BOARDS,
        help="estimate the whole line on this Raspberry Pi, with the settings that are proposed "
        "for it unless --settings names others",
    )
    parser.add_argument(
        "--unit",
        metavar="UNIT",
        help="measure with the environment of this unit, or of a unit's file (default: "
        f"mien.service, as installed or as shipped); {_SHELL}: with this shell's",
    )
    parser.set_defaults(run=_bench)


def _bench(options: argparse.Namespace) -> None:
    environment = _environment(options.unit)
    former = _read_result(options.against) if options.against else None
    from mien_edge.model.bundle import find_bundle, load_bundle

    settings = settings_from(options)
    bundle = load_bundle(find_bundle(settings.model.bundle))
    if options.layers:
        _print_layers(bundle, options.json)
        return
    result = _measure(options, settings, bundle)
    result["environment"] = environment
    if former is not None:
        result["against"] = _against(options.against, former, result)
    print(json.dumps(result) if options.json else "\n".join(_lines(result)))  # noqa: T201


def _environment(name: str | None) -> dict[str, Any] | None:
    """Return the unit's name and its variables, which this process has from here on."""
    if name == _SHELL:
        return None
    variables = unit.unit_variables(name) if name else unit.service_variables()
    unit.run_in_environment(variables, sys.argv[1:])
    return {"unit": name or unit.SERVICE, "variables": variables}


def _print_layers(bundle: "Bundle", as_json: bool) -> None:
    from mien_edge.model import profile

    layers = profile.profile_layers(bundle.model)
    content = [layer.to_json() for layer in layers]
    print(json.dumps(content) if as_json else profile.layers_as_text(layers))  # noqa: T201


def _measure(options: argparse.Namespace, settings: Settings, bundle: "Bundle") -> dict[str, Any]:
    """Measure all, or with --board what an estimate for that board needs."""
    from mien_edge.model import boards
    from mien_edge.service import benchmark

    frames = max(options.frames, 1)
    if not options.board:
        return benchmark.measure(settings, bundle, frames)
    board = boards.BOARDS[options.board]
    if options.settings is None:
        settings = boards.proposed(settings, board)
    result = benchmark.measure_scenes(settings, bundle, frames)
    lines = [line for line in result["line_estimates"] if line["board"] == board.name]
    return result | {"board": options.board, "line_estimates": lines}


def _read_result(path: Path) -> dict[str, Any]:
    """Read what an earlier `bench --json` printed.

    Raises SettingsError for a file that cannot be read or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        reason = f"cannot be read ({problem}); name what `mien-edge bench --json` printed"
        raise SettingsError(f"{path}: {reason}") from None
    if not isinstance(content, dict) or "scenes" not in content:
        raise SettingsError(f"{path}: not what `mien-edge bench --json` prints; make it anew")
    return content


def _against(path: Path, former: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """Compare with a former result. Raises SettingsError if nothing in it can be compared."""
    from mien_edge.service import ratios

    try:
        rows = ratios.ratios(former, result)
    except SettingsError as problem:
        raise SettingsError(f"{path}: {problem}") from None
    return {
        "file": str(path),
        "differences": ratios.conditions(former, result),
        "ratios": [{**dataclasses.asdict(row), "ratio": round(row.value, 3)} for row in rows],
        "text": [row.as_text() for row in rows],
    }


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield a result as lines of text."""
    yield from _scene_lines(result)
    if result["busy"]:
        yield (
            f"this machine was busy ({result['busy']}): trust the CPU time alone, and measure "
            "again when it is idle"
        )
    if "board" in result:
        yield from _board_lines(result)
    else:
        yield from _machine_lines(result)
    if "against" in result:
        yield from _against_lines(result["against"])


def _scene_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a frame costs in each scene, and which part of it."""
    yield (
        f"CPU time of a frame, ms, and each part's share of it (detector at "
        f"{result['detector_size']} pixels, {result['frames']} frames a scene):"
    )
    parts = ("detector", "following", "classifier", "rest")
    header = "".join(f"{part:>16}" for part in parts)
    yield f"{'scene':<15}{'total':>7}{header}{'p95':>8}{'faces':>7}{'looks':>7}"
    for scene, values in result["scenes"].items():
        milliseconds = values["milliseconds"]
        total = milliseconds["total"]
        shares = "".join(
            f"{milliseconds[part]:>10.2f} {milliseconds[part] / total:>5.0%}" for part in parts
        )
        counts = f"{values['p95']:>8.2f}{values['faces']:>7.1f}{values['looks']:>7.2f}"
        yield f"{scene:<15}{total:>7.2f}{shares}{counts}"
    look = result["look_milliseconds"]
    yield f"looks: of the detector at a whole picture, a frame; one takes {look:.2f} ms here"
    further = _further_face(result["scenes"])
    yield f"a further face takes {further:.2f} ms a frame"


def _further_face(scenes: Mapping[str, Mapping[str, Any]]) -> float:
    """Milliseconds without the detector that each face of 'several faces' takes beyond the first;
    0 if it has no more faces than 'moving face'.
    """
    several = scenes["several faces"]
    one = scenes["moving face"]
    faces = several["faces"] - one["faces"]
    if faces <= 0:
        return 0.0
    return float(_without_detector(several) - _without_detector(one)) / faces


def _without_detector(scene: Mapping[str, Any]) -> float:
    milliseconds = scene["milliseconds"]
    return float(milliseconds["total"] - milliseconds["detector"])


def _machine_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was measured beside the scenes, and the estimates for all boards."""
    from mien_edge.model import boards, estimates

    yield (
        f"{result['fps']} frames per second by the clock with one moving face; "
        f"memory {result['rss_megabytes']} MB, at most {result['peak_rss_megabytes']} MB; "
        f"start-up {result['start_up_seconds']} s, {result['start_up_cpu_seconds']} s of CPU time; "
        f"model {result['model']}"
    )
    yield _environment_as_text(result["environment"])
    shares = ", ".join(f"{name} {share:.1%}" for name, share in result["cpu_share"].items())
    yield f"share of one core at {result['rate']:g} frames per second: {shares}"
    for estimate in estimates.from_json(result["estimates"]):
        yield estimate.as_text()
    moving = [line for line in result["line_estimates"] if line["scene"] == "moving face"]
    if moving:
        yield "estimate of the whole line with one moving face (--board shows all scenes):"
        for line in moving:
            yield f"    {line['board']}: {_line_estimate(line).as_text()}"
        yield f"    ({boards.LINE_SOURCE})"


def _board_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield the estimates for one board."""
    from mien_edge.model import boards, estimates

    board = boards.BOARDS[result["board"]]
    settings = boards.proposal_text(Settings(), board) or "the built-in settings"
    yield (
        f"estimate for a {board.name} (proposed: {settings}) with the detector at "
        f"{result['detector_size']} pixels:"
    )
    for line in result["line_estimates"]:
        yield f"    {line['scene']}: {_line_estimate(line).as_text()}"
    yield f"    memory {result['rss_megabytes']:.0f} MB as here, of {board.megabytes} MB"
    for estimate in estimates.from_json(result["estimates"]):
        if estimate.core == board.core:
            yield estimate.as_text()
    yield f"    ({boards.LINE_SOURCE})"


def _line_estimate(line: Mapping[str, Any]) -> "boards.LineEstimate":
    from mien_edge.model import boards

    values = {name: value for name, value in line.items() if name != "scene"}
    return boards.LineEstimate(**values)


def _against_lines(against: Mapping[str, Any]) -> Iterator[str]:
    """Yield the comparison with a former result."""
    yield f"against {against['file']}: before -> now, and the ratio now / before:"
    for difference in against["differences"]:
        yield f"    not the same conditions: {difference}"
    for row in against["text"]:
        yield f"    {row}"


def _environment_as_text(environment: Mapping[str, Any] | None) -> str:
    if environment is None:
        return "environment: this shell's"
    variables = " ".join(f"{name}={value}" for name, value in environment["variables"].items())
    return f"environment: {environment['unit']}: {variables or 'no variables'}"
