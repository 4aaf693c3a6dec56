"""The real schema registry of the tests, and a gate before it that asks for a password, as a proxy does in production."""

import base64
import json
import ssl
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import requests

from lakehouse_assets.local.ports import HOST
from lakehouse_assets.local.registry import LocalRegistry

Reference = tuple[str, str, int]  # name, subject, version


class Registry:
    """Registers schemas."""

    def __init__(self, server: LocalRegistry) -> None:
        self.server = server

    @property
    def url(self) -> str:
        """What SCHEMA_REGISTRY_URL would be."""
        return self.server.url

    def register(self, subject: str, schema: Any, *, kind: str = "AVRO", references: Sequence[Reference] = ()) -> int:
        """Add a version; the id of the schema."""
        text = schema if isinstance(schema, str) else json.dumps(schema)
        named = [{"name": name, "subject": of, "version": version} for name, of, version in references]
        body = {"schema": text, "schemaType": kind, "references": named}
        answer = requests.post(f"{self.url}/subjects/{subject}/versions", json=body, timeout=30)
        assert answer.ok, answer.text
        return int(answer.json()["id"])


@contextmanager
def gate(url: str, user: str, password: str, key_store: Path | None = None) -> Iterator[str]:
    """The address of a gate that lets only this user through to `url`; with `key_store`, by TLS."""
    wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802 - the name is the library's
            if self.headers.get("Authorization") != wanted:
                self._answer(401, b'{"error_code":40101,"message":"who are you?"}')
                return
            try:
                with urllib.request.urlopen(url + self.path, timeout=30) as answer:
                    self._answer(answer.status, answer.read())
            except HTTPError as error:
                self._answer(error.code, error.read())

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((HOST, 0), Handler)
    if key_store is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(key_store)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"{'http' if key_store is None else 'https'}://{HOST}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
