"""Calls that mypy finds wrong: it complains of an ignore that is not needed."""

import pandas as pd

import mixmeta_jax as mx


def wrong(data: pd.DataFrame, fit: mx.Fit[pd.DataFrame]) -> None:
    """Never called."""
    mx.mixmeta("y", S="v", data=data, method="rml")  # type: ignore[call-overload]
    mx.mixmeta("y", S="v", data=data, bscov="unstructured")  # type: ignore[arg-type]
    mx.mixmeta("y", S="v", data=data, na_action="drop")  # type: ignore[call-overload]
    mx.fit_many(data, data, method="rml")  # type: ignore[arg-type]
    mx.fit_many(data, data, returns=["beta"])  # type: ignore[list-item]
    mx.effect_sizes("oddsratio", data)  # type: ignore[call-overload]
    mx.bootstrap(fit, kind="residual")  # type: ignore[arg-type]
    mx.Control(backend="torch")  # type: ignore[arg-type]
    fit.summary(test="f")  # type: ignore[arg-type]
    fit.summary(report="variance")  # type: ignore[arg-type]
    fit.confint(simultaneous="tukey")  # type: ignore[arg-type]
    fit.confint(test="t", df="residuals")  # type: ignore[arg-type]
    fit.robust(type="HC3")  # type: ignore[arg-type]
    fit.predict(vcov="all")  # type: ignore[call-overload]
    fit.predict(transform="log")  # type: ignore[call-overload]
    fit.predict(levels=1)  # type: ignore[call-overload]
    fit.blup(type="effect")  # type: ignore[call-overload]
    fit.resid("student")  # type: ignore[arg-type]
    fit.influence(method="fast")  # type: ignore[arg-type]
    fit.varcomp(ci="wald")  # type: ignore[arg-type]
    fit.i2(form="level")  # type: ignore[arg-type]
    fit.means("x", weights="proportional")  # type: ignore[arg-type]
    fit.drop_terms(test="score")  # type: ignore[arg-type]
    fit.bootstrap_inference(kind="cases")  # type: ignore[arg-type]
    print(fit.coeff)  # type: ignore[attr-defined]
    print(mx.mixmetta)  # type: ignore[attr-defined]
