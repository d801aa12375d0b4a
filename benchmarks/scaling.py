"""Time and peak memory against the number of groups, 10³ to 10⁶: the exponent of growth, a plot.

Each point is a process of its own (see ``single_fits``): one level with four outcomes, and two
nested levels with ten rows to a group.

    python benchmarks/scaling.py [--plot benchmarks/scaling.svg]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

import numpy as np
from single_fits import measure_case, multivariate, two_levels

GROUPS = (1_000, 10_000, 100_000, 1_000_000)
MODELS = {
    "one level, k = 4": lambda m: multivariate(m, 4),
    "two levels, 10 rows to a group": lambda m: two_levels(m, m // 10),
}


def point(model: str, m: int) -> dict:
    command = [sys.executable, __file__, "--one", model, str(m)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def exponent(m: list[int], values: list[float]) -> float:
    """Slope of the logarithms between the first and the last point."""
    return float(np.log(values[-1] / values[0]) / np.log(m[-1] / m[0]))


def plot(results: dict[str, list[dict]], file: str) -> None:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for model, rows in results.items():
        axes[0].loglog(GROUPS, [row["run"] for row in rows], "o-", label=model)
        axes[1].semilogx(GROUPS, [row["memory"] for row in rows], "o-", label=model)
    axes[0].set(xlabel="rows", ylabel="seconds, compiled, end to end")
    axes[1].set(xlabel="rows", ylabel="peak memory of the process, GB", ylim=(0, None))
    axes[0].legend(frameon=False)
    figure.savefig(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plot", help="file to draw into")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        model, m = options.one
        # The first few calls of a process are slower: memory is still new to it.
        repeats = max(3, min(30, 300_000 // int(m)))
        print(json.dumps(measure_case(model, MODELS[model](int(m)), "reml", repeats)))
        return
    results = {}
    print("| model | rows | compiled | evaluations | peak memory |")
    print("| --- | --- | --- | --- | --- |")
    for model in MODELS:
        results[model] = [point(model, m) for m in GROUPS]
        for m, row in zip(GROUPS, results[model], strict=True):
            print(
                f"| {model} | {m:,} | {row['run'] * 1e3:,.1f} ms | {row['evaluations']} | "
                f"{row['memory']:.2f} GB |",
                flush=True,
            )
    for model, rows in results.items():
        times = [row["run"] for row in rows]
        print(
            f"{model}: time grows with rows to the power {exponent(list(GROUPS), times):.2f}, "
            f"from 10,000 on {exponent(list(GROUPS[1:]), times[1:]):.2f}"
        )
    if options.plot:
        plot(results, options.plot)


if __name__ == "__main__":
    main()
