"""Measure estimates against sampled truths, fit the laws of their errors, and write them down.

    python docs/calibrate.py measure     # docs/calibration.csv: 25 minutes on two cores; PyTorch
    python docs/calibrate.py             # contract/laws.py and docs/calibration.md from it

A law, scale · Π sign^power, is a least-squares fit of logarithms to the errors that stand out from
the truth's noise. Its scale is then raised until 98% of the true errors are below twice the
expected ones on the kind of networks that was left out of the fit, each kind in turn.
"""

from __future__ import annotations

import math
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from calibration_networks import RECIPES, random_networks, trained_networks
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy.optimize import lsq_linear

import cumprop
from cumprop.networks import gaussian_parts
from cumprop.results.provenance import cores
from cumprop.sampling import Replicates, replicates, standardised

Array = NDArray[Any]
DOCS = Path(__file__).parent
TABLE = DOCS / "calibration.csv"
ESTIMATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "order 1": ("cumulant", {"order": 1}),
    "order 2": ("cumulant", {"order": 2}),
    "order 3": ("cumulant", {"order": 3}),
    "order 3 tree": ("cumulant", {"order": 3, "kind": "tree"}),
    "order 4": ("cumulant", {"order": 4}),
    "gaussian": ("gaussian", {}),
    "linearized": ("linearized", {}),
    "unscented": ("unscented", {}),
}
SIGNS = ("step", "bend", "blur", "nonlinear", "neglected", "moved", "spread")
MEANS = dict.fromkeys(ESTIMATORS, ("step", "bend", "moved")) | {
    "order 1": (),
    "linearized": ("nonlinear", "neglected"),
    "unscented": ("nonlinear", "neglected"),
}
STDS = dict.fromkeys(ESTIMATORS, ("blur", "nonlinear", "spread")) | {
    "order 1": (),
    "order 2": ("blur", "nonlinear", "spread"),
    "gaussian": ("bend", "nonlinear"),
    "linearized": ("nonlinear", "spread"),
    "unscented": ("nonlinear", "spread"),
}
"""The signs that a law reads; no sign shows what the one variance of order 1 leaves out."""
MET = 0.98
"""Of the true errors are below twice the expected ones. 97% are wanted elsewhere: that quantile of
140 networks is known to 1.4%."""
COVERED = 0.9
"""Of the networks have 95% of their outputs within the half widths."""


def measure() -> pd.DataFrame:
    """A row per network and estimator: signs, true errors, and what the truth's noise is."""
    pool = Parallel(n_jobs=cores(), verbose=5)
    found = pool(
        [delayed(measured)(*pair) for pair in random_networks()]
        + [delayed(measured_recipe)(number) for number in range(len(RECIPES))]
    )
    return pd.DataFrame([row for rows in found for row in rows])


def measured_recipe(number: int) -> list[dict[str, Any]]:
    return [row for pair in trained_networks(number) for row in measured(*pair)]


