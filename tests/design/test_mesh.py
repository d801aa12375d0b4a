"""Fits over several devices and processes are those of one device, and the shares add up."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import mixmeta_jax as mx
from mixmeta_jax.control import Control
from mixmeta_jax.design import layout as layouts
from mixmeta_jax.design.shares import deal, split
from mixmeta_jax.design.tensors import arrange, masked
from mixmeta_jax.likelihood.engines import Packed, engine_for
from mixmeta_jax.likelihood.likelihood import prepared
from mixmeta_jax.likelihood.sweep import upward
from tests.design.mesh_fits import CASES, PACKED, figures
from tests.design.sharded_inputs import data
from tests.designs import KINDS, random_design

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "notebooks" / "many_devices.md"

AGREES = 1e-10
"""What is summed in another order differs by rounding, and Newton polishes the maximum."""


def run(commands, devices):
    """The last line that each of several Python processes prints, run side by side."""
    # A busy machine may hold one of the devices up for longer than the 40 s that XLA waits.
    flags = (
        f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices} "
        "--xla_cpu_collective_call_terminate_timeout_seconds=600"
    )
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    started = [
        subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in commands
    ]
    try:
        ended = [(*process.communicate(timeout=300), process.returncode) for process in started]
    finally:
        for process in started:
            process.kill()
    for _, complaint, code in ended:
        assert code == 0, complaint
    return [printed for printed, _, _ in ended]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def last_json(printed):
    return json.loads(printed.splitlines()[-1])


@pytest.fixture(scope="module")
def one_device():
    return figures(Control())


@pytest.fixture(scope="module")
def four_devices():
    (printed,) = run([["-m", "tests.design.mesh_fits"]], devices=4)
    told = last_json(printed)
    assert told["devices"] == told["here"] == 4
    return told["figures"]


@pytest.fixture(scope="module")
def two_processes():
    script = ["-m", "tests.design.mesh_fits", str(free_port()), "2"]
    told = [last_json(printed) for printed in run([[*script, "0"], [*script, "1"]], devices=1)]
    assert all((t["devices"], t["here"]) == (2, 1) for t in told)
    assert told[0] == told[1]
    return told[0]["figures"]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("spread", ["four_devices", "two_processes"])
def test_figures_are_those_of_one_device(case, spread, one_device, request):
    found, expected = request.getfixturevalue(spread)[case], one_device[case]
    assert found["status"] == expected["status"]
    for figure in ("coef", "vcov", "Psi", "loglik"):
        np.testing.assert_allclose(found[figure], expected[figure], rtol=AGREES, atol=AGREES)


@pytest.mark.parametrize("n_devices", [1, 2, 4])
def test_the_packed_sums_are_among_the_cases(n_devices):
    _, case = CASES[PACKED]
    for share in split(random_design(**case), n_devices):
        data, _ = prepared(arrange(share))
        assert isinstance(engine_for(data, 1), Packed)


def test_the_page_for_users_runs():
    blocks = dict(re.findall(r"<!-- block: (\w+) -->\n```python\n(.*?)```", PAGE.read_text(), re.S))
    script = blocks["processes"].replace("1234", str(free_port())) + blocks["fit"]
    first, second = run([["-c", script, "0"], ["-c", script, "1"]], devices=2)
    alone = mx.mixmeta("logor ~ ablat", S="logorvar", data=mx.load_dataset("bcg"))
    assert str(alone.summary()) in first
    assert "Fixed effects" not in second


def test_the_page_draws_where_it_fits():
    """The spread of 100 refits is about the standard error of the fit."""
    blocks = dict(re.findall(r"<!-- block: (\w+) -->\n```python\n(.*?)```", PAGE.read_text(), re.S))
    (printed,) = run([["-c", blocks["simulate"]]], devices=1)
    alone = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"))
    assert float(printed) == pytest.approx(np.sqrt(alone.vcov.iloc[0, 0]), rel=0.35)


def test_the_mesh_comes_from_the_sharding_of_the_inputs():
    """Of four devices in a mesh of two axes; arrays that every device holds whole have none."""
    (printed,) = run([["-m", "tests.design.sharded_inputs"]], devices=4)
    told = last_json(printed)
    assert (told["meshes"], told["whole"], told["several"]) == ([4], True, 4)
    assert told["axes"] == ["one", "two"]
    y, v = data()
    alone = mx.mixmeta(y, S=v)
    here = mx.mixmeta_sim(y, v, [[0.3]], nsim=3, seed=4, generator="jax").ravel()
    for drawn in told["drawn"]:  # by the first device and the last
        np.testing.assert_allclose(drawn, here, rtol=0, atol=AGREES)
    for way in ("mixmeta", "estimate"):
        expected = [alone.loglik, *alone.coef]
        np.testing.assert_allclose(told[way], expected, rtol=AGREES, atol=AGREES)


# The division itself


@pytest.fixture
def several_buckets(monkeypatch):
    monkeypatch.setattr(layouts, "FREE_WORK", 0.0)


@pytest.mark.usefixtures("several_buckets")
@pytest.mark.parametrize("kind", ["three levels", "blocks of S, two outcomes, two levels"])
def test_shares_add_up(kind):
    design = random_design(seed=6, **KINDS[kind])
    shares = split(design, 3)
    Psi = tuple(0.3 * np.eye(d)[:, :, None] for d in design.dims)
    sweeps = [upward(Psi, masked(arrange(part))) for part in (design, *shares)]
    whole, *parts = [(up.A, up.b, up.c, up.logdet) for up in sweeps]
    for total, *terms in zip(whole, *parts, strict=True):
        np.testing.assert_allclose(sum(terms), total, rtol=1e-12)


@pytest.mark.usefixtures("several_buckets")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_shares", [1, 3, 30])
def test_every_unit_is_in_one_share(kind, n_shares):
    design = random_design(**KINDS[kind])
    shares = split(design, n_shares)
    rows = np.concatenate([b.rows.ravel() for share in shares for b in share.layout.buckets])
    np.testing.assert_array_equal(np.sort(rows[rows < design.n]), np.arange(design.n))
    shapes = {str(jax.tree.map(np.shape, arrange(share))) for share in shares}
    assert len(shapes) == 1
    for share in shares if design.layout.absorbed else []:
        own = [b.rows[b.rows < design.n] for b in share.layout.buckets]
        outer = design.groups[np.concatenate(own), 0]
        elsewhere = np.setdiff1d(np.arange(design.n), np.concatenate(own))
        assert not set(outer) & set(design.groups[elsewhere, 0])


def test_work_is_dealt_evenly():
    # One giant, and as many small ones as fill the other shares.
    work = np.r_[np.ones(300), 100.0, np.zeros(3)]
    np.testing.assert_array_equal(np.bincount(deal(work, 4), work), 100)
    # Equal work is dealt in runs, the rest one by one.
    np.testing.assert_array_equal(np.bincount(deal(np.ones(11), 4)), [3, 3, 3, 2])
    # Never more than one root above the mean.
    work = np.random.default_rng(0).integers(1, 50, 200)
    load = np.bincount(deal(work, 7), work)
    assert load.max() <= work.sum() / 7 + work.min()
    assert sorted(deal(np.ones(2), 4)) == [0, 1]


# What is refused


def test_what_is_no_mesh_is_refused():
    with pytest.raises(
        mx.InputError, match=r"mesh must be None or a jax\.sharding\.Mesh.* not int"
    ):
        mx.Control(mesh=4)


def test_moment_estimators_refuse_a_mesh():
    mesh = jax.make_mesh((1,), ("groups",), devices=jax.devices()[:1])
    with pytest.raises(mx.InputError, match=r"method='mm' has none: leave it out"):
        mx.mixmeta(
            "logor", S="logorvar", data=mx.load_dataset("bcg"), method="mm", control={"mesh": mesh}
        )
