"""Processes that are forked after JAX has run: a sentence, or a fit that needs none of it."""

import os
import subprocess
import sys

import pytest

PARENT = """
import multiprocessing, warnings
import jax, numpy as np, pandas as pd
import mixmeta_jax as mx

data = pd.DataFrame({"y": [0.1, 0.9, -0.4, 0.3], "v": [0.1, 0.2, 0.1, 0.3]})

class Own(mx.Structure):
    name = "own"
    def n_parameters(self, d): return 1
    def psi(self, theta, d): return theta[0] ** 2 * jax.numpy.eye(d)

def call(which):
    try:
        if which == "functional":
            mx.cochran_q(mx.make_design(data.y.to_numpy(), S=data.v.to_numpy()))
        elif which == "own":
            mx.mixmeta("y", S="v", data=data, bscov=Own())
        elif which == "many":
            mx.fit_many(np.stack([data.y] * 3), data.v.to_numpy(), progress=False)
        else:
            mx.mixmeta("y", S="v", data=data, control={"backend": which})
    except mx.MixmetaError as error:
        return str(error)
    return "fitted"

if __name__ == "__main__":
    RUN
    warnings.simplefilter("ignore")  # JAX warns of forks
    with multiprocessing.get_context("fork").Pool(1) as pool:
        for which in ("auto", "numpy", "jax", "many", "own", "functional"):
            print(which, pool.apply_async(call, (which,)).get(timeout=100), sep=": ")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks on this system")
@pytest.mark.parametrize("ran", [True, False], ids=["JAX has run", "JAX has not run"])
def test_forked_processes(ran, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT.replace("RUN", "jax.numpy.ones(3).sum()" if ran else "pass"))
    printed = subprocess.run(
        [sys.executable, str(script)], check=True, capture_output=True, text=True
    ).stdout
    said = dict(line.split(": ", 1) for line in printed.splitlines())
    for which in ("auto", "numpy", "many"):
        assert said[which] == "fitted"
    for which in ("jax", "own", "functional"):
        if ran:
            assert "needs JAX, which hangs in a process that was forked" in said[which]
            assert "spawn" in said[which]
        else:
            assert said[which] == "fitted" or "float64" in said[which]
