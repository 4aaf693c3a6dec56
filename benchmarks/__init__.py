"""Benchmarks: ratios measured in one run against a stated rival. Run with `make bench`."""
