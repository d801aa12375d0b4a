"""NumPy and compiled programs give one estimate, whoever asks; and who executes what."""

import subprocess
import sys
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from mixmeta_jax.control import Control
from mixmeta_jax.covariance.catalogue import STRUCTURES
from mixmeta_jax.design import sharding
from mixmeta_jax.estimation import executors, programs
from mixmeta_jax.estimation.executors import (
    AtOnce,
    Compiled,
    Spent,
    executor,
    seconds_of_evaluation,
    shape_of,
)
from mixmeta_jax.estimation.programs import PROGRAMS, Programs
from mixmeta_jax.estimation.start import starting_parameters, starting_variances
from mixmeta_jax.likelihood.engines import Packed, engine_for
from mixmeta_jax.likelihood.likelihood import prepared
from tests.tolerances import BACKENDS, MAXIMUM, SAME_COEF


@pytest.fixture(autouse=True, scope="module")
def cheap_programs():
    """XLA's optimisations take half of the time, and change no figure here beyond its rounding."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    PROGRAMS.clear()


N = 24
TABLE = pd.DataFrame(
    {
        "g": np.repeat(np.arange(4), 6),
        "h": np.repeat(np.arange(8), 3),
        "u": np.arange(N),
        "x": np.sin(np.arange(N)),
        "long": np.repeat(np.arange(2), 12),
    }
)
PAIR = np.array([[1.0, 0.4], [0.4, 1.5]])
TRIPLE = 0.6 * np.eye(3) + 0.4

TWO = {"k": 2, "random": "~ 1 | h/u", "missing": 0.1}
CASES = {
    # Every structure, at one level or the other.
    "unstr, diag": TWO | {"bscov": ["unstr", "diag"]},
    "id, cs": TWO | {"bscov": ["id", "cs"], "method": "ml"},
    "ar1, prop": TWO | {"bscov": {"h": "ar1", "u": "prop"}, "Psi_fix": {"u": PAIR}},
    "cor, car1": TWO
    | {"bscov": {"h": "cor", "u": mx.ContinuousAR1(times=(0.0, 1.0))}, "Psi_fix": {"h": PAIR}},
    "hcar1, fixed": TWO
    | {
        "bscov": {"h": mx.HeterogeneousContinuousAR1(times=(0.0, 1.5)), "u": "fixed"},
        "Psi_fix": {"u": 0.3 * PAIR},
    },
    "toep, htoep": TWO | {"bscov": {"h": "toep", "u": "htoep"}},
    "fa, blocks": TWO
    | {
        "k": 3,
        "bscov": {
            "h": mx.FactorAnalytic(1),
            "u": mx.BlockDiagonal(["cs", "id"], sizes=(2, 1)),
        },
    },
    "rr, kron": TWO
    | {
        "k": 4,
        "bscov": {"h": mx.ReducedRank(1), "u": mx.Kronecker("unstr", "ar1", sizes=(2, 2))},
    },
    "fixed in blocks": {
        "k": 2,
        "random": "~ 1 | g/h",
        "bscov": {"g": "unstr", "h": "fixed"},
        "Psi_fix": {"h": 0.3 * PAIR},
        "missing": 0.1,
    },
    # Fits that are restarted wherever they end.
    "hcs of three": {"k": 3, "n": 12, "bscov": "hcs"},
    "har1 of three, missing": {"k": 3, "n": 12, "bscov": "har1", "missing": 0.1, "method": "ml"},
    "cor of three": {"k": 3, "n": 12, "bscov": "cor", "Psi_fix": TRIPLE},
    # And the other kinds of a design.
    "three levels": {"k": 1, "random": "~ 1 | g/h/u", "formula": "x"},
    "random slopes, absorbed": {"k": 1, "random": "~ x | long", "formula": "x", "bscov": "diag"},
    "blocks of S": {"k": 1, "random": "~ 1 | h", "blocks": True, "method": "ml"},
    "packed": {"k": 2, "n": 520, "missing": 0.1},
    "fixed effects": {"k": 2, "method": "fixed", "missing": 0.1},
}


def model(name, B=None):
    """Arguments of `mixmeta`; or of `fit_many`, for B data sets that share what is missing."""
    case = dict(CASES[name])
    k, n = case.pop("k"), case.pop("n", N)
    table = TABLE if n == N else pd.DataFrame({"u": np.arange(n), "x": np.sin(np.arange(n))})
    rng = np.random.default_rng(sum(map(ord, name)))
    B_ = B or 3
    shared = rng.normal(size=(B_, n, 1))
    y = 0.5 + rng.normal(size=(B_, n, k)) + shared
    for column in ("g", "h", "long"):
        if column in table and column in str(case.get("random")):
            codes = table[column].to_numpy()
            y += rng.normal(size=(B_, codes.max() + 1, k))[:, codes]
            y += 0.7 * rng.normal(size=(B_, codes.max() + 1, 1))[:, codes]
            y += (
                0.8
                * table.x.to_numpy()[:, None]
                * rng.normal(size=(B_, codes.max() + 1, 1))[:, codes]
            )
    gone = rng.random((n, k)) < case.pop("missing", 0.0)
    gone[np.arange(n), rng.integers(0, k, n)] = False
    y = np.where(gone, np.nan, y)
    if case.pop("blocks", False):
        root = rng.normal(size=(8, 3, 3))
        S = {h: 0.1 * r @ r.T + 0.2 * np.eye(3) for h, r in enumerate(root)}
    else:
        root = rng.normal(size=(n, k, k))
        S = 0.1 * root @ root.transpose(0, 2, 1) + 0.2 * np.eye(k)
    right = case.pop("formula", "1")
    arguments = {"S": S, "data": table, **case}
    if B is not None:
        return arguments | {"y": y, "formula": f"~ {right}"}
    columns = [f"y{o}" for o in range(k)]
    arguments["data"] = table.assign(**dict(zip(columns, y[0].T, strict=True)))
    return arguments | {"formula": f"{' + '.join(columns)} ~ {right}"}


def matrices(Psi):
    return list(Psi.values()) if isinstance(Psi, Mapping) else [Psi]


ERROR = 0.2
"""Variance of an error, about: a null variance between groups has no size of its own."""


def assert_close(found, expected, tolerance, least=0.0):
    found, expected = np.asarray(found, float), np.asarray(expected, float)
    assert found.shape == expected.shape
    size = np.abs(expected).max(initial=least)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * size)


def by(backend, name):
    return mx.mixmeta(**model(name), control={"backend": backend})


def test_all_structures_are_among_the_cases():
    used = str([case.get("bscov", "unstr") for case in CASES.values()]).lower()
    names = {"car1": "continuousar1", "hcar1": "heterogeneouscontinuousar1"}
    assert all(names.get(name, f"'{name}'") in used for name in STRUCTURES)


@pytest.mark.parametrize("name", CASES)
def test_one_fit(name):
    at_once, compiled = by("numpy", name), by("jax", name)
    assert at_once.status is compiled.status
    assert at_once.status.converged
    assert_close(at_once.coef, compiled.coef, BACKENDS)
    assert_close(at_once.vcov, compiled.vcov, BACKENDS)
    assert_close(at_once.loglik, compiled.loglik, BACKENDS)
    for ours, theirs in zip(at_once.Psi_by_level, compiled.Psi_by_level, strict=True):
        assert_close(ours, theirs, BACKENDS, ERROR)
    if name == "packed":
        data, _ = prepared(executor(at_once.design, "reml", Control(backend="numpy")).tensors)
        assert isinstance(engine_for(data, 1), Packed)


MANY = [name for name in CASES if name not in ("packed", "fixed effects")]


@pytest.mark.parametrize("name", MANY)
def test_many_fits_end_where_each_does(name):
    arguments = model(name, B=3)
    fits = mx.fit_many(**arguments, control={"backend": "numpy"})
    y, formula = arguments.pop("y"), arguments.pop("formula")
    columns = [f"y{o}" for o in range(y.shape[2])]
    for b in range(3):
        table = arguments["data"].assign(**dict(zip(columns, y[b].T, strict=True)))
        fit = mx.mixmeta(
            f"{' + '.join(columns)} {formula}",
            **(arguments | {"data": table}),
            control={"backend": "numpy"},
        )
        assert fits.status[b] == fit.status
        assert_close(
            1 + abs(fit.loglik) + fits.loglik[b] - fit.loglik, 1 + abs(fit.loglik), MAXIMUM
        )
        assert_close(fits.coef[b], fit.coef, SAME_COEF)


@pytest.mark.parametrize("name", ["unstr, diag", "har1 of three, missing", "fixed effects"])
def test_many_fits(name):
    arguments = model(name, B=3)
    at_once, compiled = (
        mx.fit_many(**arguments, control={"backend": backend}) for backend in ("numpy", "jax")
    )
    assert (at_once.status == compiled.status).all()
    assert_close(at_once.coef, compiled.coef, BACKENDS)
    assert_close(at_once.vcov, compiled.vcov, BACKENDS)
    assert_close(at_once.loglik, compiled.loglik, BACKENDS)
    if name != "fixed effects":
        for ours, theirs in zip(matrices(at_once.Psi), matrices(compiled.Psi), strict=True):
            assert_close(ours, theirs, BACKENDS, ERROR)


@pytest.mark.parametrize("name", MANY)
def test_the_differentiable_estimate_ends_there_too(name):
    fit = by("numpy", name)
    with jax.enable_x64(True):
        found = jax.jit(lambda design: mx.estimate(design, fit.method))(fit.design)
    assert mx.Status(int(found.status)) is fit.status
    size = 1 + abs(fit.loglik)
    assert float(found.loglik) == pytest.approx(fit.loglik, rel=0, abs=MAXIMUM * size)
    assert_close(found.beta, fit.coef, SAME_COEF)


# Who executes


def test_an_unknown_backend_is_one_sentence():
    with pytest.raises(mx.InputError, match=r"backend must be one of 'auto', 'numpy', 'jax', not"):
        mx.mixmeta(**model("three levels"), control={"backend": "torch"})


class Band(mx.Structure):
    """A structure of one's own, which knows its Ψ and nothing else."""

    name = "band"

    def n_parameters(self, d):
        return 2

    def psi(self, theta, d):
        xp = np if isinstance(theta, np.ndarray) else jnp
        near = np.eye(d, k=1) + np.eye(d, k=-1)
        rest = (1,) * (theta.ndim - 1)
        eye, near = (part.reshape(d, d, *rest) for part in (np.eye(d), 0.5 * near))
        return theta[0] ** 2 * eye + theta[0] * xp.sin(theta[1]) * theta[0] * near

    def theta(self, Psi):
        variance = np.mean(np.diag(Psi))
        between = np.mean(np.diag(Psi, 1))
        return np.array([np.sqrt(variance), np.arcsin(np.clip(2 * between / variance, -1, 1))])


