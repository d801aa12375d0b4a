"""The first stage of a large two-stage analysis: many cities, years of days, sixty columns.

Run as ``python -m benchmarks.first_stage [cities] [days] [--shifted]``. Seeded series of
temperature and deaths; each city gets a quasi-Poisson regression on a cross-basis of temperature
and 21 lags (5 x 4 columns, knots at its own percentiles), a spline of time and the day of the week:
60 columns. With ``--shifted`` every city has a calendar of its own, whose columns are made anew.
Prints the time of all, that of the processor, and the peak of the memory.
"""

import resource
import sys
import time

import numpy as np
import pandas as pd

import mixmeta_jax as mx

SPLINE = 33
"""Columns of the spline of time: with 20 of the cross-basis, 6 of weekdays and 1 they are 60."""


def series(cities, days, shifted=False, seed=0):
    """A frame of all cities, a row per day."""
    rng = np.random.default_rng(seed)
    day = np.arange(days)
    season = np.cos(2 * np.pi * day / 365.25)
    frames = []
    for city in range(cities):
        temperature = 15 - 8 * season + rng.normal(0, 3, days) + rng.normal(0, 3)
        risk = np.log(25) + 0.1 * season + 0.002 * (temperature - 18) ** 2
        deaths = rng.poisson(np.exp(risk))
        own = {"city": city, "day": day + city * shifted, "dow": day % 7}
        frames.append(pd.DataFrame(own | {"temperature": temperature, "deaths": deaths}))
    return pd.concat(frames, ignore_index=True)


def fitted(data, **options):
    return mx.first_stage(
        data,
        by="city",
        outcome="deaths",
        exposure="temperature",
        basis="bs(degree=2, percentiles=[10, 75, 90])",
        lag=21,
        lag_basis="ns(log_knots=2)",
        controls=f"~ ns(day, df={SPLINE}) + C(dow)",
        **options,
    )


def main(cities=500, days=5000, shifted=False):
    data = series(cities, days, shifted)
    fitted(data.iloc[: 2 * days])  # imports
    before, work = time.perf_counter(), time.process_time()
    first = fitted(data)
    seconds, processor = time.perf_counter() - before, time.process_time() - work
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    columns = int(first.locations["n_columns"].max())
    print(f"{len(first)} of {cities} cities x {days:,} days x {columns} columns")
    print(f"{seconds:.1f} s, {processor:.1f} s of the processor, {peak:.2f} GB at most")


if __name__ == "__main__":
    numbers = [int(each) for each in sys.argv[1:] if each.isdigit()]
    main(*numbers, shifted="--shifted" in sys.argv)
