"""Speed of decoding Debezium's JSON: ours beside Arrow's bare reader of the same fields.

    python -m benchmarks.bench_decode_changes [changes]

All candidates take turns in one process, so the ratios hold on a busy machine too. CPU time, not wall time; the table shows
the median. The messages are those of the benchmark `changes`: three quarters updates with both images, a fifth inserts, the
rest deletions.
"""

import base64
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.json as pa_json

from benchmarks.bench_decode import damaged
from benchmarks.customers import SCHEMA, generate_changes
from lakehouse_assets.decode.changes.building import build_change_decoder
from lakehouse_assets.decode.changes.decoded import ChangeMessages
from lakehouse_assets.decode.columns import arrow_schema
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.systems.registry import SchemaRegistry

ROUNDS = 9
DEFAULT_CHANGES = 40_000
KEYS = 10_000
_CONNECT = {"long": "int64", "string": "string", "double": "double", "boolean": "boolean"}


def _spec(**kinds: str) -> TableSpec:
    columns = [{**column, "type": kinds.get(str(column["name"]), column["type"])} for column in SCHEMA]
    source = {"topic": "customers", "format": "debezium-json"}
    return TableSpec(table="bench.customers", source=source, mode="upsert", key=["id"], schema=columns)


def _wrapper(around: str) -> bytes:
    """The schema of the customers, as Connect's converter writes it before the payload."""
    fields = [{"type": _CONNECT[str(one["type"])], "optional": True, "field": one["name"]} for one in SCHEMA]
    images = [{"type": "struct", "fields": fields, "optional": True, "field": name} for name in ("before", "after")]
    schema = {"type": "struct", "fields": images if around == "value" else fields[:1], "optional": False, "name": "shop"}
    return b'{"schema":%s,"payload":' % json.dumps(schema, separators=(",", ":")).encode()


def _in_base64(value: bytes) -> bytes:
    """With balances as `decimal.handling.mode=precise` writes them."""
    message: dict[str, Any] = json.loads(value)
    for image in (message["before"], message["after"]):
        if image is not None:
            cents = round(image["balance"] * 100)
            image["balance"] = base64.b64encode(cents.to_bytes(cents.bit_length() // 8 + 1, "big", signed=True)).decode()
    return json.dumps(message, separators=(",", ":")).encode()


def candidates(values: Sequence[bytes], keys: Sequence[bytes]) -> dict[str, Callable[[], object]]:
    """What is measured, by label; the first two are the ones that ratios refer to."""
    value_wrapper, key_wrapper = _wrapper("value"), _wrapper("key")
    plain, precise = _spec(), _spec(balance="decimal(12,2)")
    inputs = {
        "ours, clean": (plain, values),
        "ours, with schemas around": (plain, [value_wrapper + value + b"}" for value in values]),
        "ours, a decimal in base64": (precise, [_in_base64(value) for value in values]),
        "ours, a value that did not change in each": (
            plain, [value.replace(b'"notes":"', b'"notes":"__debezium_unavailable_value", "was":"') for value in values],
        ),
        "ours, 0.1 % of other operations": (plain, damaged(list(values), 1000, lambda _: b'{"op":"m","message":{}}')),
        "ours, 1 % of a wrong type": (
            plain, damaged(list(values), 100, lambda value: value.replace(b'"active":', b'"active":"no","was":')),
        ),
    }  # fmt: skip
    chosen: dict[str, Callable[[], object]] = {"bare pyarrow read_json": lambda: _read_bare(values)}
    for label, (spec, given) in inputs.items():
        decoder = build_change_decoder(spec, SchemaRegistry({}).schema_of)
        named = [key_wrapper + key + b"}" for key in keys] if "schemas" in label else keys
        messages = ChangeMessages(given, named, [None] * len(values))
        chosen[label] = lambda decoder=decoder, messages=messages: decoder.decode(messages)  # type: ignore[misc]
    return chosen


def _read_bare(values: Sequence[bytes]) -> pa.Table:
    """Arrow's reader of the fields that count, with its own block size, and no check of anything."""
    row = pa.struct(list(arrow_schema(_spec().columns)))
    images = [("before", pa.struct([row[0]])), ("after", row)]
    schema = pa.schema([*images, ("op", pa.string()), ("source", pa.struct([("lsn", pa.int64())]))])
    return pa_json.read_json(
        pa.BufferReader(b"\n".join(values)),
        read_options=pa_json.ReadOptions(use_threads=False),
        parse_options=pa_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
    )


def main() -> None:
    """Measures and prints the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_CHANGES
    changes = list(generate_changes(count, KEYS))
    values, keys = [value for _, _, value in changes], [key for _, key, _ in changes]
    chosen = candidates(values, keys)
    seconds: dict[str, list[float]] = {label: [] for label in chosen}
    for _ in range(ROUNDS):
        for label, run in chosen.items():
            begin = time.process_time()
            run()
            seconds[label].append(time.process_time() - begin)
    medians = {label: statistics.median(spent) for label, spent in seconds.items()}
    bare, ours = list(medians.values())[:2]
    print(f"{count} changes of {sum(map(len, values)) / count:.0f} B, median of {ROUNDS} rounds, CPU time")
    print(f"{'':44}{'us/change':>10}{'x bare':>8}{'speed, ours clean = 1':>24}")
    for label, median in medians.items():
        print(f"{label:44}{median / count * 1e6:10.2f}{median / bare:8.2f}{ours / median:24.2f}")


if __name__ == "__main__":
    main()
