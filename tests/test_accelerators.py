"""Accelerators without one at hand: what every program needs of CUDA and TPU, and what it moves.

The programs are lowered for both platforms, which needs neither. A custom call is a routine that a
platform must bring; the ones that JAX's own packages bring there are named, and no other may occur.
"""

import functools
import re
from collections import OrderedDict
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mixmeta_jax as mx
from mixmeta_jax.design.tensors import arrange, filled_up
from mixmeta_jax.estimation import executors
from mixmeta_jax.estimation.ascent import problem_of
from mixmeta_jax.estimation.executors import _ascend_each
from mixmeta_jax.estimation.programs import PROGRAMS, Programs
from mixmeta_jax.many.drawn_fits import fit_drawn
from tests.designs import KINDS, random_design

PLATFORMS = ("cuda", "tpu")

BROUGHT = {
    "cuda": {
        "cusolver_syevd_ffi": "eigenvalues of the verdict, a few parameters once a climb; JAX's "
        "package for CUDA brings it",
    },
    "tpu": {"Eigh": "the same, in XLA's own compiler for TPU"},
}
"""Custom calls that have an implementation on the platform, and where it is."""

HOST = ("callback", "infeed", "outfeed", "stablehlo.send", "stablehlo.recv")
"""What a program that talks to the host contains."""


def needed(traced, platform):
    """The custom calls of a traced program for a platform; it must not talk to the host."""
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert not [word for word in HOST if word in text]
    return set(re.findall(r"custom_call @([\w.$]+)", text))


def check(function, *args, **static):
    with jax.enable_x64(True):
        traced = jax.jit(functools.partial(function, **static)).trace(*args)
        for platform in PLATFORMS:
            assert needed(traced, platform) <= set(BROUGHT[platform])


ONE = random_design(**KINDS["univariate"])
NESTED = random_design(**KINDS["bivariate, two levels"])
SPANNING = random_design(**KINDS["blocks of S"])


def theta(design):
    return np.full(sum(design.n_parameters), 0.5)


def beta(design):
    return np.zeros(design.p * design.k)


def estimated(design):
    return jax.eval_shape(mx.estimate, design)


CORE = {
    "log_likelihood": lambda: (mx.log_likelihood, theta(NESTED), NESTED),
    "its gradient": lambda: (jax.grad(mx.log_likelihood, (0, 1), allow_int=True), theta(ONE), ONE),
    "its hessian": lambda: (jax.hessian(mx.log_likelihood), theta(ONE), ONE),
    "estimate": lambda: (mx.estimate, NESTED),
    "its gradient in a design": lambda: (
        jax.grad(lambda design: mx.estimate(design).beta[0], allow_int=True),
        ONE,
    ),
    "blups": lambda: (lambda d: mx.blups(mx.estimate(d, "fixed"), d), ONE),
    "predict": lambda: (lambda d: mx.predict(mx.estimate(d, "fixed"), d.X), ONE),
    "cochran_q": lambda: (mx.cochran_q, SPANNING),
    "log_density": lambda: (jax.grad(mx.log_density), beta(ONE), np.zeros(1), ONE),
    "covariances": lambda: (mx.covariances, np.zeros(3), random_design(k=2)),
    "simulate": lambda: (mx.simulate, jax.random.key(0), theta(SPANNING), beta(SPANNING), SPANNING),
    "simulations": lambda: (
        jax.vmap(mx.simulate, (0, None, None, None)),
        jax.random.split(jax.random.key(0), 3),
        theta(NESTED),
        beta(NESTED),
        NESTED,
    ),
}


@pytest.mark.parametrize("name", CORE)
def test_the_functional_core(name):
    with jax.enable_x64(True):
        function, *args = CORE[name]()
    check(function, *args)


class Recorded(Exception):
    """A program would have been compiled now."""


JAX = {"backend": "jax"}


