"""What a topic of a benchmark is filled with: clicks in JSON and Avro, with bad ones among them, nested rows, 100 columns."""

import io
import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import fastavro

from benchmarks import customers
from benchmarks.clicks import AVRO_SCHEMA, SCHEMA, encode_avro, generate_clicks

Columns = list[dict[str, Any]]

COLUMNS_OF_WIDE = 100
_KINDS = ("long", "double", "string", "boolean")


def read_json(value: bytes) -> Any:
    """What the loop of a person makes of a message; None where it can't, which is as far as such loops go."""
    try:
        return json.loads(value)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Shape:
    """What a topic is filled with, how its table is declared, and how the rival reads one message."""

    generate: Callable[[int], Iterator[bytes]]
    columns: Columns
    read: Callable[[bytes], Any] = read_json
    source: Callable[[Path], dict[str, str]] = field(default=lambda _: {})
    declaration: Mapping[str, Any] = field(default_factory=dict)


def _generate_bad(count: int) -> Iterator[bytes]:
    for i, value in enumerate(generate_clicks(count)):
        yield value[:-5] if i % 10 == 5 else value


def _generate_wide(count: int) -> Iterator[bytes]:
    rng = random.Random(7)  # noqa: S311 - test data
    for _ in range(count):
        drawn = (rng.getrandbits(40), rng.random(), f"{rng.getrandbits(40):x}", rng.random() < 0.5)
        row = {f"c{i}": drawn[i % len(_KINDS)] for i in range(COLUMNS_OF_WIDE)}
        yield json.dumps(row, separators=(",", ":")).encode()


def _generate_nested(count: int) -> Iterator[bytes]:
    rng = random.Random(7)  # noqa: S311 - test data
    for i in range(count):
        order = {
            "id": i,
            "user": {
                "id": rng.randrange(10**6),
                "address": {"city": f"city {rng.randrange(500)}", "zip": f"{rng.randrange(10**5):05}"},
            },
            "items": [
                {"sku": f"sku-{rng.randrange(10**4)}", "quantity": rng.randint(1, 9), "price": round(rng.random() * 100, 2)}
                for _ in range(rng.randint(1, 5))
            ],
            "tags": rng.sample(["new", "gift", "sale", "app", "web"], rng.randrange(4)),
        }
        yield json.dumps(order, separators=(",", ":")).encode()


_WIRE_PREFIX = 5  # bytes before the body in Confluent's wire format, which messages of a schema file do not have


def _generate_avro(count: int) -> Iterator[bytes]:
    return (value[_WIRE_PREFIX:] for value in encode_avro(generate_clicks(count)))


def _read_avro(value: bytes) -> Any:
    return fastavro.schemaless_reader(io.BytesIO(value), _parsed_avro(), None)


@cache
def _parsed_avro() -> Any:
    return fastavro.parse_schema(AVRO_SCHEMA)


def _declare_avro(folder: Path) -> dict[str, str]:
    path = folder / "click.avsc"
    path.write_text(json.dumps(AVRO_SCHEMA))
    return {"format": "avro", "schema_file": str(path)}


_OF_AVRO: Columns = [{**column, "type": "timestamptz"} if column["name"] == "ts" else column for column in SCHEMA]
_NESTED: Columns = [
    {"name": "id", "type": "long"},
    {"name": "user", "type": "struct<id:long,address:struct<city:string,zip:string>>"},
    {"name": "items", "type": "list<struct<sku:string,quantity:int,price:double>>"},
    {"name": "tags", "type": "list<string>"},
]

SHAPES = {
    "clicks": Shape(generate_clicks, SCHEMA),
    "clicks in Avro": Shape(_generate_avro, _OF_AVRO, _read_avro, _declare_avro),
    "clicks, 10 % bad": Shape(_generate_bad, SCHEMA),
    "nested": Shape(_generate_nested, _NESTED),
    "100 columns": Shape(_generate_wide, [{"name": f"c{i}", "type": _KINDS[i % len(_KINDS)]} for i in range(COLUMNS_OF_WIDE)]),
}

# Upserts, which are measured by themselves.
CHANGES = Shape(
    lambda count: (value for _, _, value in customers.generate_changes(count, keys=count)),
    customers.SCHEMA,
    source=lambda _: {"format": "debezium-json"},
    declaration={"mode": "upsert", "key": ["id"], "partition_by": ["bucket(16, id)"]},
)
SHAPES_OF_TOPICS = {**SHAPES, "changes": CHANGES}
