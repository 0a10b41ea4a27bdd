#!/usr/bin/env python3
"""Prints the coefficients of vec.inl: minimax polynomials, lowest power first, each fitted to its function on one interval.
    python3 core/kernels/make_polynomials.py        needs NumPy and nothing else
Weighted least squares in f64, weights sharpened towards the largest errors until the error is level (Lawson 1961)."""
import math

import numpy as np


def fit(name, f, low, high, degree, weight=None):
    """p(x) = sum c_i x^i with max |weight (p - f)| small on [low, high]."""
    x = (low + high) / 2 + (high - low) / 2 * np.cos(np.pi * (np.arange(4000) + 0.5) / 4000)
    y, w = f(x), (weight or np.ones_like)(x)
    basis, lawson = np.vander((2 * x - low - high) / (high - low), degree + 1, increasing=True), np.ones_like(x)
    for _ in range(300):
        scale = np.sqrt(lawson) * w
        c, *_ = np.linalg.lstsq(basis * scale[:, None], y * scale, rcond=None)
        error = np.abs(w * (basis @ c - y))
        lawson *= error / error.max() + 1e-3
        lawson /= lawson.max()
    p = np.polynomial.Polynomial(c, domain=[low, high]).convert(domain=[-1, 1], window=[-1, 1])
    print(f"{name}: error {error.max():.1e}\n  " + ", ".join(f"{np.float32(v)!s}f" for v in p.coef))


def erf_tail(t):   # -log(1 - erf(t)) / t
    return np.array([-math.log(math.erfc(v)) / v for v in t])


half = math.log(2) / 2
# exp(r) = 1 + r + r^2 p(r)
fit("exp", lambda r: (np.expm1(r) - r) / r**2, -half, half, 4, lambda r: r**2)
# log(1 + m) = m - m^2 / 2 + m^3 p(m)
fit("log", lambda m: (np.log1p(m) - m + m * m / 2) / m**3, math.sqrt(0.5) - 1, math.sqrt(2) - 1, 8, lambda m: np.abs(m**3 / np.log1p(m)))
# tanh(x) = x + x s p(s), s = x^2 <= 0.4
fit("tanh", lambda s: (np.tanh(np.sqrt(s)) / np.sqrt(s) - 1) / s, 1e-6, 0.4, 4, lambda s: s)
# erf(x) = x + x p(s), s = x^2 < 0.86; and erf(x) = 1 - exp(-x p(x)) from there to 4
erf = np.vectorize(math.erf)
fit("erf small", lambda s: erf(np.sqrt(s)) / np.sqrt(s) - 1, 1e-6, 0.87, 5)
fit("erf large", erf_tail, 0.92, 4, 7, lambda t: np.array([v * math.erfc(v) for v in t]))
