"""`make soak`, or `python -m lakehouse_assets_tests.soak`: ten minutes, or SECONDS, of faults from a printed SEED."""

import os
import random
import tempfile
from pathlib import Path

from lakehouse_assets_tests import ports
from lakehouse_assets_tests.soak.run import run_soak


def main() -> None:
    """Says how to replay it where something is wrong."""
    seed = int(os.environ.get("SEED") or random.randrange(2**32))
    seconds = float(os.environ.get("SECONDS") or 600)
    print(f"SEED={seed} SECONDS={seconds:.0f}", flush=True)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        try:
            print(run_soak(Path(folder), ports.port_of(ports.SOAK), seed, seconds, lambda line: print(line, flush=True)))
        except BaseException:
            print(f"To see it again: make soak SEED={seed} SECONDS={seconds:.0f}", flush=True)
            raise


if __name__ == "__main__":
    main()
