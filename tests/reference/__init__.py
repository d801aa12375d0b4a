"""Figures of other programs and of print, copied with what made them.

``r_mixmeta.json``
    71 fits by R ``mixmeta`` 1.2.1 on R 4.2.2 (optim with reltol 1e-15 and up to 2000 iterations);
    each entry holds the R call. ``Psi`` is a list of matrices, outer level first. ``boundary``
    marks a fit whose optimum has a singular Psi, which R only approaches: compare log-likelihoods.
``extra.json``
    R ``metafor`` 3.8-1, ``clubSandwich`` 0.5.8 and ``dosresmeta`` 2.2.0: influence, profile
    intervals, cluster-robust errors, tau^2 estimators, error covariances of dose-response data.
``small_sample.json``
    R ``clubSandwich`` 0.5.8, ``metafor`` 3.8-1 and ``pbkrtest`` 0.5.2 with ``lme4`` 1.1-31, by
    ``small_sample.R``: cluster-robust errors with their degrees of freedom and HTZ tests,
    Knapp-Hartung, containment, Kenward-Roger; each entry holds the R call.
``published.py``
    The printed tables of Sera et al. 2019.
``calls.py``
    Each R call of ``r_mixmeta.json`` as a call of ours.
"""

import json
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent

R: dict[str, Any] = json.loads((_HERE / "r_mixmeta.json").read_text())
EXTRA: dict[str, Any] = json.loads((_HERE / "extra.json").read_text())
SMALL_SAMPLE: dict[str, Any] = json.loads((_HERE / "small_sample.json").read_text())
