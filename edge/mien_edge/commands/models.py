"""The commands `mien-edge models …` and `mien-edge receive`: bundles on this device, for people and for mien-deploy."""

import argparse
import dataclasses
import io
import json
import sys
import time
from pathlib import Path

from mien_edge import paths
from mien_edge.commands.common import (
    Commands,
    Handler,
    RenamedCommand,
    add_command,
    json_option,
    renamed_option,
    settings_option,
)
from mien_edge.errors import BundleError, SourceError
from mien_edge.events import EventKind
from mien_edge.log import database
from mien_edge.model import bundle as bundles
from mien_edge.schema import to_dict
from mien_edge.settings import load_settings
from mien_edge.status import status_file
from mien_edge.update import compare, sandbox
from mien_edge.update.archive import pack, receive
from mien_edge.update.record import ProbationResult, StoreState
from mien_edge.update.signing import Trust
from mien_edge.update.store import Store

_LOOK_EVERY = 0.5  # seconds
NOT_JUDGED = 3  # exit code: the wait was over before the probation
_START = 30.0  # seconds that a service is given to take what is asked for


def listing(options: argparse.Namespace) -> None:
    """Print what is installed and what each bundle is for."""
    state = _store(options).state()
    if options.json:
        print(json.dumps(dataclasses.asdict(state) | {"on_probation": state.on_probation}))  # noqa: T201
        return
    for name in state.installed:
        print(f"{'*' if name == state.current else ' '} {name}{_uses(state, name)}")  # noqa: T201
    if not state.current:
        print("* the bundle that came with mien")  # noqa: T201
    if state.record.verdict:
        print(f"last: {_said(state.record.verdict)}")  # noqa: T201


def install(options: argparse.Namespace) -> None:
    """Verify, replay and keep a bundle."""
    sent = sys.stdin.buffer if options.bundle == "-" else io.BytesIO(pack(Path(options.bundle)))
    done = receive(sent, _store(options), options.allow_downgrade)
    _tell(EventKind.MODEL_INSTALLED, done.card.id, options)
    print(f"{done.card.id} is installed; run it with: mien-edge models activate {done.card.id}")  # noqa: T201


def activate(options: argparse.Namespace) -> int:
    """Ask for a bundle, and wait for how it ends where that is wished."""
    return _activate(_store(options), options.name, options)


def take(options: argparse.Namespace) -> int:
    """`receive`: install a bundle from standard input and ask for it; all that a restricted key may do."""
    store = _store(options)
    done = receive(sys.stdin.buffer, store, options.allow_downgrade)
    _tell(EventKind.MODEL_INSTALLED, done.card.id, options)
    print(f"{done.card.id} is installed", flush=True)  # noqa: T201
    return _activate(store, done.card.id, options)


def rollback(options: argparse.Namespace) -> None:
    """Go back by hand."""
    store = _store(options)
    left = store.state().current
    back = store.rollback("by hand") or "the bundle that came with mien"
    _tell(EventKind.ROLLED_BACK, f"{left}: by hand; to {back}", options)
    print(f"{back} is current{_taken(options)}")  # noqa: T201


def remove(options: argparse.Namespace) -> None:
    """Remove a bundle."""
    _store(options).discard(options.name)
    _poke(options)
    _tell(EventKind.MODEL_DISCARDED, options.name, options)
    print(f"{options.name} is removed")  # noqa: T201


def beside(options: argparse.Namespace) -> None:
    """Compare a candidate with the current model, or print how they compare."""
    store = _store(options)
    if options.name or options.stop:
        store.shadow("" if options.stop else options.name)
        runs = _poke(options)
        text = "the shadow ends" if options.stop else f"{options.name} is compared with the current model"
        print(text if runs else f"{text} once the service runs")  # noqa: T201
        return
    try:
        report = status_file.read_status(options.runtime or paths.runtime()).shadow
    except SourceError as problem:
        raise BundleError(str(problem)) from None
    if not report:
        raise BundleError("no model is compared now; choose one with: mien-edge models shadow NAME")
    print(json.dumps(to_dict(report)) if options.json else compare.as_text(report))  # noqa: T201


def _store(options: argparse.Namespace) -> Store:
    """The store, as its folder's owner: root must follow nothing that the service may have put there."""
    folder = bundles.models_folder()
    trust = Trust.of(load_settings(options.settings).update)
    if folder.is_dir():
        sandbox.drop_privileges(folder.stat())
    return Store(folder, trust)