@functools.cache
def fit():
    return mx.mixmeta("logor ~ ablat", S="logorvar", data=mx.load_dataset("bcg"))


def outcomes(n):
    return np.cos(np.arange(n)), np.full(n, 0.3)


def drawn_at_once(**options):
    return fit_drawn(*outcomes(10), [[0.4]], 8, 0, control=JAX, **options)


PROGRAMS_OF = {
    "mixmeta": lambda: mx.mixmeta(*outcomes(10), control=JAX),
    "mixmeta, two levels": lambda: mx.mixmeta(
        "effect", "var", mx.load_dataset("school"), random="~ 1 | district/study", control=JAX
    ),
    "mixmeta, large": lambda: mx.mixmeta(*outcomes(2001), bscov="id", control=JAX),
    "mixmeta, fixed": lambda: mx.mixmeta(*outcomes(10), method="fixed", control=JAX),
    "fit_many": lambda: mx.fit_many(outcomes(10)[0][None], outcomes(10)[1], control=JAX),
    "fit_many, fixed": lambda: mx.fit_many(
        outcomes(10)[0][None], outcomes(10)[1], method="fixed", control=JAX
    ),
    "drawn and fitted": drawn_at_once,
    "drawn and fitted, fixed": lambda: drawn_at_once(method="fixed"),
    "mixmeta_sim": lambda: mx.mixmeta_sim(*outcomes(10), [[0.4]], generator="jax"),
    "blup": lambda: fit().blup(),
    "errors of blups": lambda: fit().blup(se=True),
    "qtest": lambda: fit().qtest(),
    "i2": lambda: fit().i2(),
    "qprofile": lambda: fit().varcomp(ci="qprofile"),
    "kenward-roger": lambda: fit().summary(test="kenward-roger"),
}


@pytest.mark.parametrize("name", PROGRAMS_OF)
def test_the_programs_of_the_public_functions(name, monkeypatch):
    """As the library makes them, the first that a call needs."""
    found = []

    def recorded(self, function, args, static):
        found.append((function, args, static))
        raise Recorded

    fit()
    monkeypatch.setattr(Programs, "_made", recorded)
    monkeypatch.setattr(PROGRAMS, "_kept", OrderedDict())  # other tests may have made them
    # Whatever its size, a pass over the data is compiled.
    monkeypatch.setattr(executors, "seconds_of_evaluation", lambda *_: (1e9, 1e9))
    with pytest.raises(Recorded):
        PROGRAMS_OF[name]()
    with executors._precision():
        check(found[0][0], *found[0][1], **found[0][2])


def test_a_fit_moves_nothing_once_its_data_are_on_the_device():
    """Its loop, from the starts to the judged ends, under a guard against every transfer."""
    design = replace(ONE, y=ONE.y)
    starts = np.array([[0.1, 1.0]])
    with executors._precision():
        steering = np.ones((1, 1)), (np.ones((1, 1)),), None, 100, 1e-6
        given = starts, filled_up(arrange(design)), problem_of(2, *steering)
        static = {"restricted": True}
        there = jax.device_put(given)
        program = Programs()._made(_ascend_each, there, static)
        with jax.transfer_guard("disallow"):
            ended = jax.block_until_ready(program(*there))
            with pytest.raises(Exception, match=r"isallowed host-to-device transfer"):
                program(*given)
    status = ended.fetched().verdict.status
    assert (status <= mx.Status.BOUNDARY).all()


def test_the_guard_of_this_file_finds_what_is_not_there():
    """A custom call without an implementation on a platform, and a callback, are seen."""
    with jax.enable_x64(True):
        traced = jax.jit(jnp.linalg.svd).trace(jnp.eye(3))
    assert needed(traced, "cuda") - set(BROUGHT["cuda"])
    talking = jax.jit(lambda x: jax.debug.print("{}", x)).trace(1.0)
    with pytest.raises((AssertionError, ValueError)):
        needed(talking, "cuda")