class ClosedBand(Band):
    """The same with its derivatives."""

    name = "closed band"

    def starts(self, variances):
        xp = np if isinstance(variances, np.ndarray) else jnp
        return [xp.stack([xp.sqrt(variances.mean(0)), 0 * variances[0]])]

    def slopes(self, theta, d):
        near = 0.5 * (np.eye(d, k=1) + np.eye(d, k=-1))[:, :, None]
        C = np.eye(d)[:, :, None] + np.sin(theta[1]) * near
        return np.stack([2 * theta[0] * C, theta[0] ** 2 * np.cos(theta[1]) * near], 2)

    def curvature(self, theta, d, gradient):
        near = 0.5 * (np.eye(d, k=1) + np.eye(d, k=-1))[:, :, None]
        along, trace = (gradient * near).sum((0, 1)), np.einsum("iib->b", gradient)
        both = theta[0] * np.cos(theta[1]) * along
        last = -0.5 * theta[0] ** 2 * np.sin(theta[1]) * along
        return np.array([[trace + np.sin(theta[1]) * along, both], [both, last]])


class ClosedWithoutStarts(ClosedBand):
    """Derivatives in closed form, but starting values found from Ψ, by `Structure.starts`."""

    name = "closed band without starts"
    starts = mx.Structure.starts


