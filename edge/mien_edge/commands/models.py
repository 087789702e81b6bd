"""The commands `mien-edge models …` and `mien-edge receive`: the bundles on this device."""

import argparse
import io
import json
import select
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from mien_edge import paths
from mien_edge.commands.common import (
    Commands,
    Handler,
    add_command,
    json_option,
    renamed_command,
    renamed_option,
    runtime_option,
    settings_option,
)
from mien_edge.errors import BundleError, SourceError
from mien_edge.events import EventKind
from mien_edge.labels import LABELS, change_as_text
from mien_edge.log import database
from mien_edge.model.bundle import Bundle, models_folder
from mien_edge.schema import to_dict
from mien_edge.settings import load_settings
from mien_edge.status import status_file
from mien_edge.update import archive, compare, sandbox
from mien_edge.update.record import ProbationResult, StoreState, display_name
from mien_edge.update.signing import Trust
from mien_edge.update.store import Store

NOT_JUDGED = 3
"""Exit code: the timeout was over before the probation."""

_POLL_SECONDS = 0.5
_PROMOTE_SECONDS = 30.0  # time for a running service to take the bundle that is requested


@dataclass(frozen=True, slots=True)
class ThisDevice:
    """What every action works on.

    store: the installed bundles.
    log: the log's file; events go there if it exists.
    runtime: the service's runtime folder.
    """

    store: Store
    log: Path
    runtime: Path


# --- the actions ----------------------------------------------------------------------------------


def list_(device: ThisDevice, as_json: bool) -> None:
    """Print what is installed and what each bundle is for.

    Raises BundleError if the store cannot be read.
    """
    state = device.store.state()
    if as_json:
        labels = {name: device.store.labels(name) for name in state.installed}
        print(json.dumps({**state.to_json(), "labels": labels}))  # noqa: T201
        return
    for name in state.installed:
        mark = "*" if name == state.current else " "
        print(f"{mark} {name}{_notes(device, state, name)}")  # noqa: T201
    if not state.current:
        print(f"* {display_name('')}")  # noqa: T201
    if state.record.last_result:
        print(f"last: {_as_sentence(state.record.last_result)}")  # noqa: T201


def install(
    device: ThisDevice,
    stream: archive.Stream,
    allow_downgrade: bool,
    shown_as: Path = archive.UNNAMED,
) -> None:
    """Verify, replay and keep the bundle in the tar archive `stream`; it does not run yet.

    shown_as: what messages call the bundle.

    Raises BundleError or ContractError for what is refused.
    """
    bundle = _receive(device, stream, allow_downgrade, shown_as)
    name = bundle.card.id
    print(f"{name} is installed; run it with: mien-edge models activate {name}")  # noqa: T201


def activate(device: ThisDevice, name: str, allow_downgrade: bool, timeout: float | None) -> int:
    """Request the installed bundle `name` and wait for its probation; return the exit code.

    timeout: seconds to wait; None to request it only.

    Raises BundleError if it is refused or rolled back.
    """
    return _request(device, device.store.open(name), allow_downgrade, timeout)


def receive(
    device: ThisDevice,
    stream: archive.Stream,
    allow_downgrade: bool,
    timeout: float | None,
) -> int:
    """Install and request the bundle in the archive `stream`: all that a restricted key may do.

    Options, result and errors are those of `install` and `activate`. Raises BundleError, too, where
    other processes do so already.
    """
    with device.store.session():
        bundle = _receive(device, stream, allow_downgrade)
        print(f"{bundle.card.id} is installed", flush=True)  # noqa: T201
        return _request(device, bundle, allow_downgrade, timeout)


def rollback(device: ThisDevice) -> None:
    """Go back to the bundle before, by hand. Raises BundleError if there is none."""
    left = device.store.state().current
    current = display_name(device.store.return_to_previous("by hand"))
    _log_event(device, EventKind.ROLLED_BACK, f"{left}: by hand; to {current}")
    is_running = _notify_service(device)
    print(f"{current} is current{'' if is_running else '; the service does not run'}")  # noqa: T201


