"""A cold process: import, fit bcg, print the summary; the first time ever, and with a warm cache.

python benchmarks/cold_start.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

COMMAND = [sys.executable, "-m", "mixmeta_jax", "fit", "logor ~ ablat", "--S", "logorvar"]


def seconds(environment: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(
        [*COMMAND, "--data", "bcg"], env=environment, check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - start


def main() -> None:
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": cache}
        print(f"first time ever: {seconds(environment):.2f} s")
        print(f"with the cache:  {min(seconds(environment) for _ in range(3)):.2f} s")


if __name__ == "__main__":
    main()
