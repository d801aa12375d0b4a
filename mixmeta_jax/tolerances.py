"""Every numerical threshold of the library, once, with its unit and its reason.

A threshold decides: from which number on something counts as rounding, singular, null or the same.
Here stand those on numbers of the data and of the mathematics. Not here: sizes at which one way
becomes faster than another (they stand where they are used, with what was measured), limits of
what a formula may ask for, starting values, brackets of root finders, and what users set
(`control.Control.gradient_tol`). Each has a test on either side, beside those of what it decides.

Double precision rounds by 1.1e-16. Relative thresholds leave a margin of the number of operations
and of the condition that data of sound scaling have; where one decides between an error and a fit,
the margin is wide, and what lies inside it is fitted.
"""

from __future__ import annotations

# Error matrices, and other given ones: what is symmetric, singular, indefinite.

ASYMMETRY = 1e-8
"""Difference of two mirrored elements, relative to the largest, that rounding explains."""

SMALLEST_PIVOT = 1e-7
"""Of the Cholesky factor of the correlations; its square, 1e-14, bounds their least eigenvalue."""

INDEFINITE_BELOW = -1e-10
"""Eigenvalue below which a matrix is indefinite, and not singular: of the correlations for S, in
units of the largest element for a Psi that is given."""

BORDER = 1e-10
"""Eigenvalue of the correlations up to which the pivots are asked: above it all of them are large,
since none is smaller than the least eigenvalue."""

CLEAR_PIVOT = 1e-7
"""Squared pivot above which the rounding that it magnifies in later ones changes no verdict."""

MAKES_UP = 1e-10
"""Part of the variances of the random effects that must be left where S has no error."""

BEYOND_ONE = 1e-12
"""By how much a correlation may exceed one: C / np.outer(s, s) rarely has a diagonal of ones."""

# Predictors: what the others determine.

DEPENDENT = 1e-9
"""Part of a predictor, relative to its size, that the others must leave over for it to count."""

CLEAR = 1e-12
"""Least eigenvalue of the products of predictors of length one, above which the parts that they
leave over of one another, at least its root, are far from `DEPENDENT`, whatever the rounding."""

TAKES_PART = 1e-6
"""Weight, relative to the largest or to a predictor's size, from which on a sentence names what it
is of: the others are rounding of a combination that needs them not."""

COLLINEAR = 1e-10
"""Part of a predictor's length, left over by the others, below which it adds nothing to them in the
regression that starts a fit."""

PRODUCTS_RIDGE = 1e-14
"""Part of the trace of the products of many predictors that keeps them definite."""

BASIS_RANK = 1e-12
"""Diagonal of R, relative to the largest, below which predictors are only scaled, not made
orthonormal: they are collinear, and the rules say so."""

SPANNED = 1e-8
"""What a combination of the wider fit's predictors may leave of one of the smaller fit's, relative
to the largest value: formulas build the same column in other orders of operations."""

# What the data identify.

FREE = 1e-10
"""Share of its own square that the fixed effects and other parameters must leave of a derivative
of Σ: below, it is rounding."""

SPANS = 1e-10
"""Singular value, relative to the largest, up to which predictors of length one count as dependent
where their span is taken."""

DETERMINED = 1e-10
"""Of a variance of 1, the part that other estimates leave over below which they determine it."""

# Moments.

MOMENT_DEPENDENT = 1e-11
"""Diagonal of R, relative to a predictor's length, up to which the others determine it; the rules
refuse `DEPENDENT` ones before, so that it holds for calls with arrays alone."""

NO_MOMENTS = 1e-10
"""Diagonal of Jackson's equations, relative to the same without the loss to the coefficients, up to
which nothing is left for an element of Psi."""

MOMENT_CONDITION = 1e12
"""Condition of Jackson's equations, their diagonal 1, above which Psi has less than four digits."""

INFORMATION_CONDITION = 1e13
"""Condition of the coefficients' information, its diagonal 1, from which on they have fewer than
three digits."""

FULL_LEVERAGE = 1e-10
"""Difference of a unit's leverage from 1 up to which it alone determines a coefficient."""

RELATIVE_CHANGE = 1.5e-8
"""Of tau^2 or Psi by an iteration, below which ``pm`` and ``vc`` stop: the root of the rounding of
double precision, as R's optimisers have it."""

# Structures: bounds of the parameter space.