def remove(device: ThisDevice, name: str) -> None:
    """Remove the installed bundle `name`. Raises BundleError if it is in use."""
    device.store.remove(name)
    _notify_service(device)
    _log_event(device, EventKind.MODEL_DISCARDED, name)
    print(f"{name} is removed")  # noqa: T201


def start_shadow(device: ThisDevice, name: str) -> None:
    """Compare the installed bundle `name` with the current one.

    Raises BundleError or ContractError if it is not trusted or damaged.
    """
    device.store.start_shadow(device.store.open(name))
    _print_shadow_change(device, f"{name} is compared with the current model")


def stop_shadow(device: ThisDevice) -> None:
    """Stop the comparison. Raises BundleError if the store cannot be changed."""
    device.store.stop_shadow()
    _print_shadow_change(device, "the shadow ends")


def shadow(device: ThisDevice, as_json: bool) -> None:
    """Print how the shadow compares with the current model.

    Raises BundleError if the service does not run, or compares nothing.
    """
    try:
        report = status_file.read_status(device.runtime).shadow
    except SourceError as error:
        raise BundleError(str(error)) from None
    if report is None:
        raise BundleError("no model is compared now; choose one with: mien-edge models shadow NAME")
    print(json.dumps(to_dict(report)) if as_json else compare.as_text(report))  # noqa: T201


# --- their parts ----------------------------------------------------------------------------------


def _receive(
    device: ThisDevice,
    stream: archive.Stream,
    allow_downgrade: bool,
    shown_as: Path = archive.UNNAMED,
) -> Bundle:
    bundle = archive.receive(stream, device.store, allow_downgrade, shown_as)
    _log_event(device, EventKind.MODEL_INSTALLED, bundle.card.id)
    return bundle


def _request(
    device: ThisDevice,
    bundle: Bundle,
    allow_downgrade: bool,
    timeout: float | None,
) -> int:
    name = bundle.card.id
    state = device.store.request(bundle, allow_downgrade)
    earlier = state.record.last_result
    if state.current == name and not state.pending:
        suffix = ", on probation" if state.on_probation else ""
        print(f"{name} is current already{suffix}", flush=True)  # noqa: T201
        if not state.on_probation:
            return 0
    else:
        change = _label_change(device, bundle)
        if change:
            print(f"{name}: {change}", flush=True)  # noqa: T201
        when = "now" if _notify_service(device) else "at its next start"
        print(f"{name} is asked for: the service takes it {when}", flush=True)  # noqa: T201
    if timeout is None:
        return 0
    result = _wait_for_result(device, name, earlier, timeout)
    if result is None:
        progress = _progress(device, name)
        suffix = f": {progress}; it goes on by itself" if progress else ""
        print(f"{name} has not been judged after {timeout:g} s{suffix}")  # noqa: T201
        return NOT_JUDGED
    print(_as_sentence(result))  # noqa: T201
    return 0


def _label_change(device: ThisDevice, bundle: Bundle) -> str:
    """How the labels of `bundle` differ from those of the model that runs; '' if they do not."""
    try:
        status = status_file.read_status(device.runtime)
    except SourceError:
        return ""
    change = change_as_text(status.labels, bundle.card.labels) if status.labels else ""
    advice = "what names labels, such as automations and scripts, has to follow"
    return f"its labels are not those of {status.model}: {change}; {advice}" if change else ""


