"""The dense algorithm against the reference numbers: every variant, to 1e-9 of the output scale."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from helpers.plain_layers import layers as plain_layers

import cumprop
from cumprop.estimators.cumulant import STRUCTURED
from cumprop.estimators.cumulant.kinds import Scheme

GOLDENS = Path(__file__).parents[2] / "goldens"
ACTIVATIONS = json.loads((GOLDENS / "activations.json").read_text())
KIND = {"SIMPLE": "basic", "AUGMENT": "augmented", "BASE": "base"}
SLOW = {"relu_n32_L5_s0", "relu_n32_L3_s0", "relu_n16_L5_s0", "relu_layers_n16_L5_s0"}
NAMES = [
    pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
    for name in sorted(ACTIVATIONS)
]
KEY = re.compile(
    r"(?P<quantity>mean|cov|K\d)(_(?P<layer>(pre|act)\d))?__k(?P<order>\d)_"
    r"(ablated|(?P<kind>[A-Z]+)_f(?P<factorised>\d)_a(?P<average>\d))"
)


def load(name):
    """The network of a golden file and its reference arrays by parsed key."""
    with np.load(GOLDENS / f"{name}.npz", allow_pickle=False) as data:
        arrays = dict(data)
    n_maps = sum(re.fullmatch(r"W\d+", key) is not None for key in arrays)
    network = cumprop.MLP(
        [arrays[f"W{i}"] for i in range(n_maps)],
        [arrays.get(f"b{i}") for i in range(n_maps)],
        activations=ACTIVATIONS[name],
        input_mean=arrays.get("mu_in"),
        input_cov=arrays.get("Sigma_in"),
        init_scale=arrays.get("init_scale"),
    )
    references = {KEY.fullmatch(key): array for key, array in arrays.items() if KEY.match(key)}
    return network, references


def variant(match):
    """(order, kind, metric) of a key."""
    if match["kind"] is None:
        return int(match["order"]), "ablated", "exact"
    kind = KIND[match["kind"]]
    if kind == "augmented" and match["factorised"] == "1":
        kind = "augmented_factorised"
    return int(match["order"]), kind, "average" if match["average"] == "1" else "exact"


def in_full(layers, match):
    """The cumulant a key names, as a full tensor."""
    side, index = match["layer"][:3], int(match["layer"][3:])
    part = getattr(layers[index], "z" if side == "pre" else "x")
    d = 1 if match["quantity"] == "mean" else int(match["quantity"][1:])
    return part[d].dense(d, part[1].core.shape[0])


@pytest.mark.thorough
@pytest.mark.parametrize("name", NAMES)
def test_goldens(name):
    network, references = load(name)
    assert references
    scale = np.sqrt(np.diag(cumprop.estimate(network, "cumulant", cov=True, order=2).cov).mean())
    for order, kind, metric in sorted({variant(match) for match in references}):
        wanted = {m: a for m, a in references.items() if variant(m) == (order, kind, metric)}
        cov = any(match["quantity"] == "cov" for match in wanted)
        parameters = {"order": order, "kind": kind, "metric": metric}
        estimate = cumprop.estimate(network, "cumulant", cov=cov, **parameters)
        layers = (
            list(plain_layers(network, Scheme(order, kind), metric))
            if any(match["layer"] for match in wanted)
            else None
        )
        for match, golden in wanted.items():
            if match["layer"] is None:
                ours = estimate.mean if match["quantity"] == "mean" else estimate.cov
            else:
                ours = in_full(layers, match)
                if order == 1 and match["quantity"] == "K2":
                    ours = np.diag(np.diag(ours))
            error = np.abs(ours - golden) / np.maximum(np.abs(golden), scale)
            assert error.max() < 1e-9, f"{match.string}: {error.max():.1e}"


@pytest.mark.thorough
@pytest.mark.parametrize("name", NAMES)
def test_structured_is_dense_on_every_golden(name):
    network, references = load(name)
    scale = np.sqrt(np.diag(cumprop.estimate(network, "cumulant", cov=True, order=2).cov).mean())
    variants = sorted({variant(match) for match in references})
    for order, kind, metric in (v for v in variants if v[:2] in STRUCTURED):
        dense, structured = (
            cumprop.estimate(
                network, "cumulant", order=order, kind=kind, metric=metric, algorithm=algorithm
            )
            for algorithm in ("dense", "structured")
        )
        for a, b in zip(dense.layer_means, structured.layer_means, strict=True):
            assert np.abs(a - b).max() <= 1e-10 * max(np.abs(a).max(), scale)
        assert np.abs(dense.mean - structured.mean).max() <= 1e-10 * scale


def test_the_goldens_cover_what_they_should():
    """The parametrised test above is only as good as the keys it finds."""
    seen = {variant(match) for name in ACTIVATIONS for match in load(name)[1]}
    kinds = ("basic", "augmented", "base")
    assert {(k, kind, m) for k in (1, 2, 3, 4) for kind in kinds for m in ("exact", "average")} <= {
        *seen
    }
    assert {(k, "augmented_factorised", m) for k in (3, 4) for m in ("exact", "average")} <= seen
    assert {(k, "ablated", "exact") for k in (1, 2, 3, 4)} <= seen
