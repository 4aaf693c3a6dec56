"""Which verbs there are, how a call is read, and with what it ends.

A verb is a module with `HELP`, `add_arguments(parser)` and `run(arguments, environment)`. It imports what is heavy only when it
runs, so that `--help` answers at once.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from lakehouse_assets.cli.verbs import (
    accept_loss,
    compact,
    complete,
    dev,
    drop,
    expire,
    ingest,
    maintain,
    manifests,
    new,
    orphans,
    peek,
    pin,
    plan,
    query,
    replay,
    schema,
    status,
    unpin,
    validate,
)
from lakehouse_assets.model.errors import LakehouseError, UnknownTableError
from lakehouse_assets.model.mistakes import Mistake, nearest

if TYPE_CHECKING:
    from lakehouse_assets.environment import Environment

_FAILED, _WRONG_CALL, _INTERRUPTED, _UNHEARD = 1, 2, 130, 141  # the last two: 128 and the number of SIGINT, of SIGPIPE


class Verb(Protocol):
    """What the module of a verb has."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Say what the verb takes."""

    def run(self, arguments: argparse.Namespace, environment: "Environment") -> int:
        """Do it; the exit code. Expected errors are raised as LakehouseError."""


VERBS: Mapping[str, Verb] = {
    "dev": dev,
    "new": new,
    "validate": validate,
    "plan": plan,
    "peek": peek,
    "ingest": ingest,
    "status": status,
    "complete": complete,
    "query": query,
    "pin": pin,
    "unpin": unpin,
    "replay": replay,
    "accept-loss": accept_loss,
    "compact": compact,
    "expire": expire,
    "manifests": manifests,
    "orphans": orphans,
    "maintain": maintain,
    "drop": drop,
    "schema": schema,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; 0 is success, 1 an error that was printed, 2 a wrong call, an unknown table among them."""
    parser = _build_parser()
    _refuse_unknown(parser, sys.argv[1:] if arguments is None else arguments)
    parsed = parser.parse_args(arguments)
    try:
        code = _run(parsed)
        sys.stdout.flush()
    except BrokenPipeError:
        # Who reads has seen enough, as `head` does; what is still to be flushed at exit goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _UNHEARD
    except KeyboardInterrupt:
        return _INTERRUPTED
    except Exception:  # noqa: BLE001 - Python would end with 1, which is an answer of some verbs
        traceback.print_exc()
        return _failure_of(parsed.verb)
    return code


def _failure_of(verb: Verb) -> int:
    return int(getattr(verb, "FAILED", _FAILED))


def _run(parsed: argparse.Namespace) -> int:
    from lakehouse_assets.environment import Environment

    verb: Verb = parsed.verb
    try:
        return verb.run(parsed, Environment.read())
    except LakehouseError as error:
        print(error, file=sys.stderr)
        return _WRONG_CALL if isinstance(error, UnknownTableError) else _failure_of(verb)


def _refuse_unknown(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """The parser's own error names every command, and not which is meant."""
    verb = next((argument for argument in arguments if not argument.startswith("-")), None)
    if verb is not None and verb not in VERBS:
        parser.error(str(Mistake(f"the command {verb!r}", ", ".join(VERBS), nearest(verb, VERBS))))


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lakehouse",
        description="Kafka topics become Iceberg tables.",
        epilog="Ends with 0 on success, 1 on an error that it prints, 2 on a wrong call, 130 when it was interrupted. "
        "Settings come from the environment.",
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, verb in VERBS.items():
        one = commands.add_parser(name, help=verb.HELP, description=verb.HELP[0].upper() + verb.HELP[1:] + ".")
        verb.add_arguments(one)
        one.set_defaults(verb=verb)
    return parser
