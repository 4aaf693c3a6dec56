"""Reads the single values of a declaration as people write them: names, durations, sizes, times, cron lines.

Every reader takes what YAML or Python hands over, also the finished value.
They raise `ValueError(Mistake(...))`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from lakehouse_assets.model.mistakes import Mistake, describe

IDENTIFIER_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"
# Dagster joins the parts of an asset key with two underscores; within a part they would let two tables meet.
TABLE_PATTERN = r"^[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*\.[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*$"
TOPIC_PATTERN = r"^[a-zA-Z0-9._-]{1,249}$"
OWNER_PATTERN = (
    r"^(team:.+|[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7})$"  # what Dagster takes as an owner
)
DURATION_PATTERN = r"^[0-9]+(ms|s|m|h|d)$"
DAILY_WINDOW_PATTERN = r"^([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]$"
SIZE_PATTERN = r"^[0-9]+(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)$"
RESERVED_PREFIX = "_kafka_"
MAX_SQL_CHARACTERS = 4000  # "simple": what is longer belongs into a view
MAX_STATEMENT_CHARACTERS = 40_000

_DURATION_UNITS = {
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}
_SIZE_UNITS = {
    "TiB": 2**40, "GiB": 2**30, "MiB": 2**20, "KiB": 2**10,
    "TB": 10**12, "GB": 10**9, "MB": 10**6, "KB": 10**3, "kB": 10**3, "B": 1,
}  # fmt: skip
_MAX_DURATION = timedelta(days=36_500)
_CRON_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7))
_CRON_NAMES: Mapping[str, tuple[str, ...]] = {
    "month": ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
    "weekday": ("sun", "mon", "tue", "wed", "thu", "fri", "sat"),
}
_CRON_PART = re.compile(r"(?:\*|(\w+)(?:-(\w+))?)(?:/([0-9]+))?")


def read_table_name(value: object) -> str:
    """`namespace.name`, both of letters, digits and single underscores."""
    return _read_matching(
        value,
        TABLE_PATTERN,
        "namespace.name, both of letters, digits and single underscores, beginning with a letter",
    )


def read_column_name(value: object) -> str:
    """An identifier that is not kept for Kafka's metadata columns."""
    name = _read_matching(
        value, IDENTIFIER_PATTERN, "letters, digits and underscores, not beginning with a digit"
    )
    if name.lower().startswith(RESERVED_PREFIX):
        raise ValueError(
            Mistake(
                repr(name), f"names that do not begin with {RESERVED_PREFIX}, which are the platform's own"
            )
        )
    return name


def read_sql(value: object) -> str:
    """The text of an SQL expression; whether it is one, DuckDB knows."""
    return _read_text(value, "expression", MAX_SQL_CHARACTERS).strip()


def read_statement(value: object) -> str:
    """The text of an SQL query as it is written; whether it is one, DuckDB knows."""
    return _read_text(value, "query", MAX_STATEMENT_CHARACTERS)


def _read_text(value: object, what: str, longest: int) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > longest:
        raise ValueError(Mistake(describe(value), f"an SQL {what} of at most {longest:,} characters"))
    return value


def read_topic(value: object) -> str:
    """A name that Kafka takes for a topic."""
    topic = _read_matching(
        value, TOPIC_PATTERN, "a topic name: 1 to 249 letters, digits, dots, underscores, hyphens"
    )
    if topic in (".", ".."):
        raise ValueError(Mistake(repr(topic), "a topic name other than '.' and '..'"))
    return topic


def read_topic_pattern(value: object) -> str:
    """A regular expression that whole topic names match."""
    if isinstance(value, str) and value:
        try:
            re.compile(value)
        except re.error as error:
            allowed = 'a regular expression such as "click_.*"'
            raise ValueError(Mistake(f"{value!r} ({error})", allowed)) from error
        return value
    raise ValueError(Mistake(describe(value), 'a regular expression such as "click_.*"'))


def read_owner(value: object) -> str:
    """An owner in Dagster's form: an e-mail address or `team:name`."""
    return _read_matching(value, OWNER_PATTERN, "an e-mail address, or team:name")


def read_path(value: object) -> tuple[str, ...]:
    """Where a message holds a value: `a.b`, or a list of names, which may then contain dots."""
    parts = value.split(".") if isinstance(value, str) else value
    if isinstance(parts, (list, tuple)) and parts and all(isinstance(part, str) and part for part in parts):
        return tuple(parts)
    raise ValueError(Mistake(describe(value), 'a path such as a.b, or a list of names such as ["a.b", "c"]'))


