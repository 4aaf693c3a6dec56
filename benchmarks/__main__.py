"""Every benchmark, one after the other: `python -m benchmarks`, or `make bench`."""

from benchmarks import bench_commit, bench_decode, bench_ingest, bench_status

for bench in (bench_decode, bench_commit, bench_status, bench_ingest):
    print(f"\n== {(bench.__doc__ or '').splitlines()[0]}", flush=True)
    bench.main()
