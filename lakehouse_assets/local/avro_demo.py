"""The schema registry and the demo's Avro topic, beside everything else: `python -m lakehouse_assets.local.avro_demo`.

A process of its own, because fetching the registry takes its time at the first start and may fail; nothing waits for it. Its
output is for the person at `make dev`. It ends when the registry does, and is started again.
"""

import signal
import sys
import threading
from functools import partial

from lakehouse_assets.environment import Environment
from lakehouse_assets.local.demo import Pace, ensure_topic, produce_what_lacks
from lakehouse_assets.local.errors import LEFT_OUT
from lakehouse_assets.local.flights import find_data
from lakehouse_assets.local.processes import ProcessGroup
from lakehouse_assets.local.registry import LocalRegistry
from lakehouse_assets.local.weather import WEATHER_SCHEMA, read_weather
from lakehouse_assets.model.errors import LakehouseError
from lakehouse_assets.systems.registry import SchemaRegistry

TOPIC = "weather"
_PACE = Pace(burst=500, per_second=2)
_LOOK_SECONDS = 1.0


def main() -> int:
    """Run until SIGTERM or Ctrl-C; LEFT_OUT where there is no registry, 1 where something died."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    environment = Environment.read()
    group = ProcessGroup(environment.home)
    registry = _build_registry(environment, group)
    try:
        return _run(environment, registry, stop)
    finally:
        if registry is not None:
            registry.stop()
        group.stop()


def _build_registry(environment: Environment, group: ProcessGroup) -> LocalRegistry | None:
    if not environment.uses_local_registry:
        return None
    log = environment.home / "logs" / "registry.log"
    return LocalRegistry(environment.home / "registry", processes=group, log=log, report=_say)


def _run(environment: Environment, registry: LocalRegistry | None, stop: threading.Event) -> int:
    try:
        if registry is not None:
            registry.start()
            environment = Environment.read()  # its address stands under home now
        schema_id = SchemaRegistry(environment.registry).register(f"{TOPIC}-value", WEATHER_SCHEMA)
    except LakehouseError as error:
        _say(f"{error} The topic {TOPIC!r} stays empty; everything else goes on.")
        return LEFT_OUT
    url, pace = environment.registry["url"], f"{_PACE.per_second} messages a second"
    _say(f"the schema registry answers at {url}; topic {TOPIC!r}, Avro, {pace}")
    threading.Thread(target=_watch, args=(registry, stop), daemon=True).start()
    servers = environment.require_kafka()["bootstrap.servers"]
    try:
        ensure_topic(servers, TOPIC)
        produce_what_lacks(servers, TOPIC, _PACE, partial(read_weather, find_data("weather.csv"), schema_id), stop)
    except LakehouseError as error:
        _say(str(error))
        return 1
    return 1 if registry is not None and registry.has_died else 0


def _watch(registry: LocalRegistry | None, stop: threading.Event) -> None:
    while registry is not None and not stop.wait(_LOOK_SECONDS):
        if registry.has_died:
            _say("the schema registry has died")
            stop.set()


def _say(sentence: str) -> None:
    print(sentence, flush=True)


if __name__ == "__main__":
    sys.exit(main())
