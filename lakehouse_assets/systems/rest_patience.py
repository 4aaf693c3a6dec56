"""Keeps a run from waiting for ever for a REST catalog that took a request and does not answer.

PyIceberg 0.12 gives its requests no time limit. A commit that was given up on may still land, which is what the commit's third
ending is for. Remove this module when PyIceberg has a setting for it.
"""

from typing import Any

from pyiceberg.catalog import rest
from requests import Response, Session

CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 60.0


class _PatientSession(Session):
    """Waits for so long and no longer, where a request says nothing else."""

    def request(self, *args: Any, **kwargs: Any) -> Response:
        kwargs.setdefault("timeout", (CONNECT_SECONDS, ANSWER_SECONDS))
        return super().request(*args, **kwargs)


def install() -> None:
    """Make PyIceberg's REST catalogs use it in this process. Safe to repeat."""
    rest.Session = _PatientSession  # type: ignore[attr-defined]
