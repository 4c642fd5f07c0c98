"""Every backend keeps the contract, and the suite notices one that does not."""

from dataclasses import dataclass, replace

import pytest

import cumprop
from cumprop import estimator as registry
from cumprop.checks import check_estimator
from cumprop.errors import CumpropError
from cumprop.estimators.cumulant import Cumulant


@pytest.mark.parametrize("name", cumprop.available())
def test_every_backend_keeps_the_contract(name):
    check_estimator(registry.build(name))


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
        return registry.Cost(1, 0)


def test_breaches_are_named():
    with pytest.raises(CumpropError) as caught:
        check_estimator(Wrong(order=2))
    for breach in ("linear network", "layer_means", "status is empty", "FLOPs", "no memory"):
        assert breach in str(caught.value)


@pytest.mark.parametrize("given", ["cumulant", Cumulant, None])
def test_what_is_no_instance_is_refused(given):
    with pytest.raises(CumpropError, match="is no estimator; give an instance"):
        check_estimator(given)