def measured(name: str, network: cumprop.MLP) -> list[dict[str, Any]]:
    """Rows of one network. Order 4 and `gaussian` are left out where they take minutes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        truth = true_moments(network)
        widest, depth, rows = max(network.widths[1:-1]), network.depth, []
        for estimator, (backend, parameters) in ESTIMATORS.items():
            dear = {"order 4": widest > 64 or depth > 6, "gaussian": widest > 128 or depth > 8}
            if dear.get(estimator):
                continue
            with np.errstate(all="ignore"):
                try:
                    mean = cumprop.estimate(network, backend, **parameters)
                    both = cumprop.estimate(network, backend, cov=True, **parameters)
                except cumprop.CumpropError:
                    continue
            rows.append({"network": name, "estimator": estimator} | compared(mean, both, truth))
    return rows


def true_moments(network: cumprop.MLP) -> Replicates:
    """Of 1.5e11 FLOPs of orthogonal inputs, or of a Sobol sequence where they are few."""
    [(_, network)] = gaussian_parts(network)
    network, _ = standardised(network)
    n = 1.5e11 / (2 * sum(weight.size for weight in network.weights))
    design = "orthogonal" if network.widths[0] > 8 else "sobol"
    n_samples = int(min(max(n, 1.5e5), 2e6 if design == "orthogonal" else 2**19))
    rng = np.random.default_rng(1)
    if design == "sobol":
        n_samples = 2 ** int(math.log2(n_samples))
    return replicates(network, n_samples, design, rng, cov=True)


def compared(mean: Any, both: Any, truth: Replicates) -> dict[str, Any]:
    """Errors in output s.d. (`noise`: of the truth), and the signs without and with covariance."""
    unit = float(truth.variance.sum())
    noise = math.sqrt(float(truth.noise.sum()) / unit)
    off = mean.mean.astype(np.float64) - truth.mean
    found = (
        np.sqrt(np.maximum(np.diag(both.cov).astype(np.float64), 0))
        if both.cov is not None
        else None
    )
    row: dict[str, Any] = {"noise": noise, "error": rms(off, unit), "n_samples": truth.n_samples}
    row["std_error"] = rms(found - np.sqrt(truth.variance), unit)
    allowed = np.sqrt(mean.signs.unit * mean.signs.shares)
    row["reach"] = float(np.quantile(np.abs(off) / np.where(allowed > 0, allowed, np.inf), 0.95))
    row["notes"] = mean.status.count("negative") + mean.status.count("kink")
    row["std_notes"] = both.status.count("negative") + both.status.count("kink")
    row["rounding"] = mean.signs.rounding / math.sqrt(unit)
    row |= {sign: getattr(mean.signs, sign) for sign in SIGNS}
    return row | {f"std_{sign}": getattr(both.signs, sign) for sign in SIGNS}


def rms(errors: Array, unit: float) -> float:
    return math.sqrt(float(np.sum(errors**2)) / unit)


# --- the fit -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fit:
    """A law, and log(true error / expected error) by networks: their kind left out, or none."""

    law: dict[str, float]
    left_out: Array
    within: Array


def fitted(rows: pd.DataFrame, error: str, prefix: str, signs: tuple[str, ...]) -> Fit:
    """The law of a column of errors."""
    log_signs = np.log(rows[[prefix + sign for sign in signs]].to_numpy())
    design = np.column_stack([np.ones(len(rows)), log_signs])
    target, kinds = np.log(rows[error].to_numpy()), rows["network"].str.split().str[0]
    left_out = np.empty(len(rows))
    for kind in kinds.unique():
        other = (kinds != kind).to_numpy()
        left_out[~other] = (target - design @ least_squares(design[other], target[other]))[~other]
    scale, *powers = least_squares(design, target)
    raised = max(0.0, float(np.quantile(left_out, MET)) - math.log(2))
    law = {"scale": digits(math.exp(scale + raised))}
    law |= {sign: round(float(power), 2) for sign, power in zip(signs, powers, strict=True)}
    expected = math.log(law["scale"]) + log_signs @ np.array([law[sign] for sign in signs])
    return Fit(law, left_out - raised, target - expected)


def least_squares(design: Array, target: Array) -> Array:
    """With powers ≥ 0, so that no sign of trouble lowers an expected error."""
    lower = np.array([-np.inf, *np.zeros(design.shape[1] - 1)])
    solution: Array = lsq_linear(design, target, (lower, np.inf)).x
    return solution


def digits(x: float) -> float:
    return float(f"{x:.3g}")


def resolved(table: pd.DataFrame, estimator: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows whose errors of means, and of s.d., exceed the noise, and that nothing else doubts."""
    rows = table[table["estimator"] == estimator].copy()
    rows["error"] = np.sqrt(np.maximum(rows["error"] ** 2 - rows["noise"] ** 2, 0))
    least = np.maximum(np.maximum(rows["noise"], 5 * rows["rounding"]), 3e-5)
    means = rows[(rows["error"] > least) & (rows["notes"] == 0)]
    stds = rows[(rows["std_error"] > 3 / np.sqrt(rows["n_samples"])) & (rows["std_notes"] == 0)]
    return _positive(means, "", MEANS[estimator]), _positive(stds, "std_", STDS[estimator])


def _positive(rows: pd.DataFrame, prefix: str, signs: tuple[str, ...]) -> pd.DataFrame:
    """Those all of whose signs are: a sign that is 0 says that the estimate is exact."""
    return rows[(rows[[prefix + sign for sign in signs]] > 1e-12).all(axis=1)]


def fit_all(table: pd.DataFrame) -> dict[str, tuple[Fit, Fit]]:
    fits = {}
    for estimator in ESTIMATORS:
        means, stds = resolved(table, estimator)
        fits[estimator] = (
            fitted(means, "error", "", MEANS[estimator]),
            fitted(stds, "std_error", "std_", STDS[estimator]),
        )
    return fits


