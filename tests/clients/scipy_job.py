"""Minima and an integral, by scipy's functions that take workers=."""

import loaded  # noqa: F401
import numpy as np
from scipy.integrate import quad_vec
from scipy.optimize import brute, differential_evolution, rosen


def wave(x):
    return np.array([np.sin(x), np.cos(3 * x), x**2])


def bowl(x):
    return (x[0] - 1) ** 2 + (x[1] + 2) ** 2


def main():
    found = differential_evolution(rosen, [(-2, 2)] * 3, workers=2, updating="deferred", rng=3, maxiter=60)
    print(found.x.round(6).tolist(), found.nfev)
    print(brute(bowl, ((-3, 3), (-3, 3)), Ns=15, finish=None, workers=2).round(6).tolist())
    print(quad_vec(wave, 0, 2, workers=2)[0].round(9).tolist())


if __name__ == "__main__":
    main()
