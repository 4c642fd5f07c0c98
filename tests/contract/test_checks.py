"""Every backend keeps the contract, and the suite notices one that does not."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

import cumprop
from cumprop import contract
from cumprop.contract.checks import check_estimator
from cumprop.errors import CumpropError
from cumprop.estimators.cumulant import Cumulant


@pytest.mark.thorough
@pytest.mark.parametrize("name", cumprop.available())
def test_every_backend_keeps_the_contract(name):
    check_estimator(contract.build(name))


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["augmented", "augmented_factorised", "base", "ablated"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_every_kind_keeps_the_contract(order, kind):
    check_estimator(Cumulant(order=order, kind=kind))


@dataclass(frozen=True)
class Wrong(Cumulant):
    """Off by one, forgetful of its layers, and far too optimistic."""

    name = "wrong"

    def estimate(self, network, *, cov=False, rng=None):
        estimate = super().estimate(network, cov=cov)
        return replace(estimate, mean=estimate.mean + 1, layer_means=(), status="")

    def predict_cost(self, shape):
        return contract.Cost(1, 0)


def test_breaches_are_named():
    with pytest.raises(CumpropError) as caught:
        check_estimator(Wrong(order=2))
    for breach in ("linear network", "layer_means", "status is empty", "FLOPs", "no memory"):
        assert breach in str(caught.value)


def claiming(**claims):
    """A backend that says this of its numbers, which are right."""

    @dataclass(frozen=True)
    class Claiming(Cumulant):
        name = "claiming"

        def estimate(self, network, *, cov=False, rng=None):
            n = network.widths[-1]
            found = {name: claim(n) for name, claim in claims.items()}
            return replace(super().estimate(network, cov=cov), **found)

    return Claiming(order=2)


@pytest.mark.thorough
@pytest.mark.thorough
@pytest.mark.parametrize(
    ("claims", "breach"),
    [
        ({"expected_error": lambda n: -0.1}, r"expected_error is -0.1: give a number"),
        ({"expected_error": lambda n: float("nan")}, r"expected_error is nan"),
        ({"expected_error": np.ones}, r"expected_error is .*: give a number"),
        ({"expected_std_error": lambda n: float("inf")}, r"expected_std_error is inf"),
        ({"half_width": lambda n: np.ones(n + 1)}, r"half_width has shape \(13,\), not \(12,\)"),
        ({"half_width": lambda n: -np.ones(n)}, r"half_width has entries that are negative"),
        ({"stderr": lambda n: np.full(n, np.nan)}, r"stderr has entries that are .* not finite"),
        ({"stderr": np.ones, "half_width": np.ones}, r"half_width is below 1.9 stderr"),
        ({"layer_variances": lambda n: (np.ones(n),)}, r"layer_variances are not those of"),
        ({"status": lambda n: "unreliable"}, r"write 'unreliable: why; remedy'"),
        ({"status": lambda n: "unreliable: too wide"}, r"write 'unreliable: why; remedy'"),
        ({"status": lambda n: "one\ntwo"}, r"is not one line"),
    ],
)
def test_wrong_claims_of_errors_are_named(claims, breach):
    with pytest.raises(CumpropError, match=breach):
        check_estimator(claiming(**claims))


def test_right_claims_of_errors_are_taken():
    check_estimator(
        claiming(
            expected_error=lambda n: 0.0,
            expected_std_error=lambda n: 0.1,
            stderr=np.ones,
            half_width=lambda n: np.full(n, 1.96),
            layer_variances=lambda n: (
                (np.ones(n) if n == 12 else np.ones(6),) * (3 if n == 12 else 1)
            ),
            status=lambda n: "unreliable: few directions carry layer 2; take adaptive",
        )
    )


@pytest.mark.parametrize("given", ["cumulant", Cumulant, None])
def test_what_is_no_instance_is_refused(given):
    with pytest.raises(CumpropError, match="is no estimator; give an instance"):
        check_estimator(given)