def quantile(table: pd.DataFrame, fits: dict[str, tuple[Fit, Fit]]) -> float:
    """How many expected RMS errors make a half width."""
    reaches = []
    for estimator, (means, _) in fits.items():
        rows, _ = resolved(table, estimator)
        expected = rows["error"] / np.exp(means.within)
        reaches.append((rows["reach"] / expected).to_numpy())
    return round(float(np.quantile(np.concatenate(reaches), COVERED)), 1)


# --- what is written ---------------------------------------------------------------------------


def laws_module(fits: dict[str, tuple[Fit, Fit]], quantile: float) -> str:
    lines = [
        '"""Laws of expected errors, written by `docs/calibrate.py` (docs/calibration.md)."""',
        "",
        "from __future__ import annotations",
        "",
        f"QUANTILE = {quantile}",
        '"""The half width of a 95% interval, in expected RMS errors."""',
        "LAWS: dict[str, tuple[dict[str, float], dict[str, float]]] = {",
    ]
    for estimator, pair in fits.items():
        laws = [_literal(fit.law) for fit in pair]
        line = f'    "{estimator}": ({", ".join(laws)}),'
        split = [f'    "{estimator}": (', *(f"        {law}," for law in laws), "    ),"]
        lines += [line] if len(line) <= 100 else split
    return "\n".join(
        [
            *lines,
            "}",
            '"""The expected error of the means, and of the standard deviations: '
            'scale · Π sign^power."""',
            "",
        ]
    )


def _literal(law: dict[str, float]) -> str:
    return "{" + ", ".join(f'"{sign}": {number}' for sign, number in law.items() if number) + "}"


def page(table: pd.DataFrame, fits: dict[str, tuple[Fit, Fit]], quantile: float) -> str:
    """docs/calibration.md."""
    lines = [HEAD.format(networks=table["network"].nunique(), quantile=quantile)]
    for title, which in (("Means", 0), ("Standard deviations", 1)):
        lines += [
            f"## {title}",
            "",
            "| estimate | law | networks | scatter | 98% below | largest |",
        ]
        lines += ["|---|---|---|---|---|---|"]
        for estimator, pair in fits.items():
            fit = pair[which]
            (_, scale), *powers = fit.law.items()
            law = " · ".join([str(scale), *(f"{sign}^{power}" for sign, power in powers if power)])
            ratio = np.exp(fit.left_out)
            lines.append(
                f"| {estimator} | {law} | {len(ratio)} | "
                f"{fit.left_out.std():.2f} | {np.quantile(ratio, MET):.1f} | {ratio.max():.1f} |"
            )
        lines.append("")
    lines += ["## Networks", "", "| kind | networks | inputs and sizes |", "|---|---|---|"]
    names = table["network"].drop_duplicates()
    for kind, group in names.groupby(names.str.split().str[0], sort=False):
        sizes = dict.fromkeys(name.split(",")[0].removeprefix(f"{kind} ") for name in group)
        lines.append(f"| {kind} | {len(group)} | {'; '.join(sizes)} |")
    return "\n".join([*lines, ""])


HEAD = """\
# Calibration

Written by `make calibrate` from docs/calibration.csv, which `python docs/calibrate.py measure`
makes. The {networks} networks and inputs stand below; none of their kinds is among the networks of
`tests/verify/test_trust.py`, on which the laws are accepted (docs/VERIFIED.md).

An expected error is scale · Π sign^power; the signs are those of `cumprop.contract.Signs`
(docs/mathematics.md §11). The scatter is that of log(true / expected), the next columns are
true errors over expected ones: 98% of them are below the first, none is above the second. All are
of networks whose kind was left out of the fit. Half widths are {quantile} expected errors.
"""


def main() -> None:
    if sys.argv[1:] == ["measure"]:
        measure().to_csv(TABLE, index=False, float_format="%.5g")
        return
    table = pd.read_csv(TABLE)
    fits = fit_all(table)
    reach = quantile(table, fits)
    laws = DOCS.parent / "cumprop" / "contract" / "laws.py"
    laws.write_text(laws_module(fits, reach), encoding="utf-8")
    (DOCS / "calibration.md").write_text(page(table, fits, reach), encoding="utf-8")
    print(page(table, fits, reach))


if __name__ == "__main__":
    main()