@pytest.mark.parametrize("by_groups", [False, True])
def test_starts_need_not_be_closed(by_groups):
    arguments = {**model("hcs of three", B=3 if by_groups else None)}
    fit_one = mx.fit_many if by_groups else mx.mixmeta
    numpy = {"backend": "numpy"}
    own = fit_one(**{**arguments, "bscov": ClosedWithoutStarts()}, control=numpy)
    expected = fit_one(**{**arguments, "bscov": ClosedBand()}, control=numpy)
    assert_close(own.loglik, expected.loglik, MAXIMUM)


def test_a_structure_of_ones_own():
    arguments = {**model("hcs of three"), "bscov": Band()}
    many = {**model("hcs of three", B=3), "bscov": Band()}
    with pytest.raises(mx.InputError, match="backend='numpy' cannot fit the structure 'band'"):
        mx.mixmeta(**arguments, control={"backend": "numpy"})
    with pytest.raises(mx.InputError, match="backend='numpy' cannot fit the structure 'band'"):
        mx.fit_many(**many, control={"backend": "numpy"})
    before = PROGRAMS.compiled
    opened = mx.mixmeta(**arguments)
    assert PROGRAMS.compiled > before, "JAX differentiates it"
    before = PROGRAMS.compiled
    closed = mx.mixmeta(**{**arguments, "bscov": ClosedBand()}, control={"backend": "numpy"})
    assert PROGRAMS.compiled == before
    assert opened.status is closed.status
    assert_close(closed.coef, opened.coef, 1e-8)
    assert closed.loglik == pytest.approx(opened.loglik, abs=MAXIMUM)