NULL_VARIANCE = 1e-9
"""A variance, in units of its scale, that counts as zero."""

SINGULAR = 1e-7
"""Least eigenvalue of a correlation matrix that counts as singular."""

UNCORRELATED = 1e-9
"""Largest covariance, in units of the largest variance, that counts as a correlation of zero."""

# Newton's method.

GRADIENT = 1e-4
"""Part of the tolerance of the gradient at which a path has arrived: what one more step leaves."""

CLOSE = 1e-4
"""Norm of the gradient below which a step may be judged by what it leaves of the gradient."""

LEARNING = 0.3
"""Norm of the gradient below which gradients correct the information: beyond it, the change of the
gradient says more of the third derivatives than of the second."""

LEARNT = 1e-7
"""Norm of the gradient down to which they do: below it their difference is rounding."""

ACROSS = 0.1
"""Cosine between a step and what the information leaves of the gradient's change there, below
which the correction would be large and say nothing."""

NO_INFORMATION = 1e-10
"""Least information on a parameter, in its natural unit, by which its gradient is scaled."""

EPSILON = 1e-13
"""Rounding of a log-likelihood, relative to 1 + its size."""

LEVEL_STEP = 100
"""Times `EPSILON`: what a step next to the maximum may lose where the gradient falls. The value
of ill-conditioned data rounds by more than it should, its gradient does not."""

PART_OF_GAIN = 1e-4
"""Part of the gain that the quadratic model promises, from which on a step counts (Armijo)."""

POOR_STEP, GOOD_STEP = 0.25, 0.7
"""Parts of that gain below which the damping grows, and above which it falls."""

STEP_RIDGE = 1e-14
"""On an information whose diagonal is 1: rounding, so that a singular one has a factor."""

NO_DAMPING = 1e-6
"""On the same diagonal, below which damping is none: convergence is to be quadratic."""

POOR_DAMPING, REFUSED_DAMPING = 1e-3, 1e-2
"""The least damping after a poor step and after a refused one."""

MOST_DAMPING = 1e12
"""Damping above which a step is rounding of the parameters, and the path is given up."""

JOINS = 0.01
"""Distance of Psi from a known maximum, in units of the scales, below which a path joins it."""

JOINS_NORM = 0.1
"""Norm of the gradient below which it does: there Newton's steps stay at that maximum."""

# Search and verdict.

AS_HIGH = 1e-10
"""Difference of log-likelihoods, relative to 1 + their size, that is rounding: equally high."""

CLEARLY = 1e-9
"""The same difference from which on one is higher: more than the rounding of both."""

AS_HIGH_ALONE = 1e-6
"""The same for a member of a batch that is fitted alone: by how much its path, which has stopped
at its rounding, may have come to stand above the maximum."""

IMPRECISE = 2e-10
"""Gradient above which a path has stopped at its rounding. Where random effects are many orders
larger than errors the estimator of single fits, whose data are `shifted`, rounds less."""

NEARLY_SINGULAR = 0.05
"""Least eigenvalue of an estimated correlation matrix below which a fit is as one at a bound."""

ASCENT = 1e-5
"""Negative curvature, relative to the size of the information, that counts as a way up."""

FLAT = 1e-7
"""Information along a direction, in natural units, below which the likelihood is constant there."""

FLOOR = 1e-6
"""Information on a parameter, in its natural unit, below which it counts as none."""

MOVES = 1e-4
"""Change of Psi, in units of the scales, that counts as one."""

HELD = 1e-8
"""Information left on a parameter, in its natural unit, below which its value is held when the
estimate is differentiated."""

# The likelihood's precision.

SHIFT_RIDGE = 1e-8
"""On the correlations of the random predictors within a group: coefficients along nearly collinear
ones would be large, and cancel."""

INCOMPLETE = 1e-8
"""Weight of a row with missing outcomes: it counts in groups that have no others."""

# Tests and comparisons.

LOGLIK_SLACK = 1e-6
"""By how much the log-likelihood of the wider of two fits may fall short through rounding."""

KNOWN = 1e-12
"""Squared coefficient of variation of an estimated variance up to which it counts as known: what
rounding leaves of a null derivative lies below, and a t of 2e12 df is normal to 1e-12."""

SAME_ZERO = 1e-10
"""Two numbers, differences of numbers of about one, up to which their quotient is rounding."""