def _wait_for_result(
    device: ThisDevice,
    name: str,
    earlier: ProbationResult | None,
    timeout: float,
) -> ProbationResult | None:
    """How the probation of `name` ended; None if it has not within `timeout` seconds, or if nobody
    reads this any more.

    earlier: the last result when the bundle was requested.

    Raises BundleError if the bundle was rolled back, replaced or not taken.
    """
    start = time.monotonic()
    while True:
        waited = time.monotonic() - start
        if waited >= timeout or _is_unheard():
            return None
        state = device.store.state()
        if name not in (state.current, state.pending):
            # A roll-back replaces the link before it writes the result.
            settled = device.store.settled_state(timeout - waited)
            if settled is None:
                return None
            state = settled
        result = _result_of(state, name, earlier)
        if result is not None:
            return result
        if name not in (state.current, state.pending):
            successor = display_name(state.pending or state.current)
            raise BundleError(f"{name} was replaced by {successor}")
        if state.pending == name and waited > _PROMOTE_SECONDS and _notify_service(device):
            device.store.cancel(name)
            raise BundleError(
                f"{name}: the service runs, but did not take it; see: mien-edge status",
            )
        time.sleep(_POLL_SECONDS)


def _is_unheard(output: int = 1) -> bool:
    """Whether the other end of standard output is closed, as that of an ssh session that ended."""
    poll = select.poll()
    poll.register(output, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


def _result_of(
    state: StoreState,
    name: str,
    earlier: ProbationResult | None,
) -> ProbationResult | None:
    """How the probation of `name` ended since it was requested; None if it has not yet.

    The result is known by being another one than before, for the clock may be set meanwhile.
    """
    result = state.record.last_result
    if result and result.name == name and result != earlier:
        if result.passed:
            return result
        raise BundleError(_as_sentence(result))
    if state.current == name and not state.on_probation:
        return ProbationResult(name, True, "it runs", time.time())
    return None


def _progress(device: ThisDevice, name: str) -> str:
    """What the running service says of the probation of `name`; '' if it says nothing."""
    try:
        status = status_file.read_status(device.runtime)
    except SourceError:
        return ""
    probation = status.probation
    if probation is None or status.model != name:
        return ""
    return f"{probation} until now"


def _notes(device: ThisDevice, state: StoreState, name: str) -> str:
    """What a bundle is for, and its labels if they are others than the seven."""
    texts = _uses(state, name, _progress(device, name))
    labels = device.store.labels(name)
    if labels not in ((), LABELS):
        texts.append(f"labels {', '.join(labels)}")
    return f"  ({', '.join(texts)})" if texts else ""


def _uses(state: StoreState, name: str, progress: str) -> list[str]:
    on_probation = f"on probation: {progress}" if progress else "on probation"
    uses = {
        on_probation: name == state.current and state.on_probation,
        "committed": name in state.record.committed,
        "asked for": name == state.pending,
        "shadow": name == state.shadow,
    }
    texts = [use for use, applies in uses.items() if applies]
    if name in state.failed:
        texts.append(f"failed, not taken again: {state.failed[name]}")
    return texts


def _as_sentence(result: ProbationResult) -> str:
    outcome = "is committed" if result.passed else "was rolled back"
    return f"{result.name} {outcome}: {result.reason}"


def _print_shadow_change(device: ThisDevice, text: str) -> None:
    is_running = _notify_service(device)
    print(text if is_running else f"{text} once the service runs")  # noqa: T201


def _notify_service(device: ThisDevice) -> bool:
    """Make the service look at the store; whether it runs."""
    return status_file.send_reload_signal(device.runtime)


def _log_event(device: ThisDevice, kind: EventKind, text: str) -> None:
    """Write an event into the log, where there is one."""
    database.append_event(device.log, kind, text)


# --- the command line -----------------------------------------------------------------------------


def configure_models(parser: argparse.ArgumentParser) -> None:
    """Add the actions of `models`."""
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    list_parser = _action(
        actions,
        "list",
        "list the installed bundles; * marks the current one",
        _on_list,
    )
    json_option(list_parser)
    _add_install(actions)
    activate_parser = _action(
        actions,
        "activate",
        "run an installed bundle, at first on probation",
        _on_activate,
    )
    _name_argument(activate_parser)
    _downgrade_option(activate_parser)
    _timeout_option(activate_parser)
    _action(
        actions,
        "rollback",
        "return to the bundle that was committed before",
        _on_rollback,
    )
    remove_parser = _action(
        actions,
        "remove",
        "remove an installed bundle that is not in use",
        _on_remove,
    )
    _name_argument(remove_parser)
    renamed_command(actions, "discard", "mien-edge models discard", "mien-edge models remove")
    _add_shadow(actions)


def configure_receive(parser: argparse.ArgumentParser) -> None:
    """Add the options of `receive`."""
    parser.set_defaults(run=_on_receive)
    _common_options(parser)
    _downgrade_option(parser)
    _timeout_option(parser)


def _add_install(actions: Commands) -> None:
    parser = _action(
        actions,
        "install",
        "verify a bundle, replay its golden vectors and install it; it does not run yet",
        _on_install,
    )
    parser.add_argument(
        "bundle",
        help="folder of the bundle, or - to read a tar archive from standard input",
    )
    _downgrade_option(parser)


def _add_shadow(actions: Commands) -> None:
    parser = _action(
        actions,
        "shadow",
        "compare a bundle with the current one on the same faces, or print the comparison",
        _on_shadow,
    )
    parser.add_argument(
        "name",
        nargs="?",
        help="NAME-VERSION as `models list` prints it; leave it out to print the comparison",
    )
    parser.add_argument("--stop", action="store_true", help="stop the comparison")
    renamed_option(parser, "--end", "--stop")
    json_option(parser)


def _action(actions: Commands, name: str, text: str, run: Handler) -> argparse.ArgumentParser:
    parser = add_command(actions, name, text, run)
    _common_options(parser)
    return parser


def _common_options(parser: argparse.ArgumentParser) -> None:
    settings_option(parser)
    runtime_option(parser)


def _name_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="NAME-VERSION as `models list` prints it")


