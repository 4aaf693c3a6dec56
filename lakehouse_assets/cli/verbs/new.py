"""`lakehouse new`: a declaration from a topic's messages."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse_assets.cli.printing import add_json, print_json, read_count
from lakehouse_assets.model.written import read_table_name, read_topic

if TYPE_CHECKING:
    from lakehouse_assets.environment import Environment
    from lakehouse_assets.model.drafts import Draft

HELP = "write a declaration from the messages of a topic, rows or changes of rows, or its schema in the registry, ready to edit"
_SAMPLED = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the verb takes."""
    parser.add_argument("table", type=_reads(read_table_name), help="namespace.name of the new table")
    parser.add_argument("--topic", required=True, type=_reads(read_topic), help="the Kafka topic")
    parser.add_argument("--count", type=read_count, default=_SAMPLED, help=f"how many messages to read (default: {_SAMPLED:,})")
    parser.add_argument("--dry-run", action="store_true", help="print the declaration, write nothing")
    add_json(parser)


def _reads(read: Callable[[object], str]) -> Callable[[str], str]:
    def read_argument(text: str) -> str:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read_argument


def run(arguments: argparse.Namespace, environment: "Environment") -> int:
    """Write the file into the folder of declarations; a table that is declared already stays as it is."""
    from lakehouse_assets.cli.tables import open_systems
    from lakehouse_assets.declarations.drafting import render_draft
    from lakehouse_assets.operations.drafting import draft_from_topic

    file = environment.tables_dir / f"{arguments.table.replace('.', '_')}.yaml"
    _refuse_declared(arguments.table, file, environment)
    draft = draft_from_topic(open_systems(environment), arguments.table, arguments.topic, arguments.count)
    text = render_draft(arguments.table, arguments.topic, draft)
    if not arguments.dry_run:
        _write(file, text, arguments.table)
    if arguments.json:
        _print_document(arguments, file, draft, text)
    elif arguments.dry_run:
        print(text, end="")
    else:
        print(f"wrote {file}: {len(draft.columns)} columns from {_origin(draft)}")
        if draft.changes is not None and not draft.changes.key:
            print("no message says what names a row: fill in 'key'", file=sys.stderr)
        if draft.left_out or draft.unreadable:
            left, bad = len(draft.left_out), sum(draft.unreadable.values())
            messages = f"; {bad:,} messages that are no JSON objects" if bad else ""
            print(f"left out: {left} fields{messages}; the file says why", file=sys.stderr)
    return 0


def _origin(draft: "Draft") -> str:
    return draft.subject or f"{draft.message_count:,} {'messages' if draft.changes is None else f'changes ({draft.format})'}"


def _refuse_declared(table: str, file: Path, environment: "Environment") -> None:
    from lakehouse_assets.declarations.loading import load_declarations
    from lakehouse_assets.model.errors import DeclarationExistsError

    declared = load_declarations(environment.tables_dir)
    names = [spec.table for spec in declared.specs] + [broken.name for broken in declared.broken]
    if table.lower() in map(str.lower, names):
        raise DeclarationExistsError(table, f"a declaration of it in {environment.tables_dir}")
    if file.exists():
        raise DeclarationExistsError(table, f"the file {file}")


def _write(file: Path, text: str, table: str) -> None:
    from lakehouse_assets.model.errors import ConfigurationError, DeclarationExistsError

    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        raise DeclarationExistsError(table, f"the file {file}") from None
    except OSError as error:
        found = f"{str(file.parent)!r}, which can't be written ({error.strerror})"
        raise ConfigurationError("LAKEHOUSE_TABLES_DIR", found, "a folder of your own") from error


def _print_document(arguments: argparse.Namespace, file: Path, draft: "Draft", text: str) -> None:
    print_json(
        table=arguments.table,
        topic=arguments.topic,
        format=draft.format,
        subject=draft.subject,
        file=None if arguments.dry_run else str(file),
        text=text,
        messages=draft.message_count,
        unreadable=dict(draft.unreadable),
        mode="append" if draft.changes is None else "upsert",
        key=list(draft.changes.key) if draft.changes is not None else [],
        buckets=draft.changes.buckets if draft.changes is not None else 1,
        columns=[
            {"name": c.name, "from": list(c.path), "type": str(c.type), "required": c.required, "share": c.share}
            for c in draft.columns
        ],
        left_out=dict(draft.left_out),
    )
