"""When so many messages can't become rows that it is the declaration that must be wrong, not they."""

from lakehouse_assets.model.errors import TooManyBadRecordsError
from lakehouse_assets.model.spec import TableSpec

_FEWEST_JUDGED = 1000  # of fewer messages, the share of bad ones says nothing


class BadShare:
    """Judges every commit of one run, before it lands: what it brings, and all since the start."""

    def __init__(self, spec: TableSpec) -> None:
        self._spec = spec
        self._seen = (0, 0)  # bad ones, and all that were to become rows

    def judge(self, bad: int, read: int, example: str | None) -> None:
        """A commit of `read` messages that were to become rows, `bad` of which can't; `example` says why of one of them.

        Raises:
            TooManyBadRecordsError: nothing of the commit may land.
        """
        self._seen = (self._seen[0] + bad, self._seen[1] + read)
        for bad_ones, all_of_them in ((bad, read), self._seen):
            is_too_many = all_of_them >= _FEWEST_JUDGED and bad_ones > all_of_them * self._spec.max_bad_share
            if is_too_many and example is not None:
                raise TooManyBadRecordsError(self._spec.table, bad_ones, all_of_them, self._spec.max_bad_share, example)