NO_ROBUST_VARIANCE = 1e-12
"""Robust variance of a combination, over that of the model, in units of the largest such ratio, up
to which it is none: residuals that are null, or fewer clusters than combinations."""

NO_RESIDUALS = 1e-24
"""Mean squared residual, in units of the marginal variance, up to which it is rounding: effects
that agree to 1e-12 of their standard errors."""

TIED = 1e-12
"""Relative: a statistic of permuted data that is as extreme as the observed one up to the rounding
of another order of rows."""

QUANTILE = 1e-6
"""Absolute, of the quantile of the largest of several normal variables; its probability, from
65,536 points, is good to about 1e-5."""

# What a fit tells: variances, influence, resampling, sizes.

MISSED = 1e-6
"""By how much a profile may rise above the fit through rounding."""

SUMS = 1e-6
"""Difference, relative to the largest value, that sums over the rows in another order explain."""

LEFT_OVER = 1e-10
"""Of a cluster's working variance, the part left over by the coefficients below which they
determine it; A_j is null there."""

AS_LARGE = 1e-12
"""By how much less, relative, a statistic counts as large as another: rounding."""

NO_INFLUENCE = 1e-10
"""Eigenvalue of the information, scaled to a diagonal of ones, below which a direction is held."""

END_FOUND = 1e-10
"""Distance from ±√χ²_1 at which an end counts as found; its error is this by a standard error."""

NARROW = 4e-16
"""Width of a bracket, relative to its ends, below which it is rounding."""

FURTHEST = 1e12
"""Multiple of its start beyond which a variance has no upper end."""

CORRELATION_AT_BOUND = 1e-7
"""Distance from its bound below which a correlation is at it: `covariance.structure.SINGULAR`."""

HIGHER_MAXIMUM = 1e-6
"""Distance from ±√χ²_1 above which another maximum is higher than the one that was followed."""

DEFINITE = 1e-12
"""Least eigenvalue, at unit diagonal, of an information that counts as positive definite."""

SQUARE_OVERFLOWS = 1e150
"""Above it squares, of which the likelihood is made, go beyond the largest number, 1.8e308."""

SQUARE_UNDERFLOWS = 1e-150
"""Below it squares go beyond the smallest number, 2.2e-308."""

NO_RESIDUAL = 1e-10
"""Part of a variance left by the coefficients below which a residual has none of its own."""

# Regressions of the first stage.

DECREMENT = 1e-18
"""Of a Newton step, in standard errors squared, at which it is the last: 1e-9 standard errors."""

ROUNDED_DECREMENT = 1e-10
"""The same, below which a decrement that no longer falls is rounding: outcomes that are large
beside their residuals leave more of it."""

ROUNDED_OUTCOMES = 1e-28
"""The same, where the columns explain the outcomes nearly or exactly: of their sum of squares."""

ROUNDED_DEVIANCE = 1e-12
"""By how much, relative, a deviance may rise through rounding."""

EXACT_FIT = 1e-24
"""Part of the outcomes' sum of squares, below which a deviance is rounding: an exact fit."""

PARTED_SHARE = 1e-8
"""Decrement below which the deviance stands still."""

PARTED_STEP = 0.5
"""Change of a linear predictor that is large, while the deviance stands still: on a way to infinity
it is 1 in every step, near a maximum a thousandth of the root of the decrement."""

PLAIN_PIVOT = 1e-4
"""Part of a column's length that the others leave over, by the Cholesky factor of their products,
from which on these need no second look: their rounding is a millionth of its square."""

# Curves over an exposure.

FLAT_CURVE = 1e-10
"""Height above its lowest point, relative to the whole curve's, up to which a curve is as low. One
with a single minimum rises by 1e-6 between two points of the grid."""

MINIMUM_FOUND = 1e-10
"""Step, relative to the range, below which the exposure of minimum risk is found: what differences
leave of its precision."""

DIFFERENCE = 1e-5
"""Step, relative to the range, of the central differences of a basis: their error in a cubic is its
square, and what rounding leaves of the second derivative 1e-6."""

NEAR_KINK = 1e-4
"""Step, relative to the range, of second differences that tell a kink: ten times `DIFFERENCE`, by
which minima at one are off."""

KINK = 3.0
"""By how many times a second difference is larger than over ten times the step, from which on the
curve has a kink there: ten times at one, once where it is smooth."""