def _downgrade_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--allow-downgrade",
        action="store_true",
        help="accept an older version than the newest that has run here",
    )


def _timeout_option(parser: argparse.ArgumentParser) -> None:
    text = "wait up to this long for the end of its probation (default: do not wait)"
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help=text)
    renamed_option(parser, "--wait", "--timeout")


def _open_device(options: argparse.Namespace) -> ThisDevice:
    """Read the settings and become the owner of the store.

    Root must not follow links that the service may have put there.
    """
    settings = load_settings(options.settings)
    folder = models_folder()
    if folder.is_dir():
        sandbox.drop_privileges(folder.stat())
    return ThisDevice(
        store=Store(folder, Trust.from_settings(settings.update)),
        log=paths.log(settings.log.path),
        runtime=options.runtime or paths.runtime(),
    )


def _standard_input() -> archive.DeadlineStream:
    # A process that was started without standard input has none.
    return archive.DeadlineStream(sys.stdin.fileno() if sys.stdin else 0)


def _on_list(options: argparse.Namespace) -> None:
    list_(_open_device(options), options.json)


def _on_install(options: argparse.Namespace) -> None:
    if options.bundle == "-":
        install(_open_device(options), _standard_input(), options.allow_downgrade)
        return
    folder = Path(options.bundle)
    # Read before the rights are dropped: the folder may belong to whoever calls this.
    stream = io.BytesIO(archive.pack(folder))
    install(_open_device(options), stream, options.allow_downgrade, folder)


def _on_activate(options: argparse.Namespace) -> int:
    return activate(_open_device(options), options.name, options.allow_downgrade, options.timeout)


def _on_receive(options: argparse.Namespace) -> int:
    return receive(
        _open_device(options),
        _standard_input(),
        options.allow_downgrade,
        options.timeout,
    )


def _on_rollback(options: argparse.Namespace) -> None:
    rollback(_open_device(options))


def _on_remove(options: argparse.Namespace) -> None:
    remove(_open_device(options), options.name)


def _on_shadow(options: argparse.Namespace) -> None:
    device = _open_device(options)
    if options.stop:
        stop_shadow(device)
    elif options.name:
        start_shadow(device, options.name)
    else:
        shadow(device, options.json)
