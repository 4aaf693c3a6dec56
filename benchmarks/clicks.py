"""Click messages of about 295 bytes of JSON with 12 fields, and a topic filled with them."""

import io
import json
import random
from collections.abc import Callable, Iterable, Iterator

import fastavro
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

COUNTRIES = ["DE", "FR", "US", "GB", "PL", "ES", "IT", "NL", "SE", "BR", "IN", "JP"]
DEVICES = ["mobile", "desktop", "tablet", "tv"]
DISTINCT_MESSAGES = 200_000  # produced over and over; decoding and compression can't tell
SCHEMA = [
    {"name": "event_id", "type": "string", "required": True},
    {"name": "ts", "type": "long"},
    {"name": "user_id", "type": "long"},
    {"name": "session_id", "type": "string"},
    {"name": "url", "type": "string"},
    {"name": "referrer", "type": "string"},
    {"name": "ip", "type": "string"},
    {"name": "country", "type": "string"},
    {"name": "device", "type": "string"},
    {"name": "duration_ms", "type": "int"},
    {"name": "price", "type": "double"},
    {"name": "is_bot", "type": "boolean"},
]


def generate_clicks(count: int, seed: int = 7) -> Iterator[bytes]:
    """`count` different messages; the same ones for the same seed."""
    rng = random.Random(seed)  # noqa: S311 - test data
    for i in range(count):
        click = {
            "event_id": f"{rng.getrandbits(128):032x}",
            "ts": 1_790_000_000_000 + i * 3,
            "user_id": rng.randrange(1, 2_000_000),
            "session_id": f"s-{rng.getrandbits(48):012x}",
            "url": f"/shop/{COUNTRIES[i % 12].lower()}/product/{rng.randrange(50_000)}?ref={rng.randrange(1000)}",
            "referrer": None if i % 3 == 0 else f"https://www.example.com/search?q={rng.randrange(100_000)}",
            "ip": ".".join(str(rng.randrange(1, 255)) for _ in range(4)),
            "country": rng.choice(COUNTRIES),
            "device": rng.choice(DEVICES),
            "duration_ms": rng.randrange(60_000),
            "price": round(rng.random() * 500, 2),
            "is_bot": rng.random() < 0.02,
        }
        yield json.dumps(click, separators=(",", ":")).encode()


AVRO_SCHEMA = {
    "type": "record",
    "name": "Click",
    "fields": [
        {"name": "event_id", "type": "string"},
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "user_id", "type": "long"},
        {"name": "session_id", "type": "string"},
        {"name": "url", "type": "string"},
        {"name": "referrer", "type": ["null", "string"], "default": None},
        {"name": "ip", "type": "string"},
        {"name": "country", "type": "string"},
        {"name": "device", "type": "string"},
        {"name": "duration_ms", "type": "int"},
        {"name": "price", "type": "double"},
        {"name": "is_bot", "type": "boolean"},
    ],
}


def encode_avro(clicks: Iterable[bytes], schema_id: int = 1) -> Iterator[bytes]:
    """The same clicks as Avro messages in Confluent's wire format."""
    schema = fastavro.parse_schema(AVRO_SCHEMA)
    for click in clicks:
        stream = io.BytesIO()
        stream.write(b"\0" + schema_id.to_bytes(4, "big"))
        fastavro.schemaless_writer(stream, schema, json.loads(click))
        yield stream.getvalue()


def fill_topic(
    servers: str, topic: str, count: int, partitions: int, generate: Callable[[int], Iterator[bytes]] = generate_clicks
) -> float:
    """Create a topic and produce `count` messages, evenly over its topic partitions; their mean size in bytes."""
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(30)
    messages = list(generate(min(count, DISTINCT_MESSAGES)))
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 50, "batch.size": 1_000_000})
    for i in range(count):
        while True:
            try:
                producer.produce(topic, messages[i % len(messages)], partition=(i // 1000) % partitions)
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()
    return sum(map(len, messages)) / len(messages)
