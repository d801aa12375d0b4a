"""Fits over a mesh of all devices of all processes, as a script: prints the figures as JSON.

python -m tests.design.mesh_fits [port number_of_processes process]
"""

import json
import sys

import jax
import numpy as np

from mixmeta_jax.control import Control
from mixmeta_jax.estimation.estimator import fit_design
from tests.designs import random_design

PACKED = "one level, many units"

CASES = {
    "one level, missing outcomes": (
        "reml",
        {"seed": 8, "k": 2, "q": (1,), "n": 60, "codes": [np.arange(60)]},
    ),
    "two levels, absorbed": (
        "reml",
        {"seed": 2, "q": (1, 1), "k": 1, "n": 64, "missing": 0.0},
    ),
    "blocks of S that span rows": (
        "ml",
        {"seed": 3, "q": (1,), "k": 1, "n": 40, "missing": 0.0, "blocks": True}
        # A structure with arrays of its own, which every device needs whole.
        | {"bscov": "prop", "Psi_fix": [[2.0]]},
    ),
    # Enough units on every device for the packed sums, and for the best of the starts only.
    PACKED: (
        "reml",
        {"seed": 4, "q": (1,), "k": 1, "n": 2_400, "missing": 0.0, "codes": [np.arange(2_400)]},
    ),
    # Fewer blocks than devices leave shares empty.
    "fixed effects, three blocks": (
        "fixed",
        {"seed": 5, "q": (1,), "k": 1, "n": 12, "missing": 0.0, "blocks": True}
        | {"codes": [np.arange(12) % 3]},
    ),
}


def figures(control):
    """coef, vcov, Psi, log-likelihood and status of every case."""
    found = {}
    for name, (method, case) in CASES.items():
        estimate = fit_design(random_design(**case), method, control)
        found[name] = {
            "coef": estimate.beta.tolist(),
            "vcov": estimate.vcov.tolist(),
            "Psi": [P.tolist() for P in estimate.Psi or ()],
            "loglik": estimate.loglik,
            "status": int(estimate.status),
        }
    return found


def main():
    if len(sys.argv) > 1:
        port, count, process = sys.argv[1:]
        jax.distributed.initialize(f"127.0.0.1:{port}", int(count), int(process))
    mesh = jax.make_mesh((jax.device_count(),), ("groups",))
    told = {"devices": jax.device_count(), "here": jax.local_device_count()}
    print(json.dumps(told | {"figures": figures(Control(mesh=mesh))}))


if __name__ == "__main__":
    main()
