"""Every benchmark, one after the other, or those named: `make bench ARGS="ingest shapes"`."""

import sys

from benchmarks import (
    bench_changes,
    bench_commit,
    bench_compact,
    bench_debt,
    bench_decode,
    bench_decode_changes,
    bench_deletes,
    bench_drop,
    bench_expire,
    bench_freshness,
    bench_huge,
    bench_ingest,
    bench_manifests,
    bench_shapes,
    bench_status,
    bench_upkeep,
    bench_upserts,
)

BENCHES = {
    "decode": bench_decode,
    "decode-changes": bench_decode_changes,
    "commit": bench_commit,
    "compact": bench_compact,
    "drop": bench_drop,
    "manifests": bench_manifests,
    "status": bench_status,
    "debt": bench_debt,
    "ingest": bench_ingest,
    "shapes": bench_shapes,
    "upserts": bench_upserts,
    "changes": bench_changes,
    "deletes": bench_deletes,
    "expire": bench_expire,
    "freshness": bench_freshness,
    "upkeep": bench_upkeep,
    "huge": bench_huge,
}
_ONLY_WHEN_NAMED = {"huge"}  # it writes several GB


def main() -> None:
    """Run them with their own defaults; `python -m benchmarks.bench_ingest --help` shows what one of them can be told."""
    named = sys.argv[1:] or [name for name in BENCHES if name not in _ONLY_WHEN_NAMED]
    if unknown := [name for name in named if name not in BENCHES]:
        sys.exit(f"Cannot run {', '.join(unknown)}: the benchmarks are {', '.join(BENCHES)}.")
    del sys.argv[1:]  # each of them reads its own
    for name in named:
        print(f"\n== {name}: {(BENCHES[name].__doc__ or '').splitlines()[0]}", flush=True)
        BENCHES[name].main()


main()