def _activate(store: Store, name: str, options: argparse.Namespace) -> int:
    asked = time.time()
    state = store.activate(name, options.allow_downgrade)
    if state.current == name and not state.next:
        print(f"{name} is current already{', on probation' if state.on_probation else ''}", flush=True)  # noqa: T201
        if not state.on_probation:
            return 0
    else:
        when = "now" if _poke(options) else "at its next start"
        print(f"{name} is asked for: the service takes it {when}", flush=True)  # noqa: T201
    if options.timeout is None:
        return 0
    verdict = _verdict(store, name, asked, options)
    text = _said(verdict) if verdict else f"{name} has not been judged after {options.timeout:g} s"
    print(text)  # noqa: T201
    return 0 if verdict else NOT_JUDGED


def _verdict(store: Store, name: str, asked: float, options: argparse.Namespace) -> ProbationResult | None:
    """How it ended; None if it has not in time. Raises BundleError if it was rolled back, replaced or not taken."""
    began = time.monotonic()
    while (spent := time.monotonic() - began) < options.timeout:
        state = store.state()
        verdict = state.record.verdict
        if verdict and verdict.name == name and verdict.time >= asked:
            if verdict.kept:
                return verdict
            raise BundleError(_said(verdict))
        if state.current == name and not state.on_probation:
            return ProbationResult(name, True, "it runs", time.time())
        if name not in (state.current, state.next):
            raise BundleError(f"{name} was replaced by {state.next or state.current or 'the one that came with mien'}")
        if state.next == name and spent > _START and _poke(options):
            store.withdraw(name)
            raise BundleError(f"{name}: the service runs, but did not take it; see: mien-edge status")
        time.sleep(_LOOK_EVERY)
    return None


def _uses(state: StoreState, name: str) -> str:
    uses = [
        *(["on probation"] if name == state.current and state.on_probation else []),
        *(["committed"] if name in state.record.committed else []),
        *(["asked for"] if name == state.next else []),
        *(["shadow"] if name == state.shadow else []),
    ]
    return f"  ({', '.join(uses)})" if uses else ""


def _said(verdict: ProbationResult) -> str:
    return f"{verdict.name} {'is committed' if verdict.kept else 'was rolled back'}: {verdict.reason}"


def _poke(options: argparse.Namespace) -> bool:
    """Make the service look; whether it runs."""
    return status_file.send_reload_signal(options.runtime or paths.runtime())


def _taken(options: argparse.Namespace) -> str:
    return "" if _poke(options) else "; the service does not run"


def _tell(kind: EventKind, text: str, options: argparse.Namespace) -> None:
    """Into the log, where one is."""
    database.append_event(paths.log(load_settings(options.settings).log.path), kind, text)


def configure_models(parser: argparse.ArgumentParser) -> None:
    """Add the actions of `models`."""
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    json_option(_action(actions, "list", "list the installed bundles; * marks the current one", listing))
    installer = _action(
        actions, "install", "verify a bundle, replay its golden vectors and install it; it does not run yet", install
    )
    installer.add_argument("bundle", help="folder of the bundle, or - to read a tar archive from standard input")
    _downgrade_option(installer)
    activator = _action(actions, "activate", "run an installed bundle, at first on probation", activate)
    _name(activator)
    _downgrade_option(activator)
    _timeout_option(activator)
    _action(actions, "rollback", "return to the bundle that was committed before", rollback)
    _name(_action(actions, "remove", "remove an installed bundle that is not in use", remove))
    actions.choices["discard"] = RenamedCommand("mien-edge models discard", "mien-edge models remove")
    shadow = _action(
        actions, "shadow", "compare a bundle with the current one on the same faces, or print the comparison", beside
    )
    shadow.add_argument(
        "name", nargs="?", help="NAME-VERSION as `models list` prints it; leave it out to print the comparison"
    )
    shadow.add_argument("--stop", action="store_true", help="stop the comparison")
    renamed_option(shadow, "--end", "--stop")
    json_option(shadow)


def configure_receive(parser: argparse.ArgumentParser) -> None:
    """Add the options of `receive`."""
    parser.set_defaults(run=take)
    _common_options(parser)
    _downgrade_option(parser)
    _timeout_option(parser)


def _action(actions: Commands, name: str, text: str, run: Handler) -> argparse.ArgumentParser:
    parser = add_command(actions, name, text, run)
    _common_options(parser)
    return parser


def _common_options(parser: argparse.ArgumentParser) -> None:
    settings_option(parser)
    parser.add_argument(
        "--runtime", type=Path, metavar="FOLDER", help="runtime folder of the service (default: /run/mien)"
    )


def _name(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", help="NAME-VERSION as `models list` prints it")


def _downgrade_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--allow-downgrade", action="store_true", help="accept an older version than the newest that has run here"
    )


def _timeout_option(command: argparse.ArgumentParser) -> None:
    text = "wait up to this long for the end of its probation (default: do not wait)"
    command.add_argument("--timeout", type=float, metavar="SECONDS", help=text)
    renamed_option(command, "--wait", "--timeout")
