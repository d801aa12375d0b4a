"""The cost of one reverse pass through a fit, as a multiple of the fit.

The value alone and value with gradient in y and S, both compiled beforehand; medians of several
runs in turn. The pass costs (value and gradient − value) / value.
"""

import time

import jax
import numpy as np

import mixmeta_jax as mx


def simulated(n, k, seed=1):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, k, k))
    S = 0.1 * (root @ root.transpose(0, 2, 1) + np.eye(k))
    effects = rng.multivariate_normal(np.zeros(k), 0.3 * (np.eye(k) + 0.5), n)
    errors = (np.linalg.cholesky(S) @ rng.normal(size=(n, k, 1)))[:, :, 0]
    return effects + errors, S


def cases():
    bcg, berkey = mx.load_dataset("bcg"), mx.load_dataset("berkey98")
    school = mx.load_dataset("school")
    yield "bcg", bcg.logor.to_numpy(), bcg.logorvar.to_numpy(), {}
    S = mx.xpnd(berkey[["var_PD", "cov_PD_AL", "var_AL"]])
    yield "berkey98", berkey[["PD", "AL"]].to_numpy(), S, {}
    levels = {"random": "~ 1 | district/study", "data": school}
    yield "school, two levels", school.effect.to_numpy(), school["var"].to_numpy(), levels
    yield "31 of 4 outcomes", *simulated(31, 4), {}
    yield "1,000 of 4 outcomes", *simulated(1000, 4), {}
    yield "10,000 of 4 outcomes", *simulated(10_000, 4), {}


def measure(name, y, S, arguments):
    def value(y, S):
        fitted = mx.estimate(mx.make_design(y, S=S, **arguments))
        return fitted.beta.sum() + sum(Psi.sum() for Psi in fitted.Psi)

    began = time.perf_counter()
    fit = jax.jit(value).lower(y, S).compile()
    compiled = time.perf_counter()
    both = jax.jit(jax.value_and_grad(value, (0, 1))).lower(y, S).compile()
    done = time.perf_counter()
    spent = {fit: [], both: []}
    for _ in range(15):
        for call, times in spent.items():
            start = time.perf_counter()
            jax.block_until_ready(call(y, S))
            times.append(time.perf_counter() - start)
    alone, together = (float(np.median(times)) for times in spent.values())
    print(
        f"| {name} | {alone * 1e3:.2f} | {together * 1e3:.2f} | {together / alone - 1:.2f} "
        f"| {compiled - began:.1f} | {done - compiled:.1f} |",
        flush=True,
    )


if __name__ == "__main__":
    print("| data | fit, ms | fit and gradient, ms | reverse pass / fit | compile s | compile s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    with jax.enable_x64(True):
        for case in cases():
            measure(*case)
