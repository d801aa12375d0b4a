"""What surrounds a call: guards and promotions of JAX that users set, transformations, sizes."""

import jax
import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from mixmeta_jax.estimation.programs import PROGRAMS
from mixmeta_jax.memory import memory

DATA = pd.DataFrame({"y": [0.1, 0.9, -0.4, 0.3], "v": [0.1, 0.2, 0.1, 0.3]})
Y, S = DATA["y"].to_numpy(), DATA["v"].to_numpy()

GUARDS = {
    "dtype promotion": lambda: jax.numpy_dtype_promotion("strict"),
    "rank promotion": lambda: jax.numpy_rank_promotion("raise"),
    "transfers": lambda: jax.transfer_guard("disallow"),
}


@pytest.mark.parametrize("backend", ["numpy", "jax"])
@pytest.mark.parametrize("guard", GUARDS)
def test_guards_of_users_do_not_reach_our_programs(guard, backend):
    control = {"backend": backend}
    PROGRAMS.clear()  # so that they are traced under the guard
    with GUARDS[guard]():
        many = mx.fit_many(np.stack([Y, Y + 1]), S, progress=False, control=control)
        one = mx.mixmeta("y", S="v", data=DATA, control=control)
    np.testing.assert_allclose(many.loglik, one.loglik, rtol=1e-10)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("formula", lambda v: mx.mixmeta(v, S=S).loglik),
        ("S", lambda v: mx.mixmeta("y", S=v, data=DATA).loglik),
        ("offset", lambda v: mx.mixmeta("y", S="v", data=DATA, offset=v).loglik),
        ("data", lambda v: mx.mixmeta("y", S="v", data={"y": v, "v": S}).loglik),
        ("y", lambda v: mx.fit_many(v[None], S).loglik[0]),
        ("y", lambda v: mx.mixmeta_sim(v, S, 0.1).sum()),
        ("rows", lambda v: mx.xpnd(v).sum()),
        ("Psi_fix", lambda v: mx.Fixed(v).matrix.sum()),
    ],
)
@pytest.mark.parametrize("transformed", [jax.jit, jax.grad], ids=["jit", "grad"])
def test_traced_numbers_lead_to_the_functions_that_take_them(name, call, transformed):
    with pytest.raises(mx.InputError, match=rf"{name} is traced by JAX.*mx\.estimate"):
        transformed(call)(jax.numpy.asarray(Y))


SIZES = {
    "simulate": lambda n: mx.mixmeta("y", S="v", data=DATA).simulate(nsim=n),
    "mixmeta_sim": lambda n: mx.mixmeta_sim(Y, S, 0.1, nsim=n),
    "bootstrap": lambda n: mx.bootstrap(mx.mixmeta("y", S="v", data=DATA), n=n),
    "bootstrap of groups": lambda n: mx.bootstrap(
        mx.mixmeta("y", S="v", data=DATA), n=n, kind="groups"
    ),
    "profile": lambda n: mx.mixmeta("y", S="v", data=DATA).profile(n=n),
    "simulation_study": lambda n: mx.simulation_study(
        {"one": {"y": Y, "S": S, "Psi": 0.1, "coef": 0.0}}, nsim=n
    ),
}


@pytest.mark.parametrize("which", SIZES)
def test_results_beyond_the_memory_are_told_before_they_are_built(which):
    with pytest.raises(mx.InputError, match=r"asks for .* numbers, .* GB, and the machine has"):
        SIZES[which](memory())
