"""Every tolerance of the comparisons with other programs, with print and among our own ways."""

import math

LOGLIK_BELOW_R = 1e-6
"""At R's own Psi the two log-likelihoods agree to 1e-11: a fit below R's missed the maximum."""

LOGLIK = 1e-5
"""R stops at a relative change of 1e-15 of the log-likelihood, but differentiates numerically."""

COEF = 1e-5
"""Coefficients move with Psi, which R has to about 1e-5 relative."""

PSI = 1e-4
"""Relative to sqrt(Psi_ii Psi_jj): R's optima are good to about 1e-5, some to a few times that."""

VCOV = 1e-4
"""Relative to sqrt(V_ii V_jj): V is at most linear in Psi, so it inherits its accuracy."""

MOMENTS = 1e-7
"""As PSI, and absolute on coefficients near one: mm is a closed form, which agrees to 1e-14, but
where it is clipped R stays at 1.5e-8 from the bound; vc stops at a relative change of 1.5e-8."""

SLOPE = 1e-8
"""Of the likelihood in Psi, in units of the traces Z'PZ: fits end at gradients of 1e-10 and less,
and full matrices in numpy leave 3e-11."""

METAFOR = 1e-7
"""Absolute: what the README of the reference values says of R metafor's."""

Q = 1e-8
"""Relative: the fixed-effects fit is in closed form in both programs (1e-14 by dense algebra); what
is left is for the condition of S, 1e5 in the smoking data."""

CRITERION = 2 * LOGLIK
"""AIC and BIC are -2 log-likelihood and integers."""

DENSE = 1e-9
"""Relative to the largest entry: dense inverses leave 1e-11 of a condition below 1e4."""

SMALL_SAMPLE = 1e-8
"""Relative: degrees of freedom and corrected covariances are products of five dense inverses."""

ITERATED = 1e-6
"""Relative: errors and degrees of freedom at variances that R has to about 1e-7."""

SUMS = 1e-11
"""Relative to the largest entry: the same sums, in another order or by another executor."""

BACKENDS = 1e-10
"""Relative to the largest entry: both executors go on until the gradient is rounding."""

MAXIMUM = 1e-9
"""Log-likelihoods of two paths to one maximum, relative to 1 + their size."""

SAME_COEF = 1e-6
"""Relative: at such a maximum, whose log-likelihood is flat to second order, 1e-9 is its square."""

MAPS = 1e-12
"""Relative to the largest entry, of derivatives of θ to Psi: squares, products and sines."""

LIMIT = 1e-5
"""The same at a step of 1e-7 from a correlation of zero, where third derivatives are finite but
those that JAX takes of a power at zero are not."""


DIFFERENCES = 1e-8
"""Relative: central differences of the sixth order over steps of 1 percent."""

ROOTS = 1e-8
"""Relative: where a likelihood or a Q crosses a level, by two ways of looking for it."""

SIMPLEX = 1e-7
"""Log-likelihoods at a maximum that a simplex has found."""

TIGHT = 1e-5
"""Relative: the same asked for to 1e-11, whose fits stop at 1e-10 of their log-likelihood."""

UNIROOT = 1.3e-4
"""Absolute: ends of intervals by metafor, whose root finder stops within 1.2e-4 of a root."""


def agrees_with_print(value: float, printed: str) -> bool:
    """Whether a value is within one unit of the last digit of a printed figure."""
    decimals = len(printed.partition(".")[2])
    # The print is itself a rounded number: allow for its binary representation.
    return math.isclose(value, float(printed), rel_tol=0.0, abs_tol=10.0**-decimals * (1 + 1e-9))
