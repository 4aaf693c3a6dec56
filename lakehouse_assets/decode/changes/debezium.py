"""Debezium's JSON as changes of rows."""

from collections.abc import Sequence

from lakehouse_assets.decode.changes.debezium_exact import ExactDebezium
from lakehouse_assets.decode.changes.decoded import ChangeMessages, DecodedChanges
from lakehouse_assets.decode.changes.encodings import EncodedColumn


class DebeziumDecoder:
    """Decodes the messages of one table. Remembers what it met, so threads can't share it."""

    def __init__(self, columns: Sequence[EncodedColumn], key: Sequence[str]) -> None:
        """`key`: the names of the columns of the key, in its order."""
        self._exact = ExactDebezium(columns, key)

    def decode(self, messages: ChangeMessages) -> DecodedChanges:
        """As every decoder of changes."""
        return self._exact.decode(messages, range(len(messages)))
