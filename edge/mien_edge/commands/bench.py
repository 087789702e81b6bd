"""`mien-edge bench`: milliseconds per stage, frames per second, memory and start-up time."""

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

from mien_edge.commands import unit
from mien_edge.commands.common import json_option, model_option, settings_from, settings_option


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
        default=200,
        metavar="N",
        help="number of frames to measure (default: 200)",
    )
    parser.add_argument(
        "--unit",
        metavar="UNIT",
        help="measure with the environment of this unit, as mien.service; or of a unit's file",
    )
    parser.set_defaults(run=_bench)


def _bench(options: argparse.Namespace) -> None:
    environment = None
    if options.unit:
        variables = unit.run_in_unit_environment(options.unit, sys.argv[1:])
        environment = {"unit": options.unit, "variables": variables}
    from mien_edge.model import profile
    from mien_edge.model.bundle import find_bundle, load_bundle
    from mien_edge.service import benchmark

    settings = settings_from(options)
    bundle = load_bundle(find_bundle(settings.model.bundle))
    if options.layers:
        layers = profile.profile_layers(bundle.model)
        content = [layer.to_json() for layer in layers]
        print(json.dumps(content) if options.json else profile.layers_as_text(layers))  # noqa: T201
        return
    result = benchmark.measure(settings, bundle, max(options.frames, 1))
    result["environment"] = environment
    print(json.dumps(result) if options.json else "\n".join(_lines(result)))  # noqa: T201


def _lines(result: dict[str, Any]) -> Iterator[str]:
    """Yield the result of benchmark.measure as lines of text."""
    from mien_edge.model import estimates

    yield f"{'stage':<10}{'median ms':>10}{'p95 ms':>10}  (CPU time)"
    for name, row in result["milliseconds"].items():
        yield f"{name:<10}{row['median']:>10.2f}{row['p95']:>10.2f}"
    wall = result["wall_milliseconds"]
    yield f"{'by clock':<10}{wall['median']:>10.2f}{wall['p95']:>10.2f}"
    if result["busy"]:
        yield (
            f"this machine was busy ({result['busy']}): trust the CPU time alone, and measure "
            "again when it is idle"
        )
    yield (
        f"{result['fps']} frames per second over {result['frames']} frames "
        f"with {result['faces']} faces; "
        f"memory {result['rss_megabytes']} MB, at most {result['peak_rss_megabytes']} MB; "
        f"start-up {result['start_up_seconds']} s; model {result['model']}"
    )
    yield _environment_as_text(result["environment"])
    shares = ", ".join(f"{name} {share:.1%}" for name, share in result["cpu_share"].items())
    yield f"share of one core at {result['rate']:g} frames per second: {shares}"
    for estimate in estimates.from_json(result["estimates"]):
        yield estimate.as_text()
    if result["line_estimates"]:
        yield "estimate of the whole line, one face a frame:"
        yield estimates.LINE_HEADER
        for line in result["line_estimates"]:
            yield estimates.LineEstimate(**line).as_row()
        yield f"    ({estimates.LINE_SOURCE})"


def _environment_as_text(environment: dict[str, Any] | None) -> str:
    if environment is None:
        return "environment: this shell's; --unit mien.service for the service's"
    variables = " ".join(f"{name}={value}" for name, value in environment["variables"].items())
    return f"environment: {environment['unit']}: {variables or 'no variables'}"
