"""Speed of decoding JSON and Avro: ours beside Arrow's bare reader and beside what people write by hand.

    python -m benchmarks.bench_decode [rows]

All candidates take turns in one process, so the ratios hold on a busy machine too. CPU time, not wall time; the table shows
the median. The messages are clicks of about 295 bytes of JSON, 155 of Avro, with 12 fields.
"""

import io
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

import fastavro
import pyarrow as pa
import pyarrow.json as pa_json

from benchmarks.clicks import AVRO_SCHEMA, encode_avro, generate_clicks
from lakehouse_assets.decode.avro.decoder import AvroDecoder
from lakehouse_assets.decode.columns import arrow_schema
from lakehouse_assets.decode.decoded import Messages
from lakehouse_assets.decode.decoder import build_decoder
from lakehouse_assets.decode.json_decoder import JsonDecoder
from lakehouse_assets.model.schemas import RegisteredSchema
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.model.types import Primitive
from lakehouse_assets.systems.registry import SchemaRegistry

ROUNDS = 9
DEFAULT_ROWS = 50_000
KINDS = {
    "event_id": "string", "ts": "timestamptz", "user_id": "long", "session_id": "string", "url": "string", "referrer": "string",
    "ip": "string", "country": "string", "device": "string", "duration_ms": "int", "price": "double", "is_bot": "boolean",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class BenchColumn:
    """A declared column of the click table."""

    name: str
    type: Primitive
    required: bool
    path: tuple[str, ...]
    epoch: str | None


COLUMNS = [
    BenchColumn(
        name, Primitive(kind), name in {"event_id", "ts"}, (name,), "milliseconds" if name == "ts" else None
    )
    for name, kind in KINDS.items()
]
DERIVING = TableSpec(
    table="bench.clicks",
    source={"topic": "clicks"},
    schema=[
        *({"name": c.name, "type": str(c.type), "required": c.required, "epoch": c.epoch} for c in COLUMNS),
        {"name": "price_cents", "type": "long", "expr": "CAST(round(price * 100) AS BIGINT)"},
        {"name": "visitor", "type": "string", "expr": "lower(country) || '-' || user_id"},
    ],
    where="NOT is_bot AND duration_ms > 0",
)
READ_SCHEMA = arrow_schema(COLUMNS).set(1, pa.field("ts", pa.int64()))


def damaged(values: list[bytes], every: int, damage: Callable[[bytes], bytes]) -> list[bytes]:
    """A copy in which each `every`-th value, beginning in the middle of a run, is damaged."""
    return [damage(value) if index % every == every // 2 else value for index, value in enumerate(values)]


def read_bare(values: list[bytes]) -> pa.Table:
    """Arrow's reader with its own block size, and no check of anything."""
    return pa_json.read_json(
        pa.BufferReader(b"\n".join(values)),
        read_options=pa_json.ReadOptions(use_threads=False),
        parse_options=pa_json.ParseOptions(explicit_schema=READ_SCHEMA, unexpected_field_behavior="ignore"),
    )


def candidates(values: list[bytes]) -> dict[str, Callable[[], object]]:
    """What is measured, by label; the first two are the ones that ratios refer to."""
    decoder = JsonDecoder(COLUMNS)
    inputs = {
        "ours, clean": values,
        "ours, 3 cut": damaged(values, max(1, len(values) // 3), lambda value: value[:-9] + b"}"),
        "ours, 10 % cut at the end": damaged(values, 10, lambda value: value[:-5]),
        "ours, 10 % broken inside": damaged(values, 10, lambda value: value.replace(b'"url":', b'"url"')),
        "ours, 10 % of a wrong type": damaged(values, 10, lambda value: value.replace(b'"is_bot":', b'"is_bot":0,"was":')),
        "ours, 10 % without a required field": damaged(values, 10, lambda value: value.replace(b'"ts":', b'"at":')),
    }  # fmt: skip
    chosen: dict[str, Callable[[], object]] = {"bare pyarrow read_json": lambda: read_bare(values)}
    chosen |= {label: lambda given=given: decoder.decode(given) for label, given in inputs.items()}  # type: ignore[misc]
    messages = Messages(values, [None] * len(values), [None] * len(values))
    deriving = build_decoder(DERIVING, SchemaRegistry({}).schema_of)
    chosen["ours, clean, a filter, two derived columns"] = lambda: deriving.decode(messages)
    loaders = {"json": json.loads}
    if find_spec("orjson") is not None:
        loaders["orjson"] = import_module("orjson").loads
    for name, load in loaders.items():
        chosen[f"{name}.loads + Table.from_pylist"] = lambda load=load: pa.Table.from_pylist(  # type: ignore[misc]
            [load(value) for value in values], schema=READ_SCHEMA
        )
    return chosen


def avro_candidates(values: list[bytes]) -> dict[str, Callable[[], object]]:
    """The same for messages of Avro, `values` being JSON."""
    messages = list(encode_avro(values))
    decoder = AvroDecoder(COLUMNS, lambda _: RegisteredSchema("AVRO", json.dumps(AVRO_SCHEMA)))
    cut = damaged(messages, 10, lambda message: message[:-5])
    schema = fastavro.parse_schema(AVRO_SCHEMA)
    return {
        "ours, Avro, clean": lambda: decoder.decode(messages),
        "ours, Avro, 10 % cut at the end": lambda: decoder.decode(cut),
        "fastavro + Table.from_pylist": lambda: pa.Table.from_pylist(
            [fastavro.schemaless_reader(io.BytesIO(message[5:]), schema, None) for message in messages],
            schema=arrow_schema(COLUMNS),
        ),
    }


def main() -> None:
    """Measures and prints the table."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_ROWS
    values = list(generate_clicks(rows))
    chosen = candidates(values) | avro_candidates(values)
    seconds: dict[str, list[float]] = {label: [] for label in chosen}
    for _ in range(ROUNDS):
        for label, run in chosen.items():
            begin = time.process_time()
            run()
            seconds[label].append(time.process_time() - begin)
    medians = {label: statistics.median(spent) for label, spent in seconds.items()}
    bare, ours = list(medians.values())[:2]
    print(f"{rows} rows of {sum(map(len, values)) / rows:.0f} B, median of {ROUNDS} rounds, CPU time")
    print(f"{'':44}{'us/row':>8}{'x bare':>8}{'speed, ours clean = 1':>24}")
    for label, median in medians.items():
        print(f"{label:44}{median / rows * 1e6:8.2f}{median / bare:8.2f}{ours / median:24.2f}")


if __name__ == "__main__":
    main()