def test_a_small_fit_compiles_nothing(monkeypatch):
    monkeypatch.setattr(executors, "SPENT", Spent())
    before = PROGRAMS.compiled
    for name in CASES:
        fit = mx.mixmeta(**model(name))
        str(fit.summary())
        fit.predict(), fit.blup()
        fit.qtest()
    assert PROGRAMS.compiled == before


def test_a_small_fit_does_not_import_jax():
    code = """
import sys
import mixmeta_jax as mx
bcg = mx.load_dataset("bcg")
fit = mx.mixmeta("logor ~ ablat", S="logorvar", data=bcg)
str(fit.summary()), fit.predict(), fit.blup(), fit.qtest()
school = mx.load_dataset("school")
mx.mixmeta("effect ~ 1", S="var", random="~ 1 | district/study", data=school).summary()
assert "jax" not in sys.modules
print("done")
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.stdout.strip() == "done", ended.stderr


def test_fits_in_threads_while_jax_is_imported():
    code = """
import sys
import threading
import mixmeta_jax as mx
bcg = mx.load_dataset("bcg")
expected = mx.mixmeta("logor ~ ablat", S="logorvar", data=bcg).coef.to_numpy()
assert "jax" not in sys.modules
loaded = threading.Event()
ends, faults = [], []

def load():
    import jax
    loaded.set()

def fits():
    try:
        while True:
            last = loaded.is_set()
            fit = mx.mixmeta("logor ~ ablat", S="logorvar", data=bcg)
            ends.append(abs(fit.coef.to_numpy() - expected).max())
            if last:
                return
    except Exception as fault:
        faults.append(repr(fault))