def read_duration(value: object, minimum: timedelta) -> timedelta:
    """A duration such as 500ms, 10s, 5m, 1h, 2d, of at least `minimum`."""
    allowed = f"a duration of at least {format_duration(minimum)} in ms, s, m, h or d, as 10s"
    if isinstance(value, str) and re.fullmatch(DURATION_PATTERN, value):
        digits = value.rstrip("msdh")
        unit = _DURATION_UNITS[value[len(digits) :]]
        # One unit over the limit stands for all that is more: a timedelta could not hold it.
        value = min(int(digits[:20]), _MAX_DURATION // unit + 1) * unit
    elif not isinstance(value, timedelta):
        raise ValueError(Mistake(describe(value), allowed))
    if not minimum <= value <= _MAX_DURATION:
        raise ValueError(Mistake(format_duration(value), allowed))
    return value


def format_duration(value: timedelta) -> str:
    """The text that `read_duration` reads back, in the largest unit that fits."""
    unit = next((name for name, size in _DURATION_UNITS.items() if value and not value % size), "ms")
    return f"{value // _DURATION_UNITS[unit]}{unit}"


@dataclass(frozen=True, slots=True)
class DailyWindow:
    """A part of each day, in UTC, that may go past midnight."""

    begin: time
    end: time

    @classmethod
    def read(cls, value: object) -> "DailyWindow":
        """Read `22:00-05:00`."""
        if isinstance(value, cls):
            return value
        if not isinstance(value, str) or not re.fullmatch(DAILY_WINDOW_PATTERN, value):
            raise ValueError(Mistake(describe(value), "a part of the day in UTC, as 22:00-05:00"))
        begin, end = (time.fromisoformat(part) for part in value.split("-"))
        if begin == end:
            raise ValueError(Mistake(repr(value), "a part of the day in UTC, as 22:00-05:00; left out, it is the whole day"))
        return cls(begin, end)

    def contains(self, at: datetime) -> bool:
        """Whether a time lies in it, which begins with `begin` and ends before `end`."""
        now = at.astimezone(UTC).time()
        return self.begin <= now < self.end if self.begin < self.end else now >= self.begin or now < self.end

    def __str__(self) -> str:
        return f"{self.begin:%H:%M}-{self.end:%H:%M}"


def read_size(value: object, minimum_bytes: int) -> int:
    """A number of bytes, or text such as 64MiB or 1GB, of at least `minimum_bytes`; in bytes."""
    allowed = f"a size of at least {format_size(minimum_bytes)}, as 64MiB or 1GB"
    if isinstance(value, str) and re.fullmatch(SIZE_PATTERN, value) and len(value) <= 24:
        digits = value.rstrip("kKMGTiB")
        value = int(digits) * _SIZE_UNITS[value[len(digits) :]]
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(Mistake(describe(value), allowed))
    if not minimum_bytes <= value < 2**63:
        raise ValueError(Mistake(format_size(value), allowed))
    return value


def format_size(size_bytes: int) -> str:
    """The text that `read_size` reads back, in the largest binary unit that fits."""
    unit = next(
        (name for name, size in _SIZE_UNITS.items() if "i" in name and size_bytes and not size_bytes % size),
        "B",
    )
    return f"{size_bytes // _SIZE_UNITS[unit]}{unit}"


def read_moment(value: object, or_words: str = "") -> datetime:
    """A point in time, ISO 8601; UTC where it names no zone. `or_words` names what else the key allows."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        if isinstance(moment, datetime):
            return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass  # no time, or one that UTC puts outside the calendar: the same mistake as any other text
    raise ValueError(Mistake(describe(value), f'{or_words}a time in UTC such as "2026-01-01T00:00"'))


def format_moment(value: datetime) -> str:
    """The text that `read_moment` reads back."""
    return value.isoformat().replace("+00:00", "Z")


def read_cron(value: object) -> str:
    """A cron line of five fields."""
    fields = value.split() if isinstance(value, str) else []
    if len(fields) != len(_CRON_FIELDS):
        allowed = 'a cron line of five fields (minute, hour, day, month, weekday) such as "0 * * * *"'
        raise ValueError(Mistake(describe(value), allowed))
    for text, (name, first, last) in zip(fields, _CRON_FIELDS, strict=True):
        if not all(_fits_cron(part, name, first, last) for part in text.split(",")):
            allowed = f"*, */n, numbers from {first} to {last}, ranges and lists of them"
            raise ValueError(Mistake(f"the {name} {text!r} in {value!r}", allowed))
    return " ".join(fields)


def _fits_cron(part: str, name: str, first: int, last: int) -> bool:
    match = _CRON_PART.fullmatch(part)
    if match is None or match[3] == "0":
        return False
    ends = [_cron_number(text, name, first) for text in match.groups()[:2] if text]
    return all(end is not None and first <= end <= last for end in ends)


def _cron_number(text: str, name: str, first: int) -> int | None:
    names = _CRON_NAMES.get(name, ())
    if text.lower() in names:
        return names.index(text.lower()) + first
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 2 else None


def _read_matching(value: object, pattern: str, allowed: str) -> str:
    if isinstance(value, str) and re.fullmatch(pattern, value):
        return value
    raise ValueError(Mistake(describe(value), allowed))
