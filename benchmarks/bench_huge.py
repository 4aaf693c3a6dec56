"""The same stream of changes into a table of 50 million rows: time and, above all, memory."""

from benchmarks import bench_changes

ROWS = 50_000_000
CHANGES = 1_000_000


def main() -> None:
    """Print the line of this table beside that of an empty one."""
    bench_changes.compare(CHANGES, [0, ROWS])


if __name__ == "__main__":
    main()
