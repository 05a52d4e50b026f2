"""Writes numbers as the page shows them."""

from cmath_jax.evaluation.statistics import Interval

MINUS = "\N{MINUS SIGN}"


def number(value: float, decimals: int = 2) -> str:
    """Returns a score in percent."""
    return f"{value:.{decimals}f}".replace("-", MINUS)


def signed(value: float) -> str:
    """Returns a difference, with its sign."""
    return f"{value:+.2f}".replace("-", MINUS)


def interval(interval: Interval) -> str:
    """Returns both ends of an interval."""
    return f"{number(interval.low)} to {number(interval.high)}"


def p_value(p: float) -> str:
    """Returns a p-value, or how small it is at least."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