threads = [threading.Thread(target=fits) for _ in range(2)] + [threading.Thread(target=load)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not faults, faults[0]
assert max(ends) < 1e-12, max(ends)
print("done")
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.stdout.strip() == "done", ended.stderr


@pytest.mark.parametrize("mesh", [False, True])
def test_data_stay_in_double_precision(mesh, monkeypatch):
    """Whatever the default of JAX is, where they are put on a device before the programs run."""
    monkeypatch.setattr(sharding, "SMALL_UPLOAD", 0)
    design = mx.mixmeta(**model("three levels")).design
    wanted = {"mesh": jax.make_mesh((1,), ("groups",))} if mesh else {"backend": "jax"}
    with jax.enable_x64(False):
        found = executor(design, "reml", Control(**wanted))
    numbers = [a for a in jax.tree.leaves(found.tensors) if np.issubdtype(a.dtype, np.floating)]
    assert numbers and all(a.dtype == np.float64 for a in numbers)


# A shape that is fitted again and again


def paths_of(design):
    """How many starts a fit follows."""
    return len(starting_parameters(design.structures, starting_variances(design)))


@pytest.fixture
def spent(monkeypatch):
    fresh = Spent()
    monkeypatch.setattr(executors, "SPENT", fresh)
    return fresh


def test_what_numpy_has_spent_long_enough_on_is_compiled(spent):
    arguments = model("three levels")
    fit = mx.mixmeta(**arguments)
    paths = paths_of(fit.design)
    shape = shape_of(fit.design, "reml", paths)
    assert spent.on(shape) > 0, "a fit tells what it has cost"
    next_one = 0.5 * executors.EVALUATIONS * seconds_of_evaluation(fit.design, paths)[1]
    for seconds, kind in ((0.99, AtOnce), (1.01, Compiled)):
        spent.clear()
        spent.add(shape, seconds * (executors.COMPILING - next_one))
        assert isinstance(executor(fit.design, "reml", Control(), paths), kind)
        # Of another shape nothing is known; and a wish is a wish.
        assert isinstance(executor(fit.design, "ml", Control(), paths), AtOnce)
        assert isinstance(executor(fit.design, "reml", Control(backend="numpy"), paths), AtOnce)
    before = PROGRAMS.compiled
    PROGRAMS.clear()
    again = mx.mixmeta(**arguments)
    assert PROGRAMS.compiled == before + 1
    assert_close(again.coef, fit.coef, BACKENDS)


def test_where_a_program_would_save_its_compilation_at_once_it_is_compiled(spent, monkeypatch):
    design = mx.mixmeta(**model("three levels")).design
    spent.clear()
    seconds = executors.EVALUATIONS * seconds_of_evaluation(design, 4)[1]
    for factor, kind in ((1.01, AtOnce), (0.99, Compiled)):
        monkeypatch.setattr(executors, "COMPILING", factor * seconds)
        assert isinstance(executor(design, "reml", Control(), 4), kind)


@pytest.mark.parametrize("name", ["three levels", "hcs of three"])
def test_paths_one_by_one_end_where_they_do_together(name, monkeypatch):
    """From `TOGETHER` numbers on NumPy follows one path of a data set after the other."""
    together = by("numpy", name)
    monkeypatch.setattr(executors, "TOGETHER", 0)
    one_by_one = by("numpy", name)
    assert one_by_one.status is together.status
    assert_close(one_by_one.coef, together.coef, BACKENDS)
    assert_close(one_by_one.loglik, together.loglik, BACKENDS)


def test_the_times_of_few_shapes_are_remembered(monkeypatch):
    monkeypatch.setattr(executors, "MOST_SHAPES", 2)
    spent = Spent()
    for shape in "abacb":  # a is the latest when c comes
        spent.add(shape, 1.0)
    assert [spent.on(shape) for shape in "abc"] == [0.0, 1.0, 1.0]
    spent.add(None, 5.0)
    assert spent.on(None) == 0.0


# The programs that are kept


def plus(a, *, by):
    return a + by


def test_the_least_recently_used_program_is_let_go():
    kept, a = Programs(most=2), np.arange(3.0)

    def holds(by):
        return kept.holds(plus, (a,), {"by": by})

    for by in (1, 2, 1, 3):  # 1 is the latest when 3 comes
        np.testing.assert_array_equal(kept(plus, a, by=by), a + by)
    assert [holds(by) for by in (1, 2, 3)] == [True, False, True]
    assert len(kept) == 2 and kept.compiled == 3
    kept(plus, np.arange(4.0), by=1)  # another shape is another program
    assert [holds(by) for by in (1, 3)] == [False, True]


@pytest.mark.parametrize(("over", "left"), [(0, 5), (1, 3)])
def test_programs_are_let_go_where_the_process_holds_many_maps(monkeypatch, tmp_path, over, left):
    """On each side of `MOST_MAPS`: half of the programs, before another is compiled."""
    maps = tmp_path / "maps"
    monkeypatch.setattr(programs, "MAPS", maps)
    kept, a = Programs(), np.arange(3.0)
    for by in range(4):
        kept(plus, a, by=by)
    assert len(kept) == 4, "without the file nothing is known"
    maps.write_text("map\n" * (programs.MOST_MAPS + over))
    kept(plus, a, by=4)
    assert len(kept) == left
    assert kept.holds(plus, (a,), {"by": 4}) and kept.holds(plus, (a,), {"by": 3})


def test_one_program_for_a_family_of_shapes():
    PROGRAMS.clear()
    before = PROGRAMS.compiled
    for n in (33, 40, 52, 64):
        rng = np.random.default_rng(n)
        table = pd.DataFrame({"y": rng.normal(size=n), "v": rng.uniform(0.1, 1, n)})
        mx.mixmeta("y ~ 1", S="v", data=table, control={"backend": "jax"})
    assert PROGRAMS.compiled == before + 1


def test_inference_by_either_is_the_same(monkeypatch):
    """BLUPs and Q of a large fit are computed by a program."""
    fit = by("numpy", "unstr, diag")
    expected = fit.blup().to_numpy(), np.asarray(fit.heterogeneity.Q)
    monkeypatch.setattr(executors, "COMPILING", 0.0)
    before = PROGRAMS.compiled
    again = by("numpy", "unstr, diag")
    found = again.blup().to_numpy(), np.asarray(again.heterogeneity.Q)
    assert PROGRAMS.compiled > before
    for ours, theirs in zip(found, expected, strict=True):
        assert_close(ours, theirs, BACKENDS)


def predictors(n, p, seed=0):
    """n studies with p coefficients."""
    rng = np.random.default_rng(seed)
    x = pd.DataFrame(rng.normal(size=(n, p - 1)), columns=[f"x{a}" for a in range(1, p)])
    data = x.assign(y=rng.normal(size=n), v=rng.uniform(0.1, 1, n))
    return {"formula": f"y ~ {' + '.join(x.columns)}", "S": "v", "data": data}


def test_numbers_of_predictors_and_studies_share_a_program():
    """Seven and eight coefficients, 600 to 640 studies: one program."""
    before = PROGRAMS.compiled
    for seed, (n, p) in enumerate([(600, 7), (640, 8), (615, 7), (630, 8)]):
        arguments = predictors(n, p, seed)
        compiled = mx.mixmeta(**arguments, control={"backend": "jax"})
        assert PROGRAMS.compiled <= before + 1
        at_once = mx.mixmeta(**arguments, control={"backend": "numpy"})
        for figure in ("coef", "vcov", "loglik"):
            assert_close(getattr(compiled, figure), getattr(at_once, figure), BACKENDS)


@pytest.mark.parametrize("random", [None, "~ 1 | g"])
@pytest.mark.parametrize("method", ["ml", "reml", "fixed"])
def test_predictors_that_fill_the_number_up_change_nothing(random, method):
    """Five predictors, of which programs make six; two outcomes, one of them missing once."""
    arguments = predictors(40, 5)
    rng = np.random.default_rng(3)
    data = arguments["data"].assign(y1=rng.normal(size=40), g=np.arange(40) // 4)
    data.loc[3, "y1"] = np.nan
    formula = arguments["formula"].replace("y ~", "y + y1 ~")
    fits = [
        mx.mixmeta(
            formula,
            S=np.full((40, 2), 0.3),
            rho=0.2,
            data=data,
            random=random,
            method=method,
            control={"backend": backend},
        )
        for backend in ("numpy", "jax")
    ]
    for figure in ("coef", "vcov", "loglik"):
        assert_close(getattr(fits[0], figure), getattr(fits[1], figure), BACKENDS)


@pytest.mark.parametrize("method", ["reml", "fixed"])
def test_batches_share_a_program(method):
    """Five and six coefficients, 34 to 46 data sets: one program."""
    before, rng = PROGRAMS.compiled, np.random.default_rng(1)
    x = pd.DataFrame(rng.normal(size=(12, 5))).add_prefix("x")
    for p, B in [(5, 46), (6, 40), (5, 34)]:
        y, S = rng.normal(size=(B, 12, 2)), np.full((12, 2), 0.3)
        arguments = {"formula": f"~ {' + '.join(x.columns[: p - 1])}", "data": x, "method": method}
        compiled = mx.fit_many(y, S, **arguments, control={"backend": "jax"}, bscov="id")
        assert PROGRAMS.compiled == before + 1
        at_once = mx.fit_many(y, S, **arguments, control={"backend": "numpy"}, bscov="id")
        for figure in ("coef", "vcov", "loglik"):
            assert_close(getattr(compiled, figure), getattr(at_once, figure), BACKENDS)
