"""Inputs that are not Gaussian: as networks of Gaussian input, in copies and in files."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtr

import cumprop
from cumprop.errors import CumpropError
from cumprop.inputs import Empirical, Gaussian, Independent, Mixture, Uniform
from cumprop.inputs.law import alike
from cumprop.networks import gaussian_parts

RNG = np.random.default_rng(0)
W = [RNG.normal(size=shape) for shape in [(5, 3), (5, 5), (2, 5)]]
B = [RNG.normal(size=5), None, RNG.normal(size=2)]
LOW, HIGH = np.array([-1.0, 0.5, 2.0]), np.array([0.5, 3.0, 2.0])
MIX, LOCATION = RNG.normal(size=(3, 4)), RNG.normal(size=3)
BOX = Uniform(LOW, HIGH)
SKEWED = Independent(stats.gamma(2.0), MIX, LOCATION)
LAWS = {
    "gaussian": Gaussian([1.0, 2.0, 3.0], [0.5, 1.0, 0.0]),
    "box": BOX,
    "skewed": SKEWED,
    "mixture": Mixture([0.3, 0.7], [Gaussian(1.0), BOX]),
    "rows": Empirical(RNG.normal(size=(20, 3))),
}


def network(law, dtype=np.float64, activations=("relu", "tanh")):
    biases = [None if b is None else b.astype(dtype) for b in B]
    return cumprop.MLP([w.astype(dtype) for w in W], biases, activations, input=law)


# --- as networks of Gaussian input ---------------------------------------------------------------


def test_the_layer_of_a_box_is_the_box():
    """Under z the network's pre-activations are those under low + (high - low) Φ(z)."""
    [(weight, part)] = gaussian_parts(network(BOX))
    assert weight == 1 and part.widths == (2, 2, 5, 5, 2)  # a constant coordinate is in the bias
    assert isinstance(part.input, Gaussian) and not part.shape.gaussian_input
    z = RNG.normal(size=(50, 2))
    x = np.column_stack([LOW[:2] + (HIGH - LOW)[:2] * ndtr(z), np.full(50, 2.0)])
    np.testing.assert_allclose(part.forward(z), network(BOX).forward(x), rtol=1e-12)


def test_the_layer_of_independent_coordinates_is_theirs():
    [(_, part)] = gaussian_parts(network(SKEWED))
    assert part.widths == (4, 4, 5, 5, 2)
    z = RNG.normal(size=(50, 4))
    x = LOCATION + stats.gamma(2.0).ppf(ndtr(z)) @ MIX.T
    np.testing.assert_allclose(part.forward(z), network(SKEWED).forward(x), rtol=1e-10)


def test_coordinates_that_reach_no_input_are_left_out():
    mix = MIX.copy()
    mix[:, [0, 2]] = 0
    [(_, part)] = gaussian_parts(network(Independent(stats.expon(), mix, LOCATION)))
    [(_, small)] = gaussian_parts(network(Independent(stats.expon(), mix[:, [1, 3]], LOCATION)))
    assert part.widths == small.widths == (2, 2, 5, 5, 2)
    np.testing.assert_array_equal(part.weights[1], small.weights[1])


@pytest.mark.parametrize("estimator", ["cumulant", "gaussian", "monte_carlo", "adaptive"])
def test_a_constant_input_is_one(estimator):
    given = network(Uniform(LOW, LOW))
    found = cumprop.estimate(given, estimator, cov=True)
    np.testing.assert_allclose(found.mean, given.forward(LOW[None])[0], rtol=1e-12)
    np.testing.assert_allclose(found.cov, 0, atol=1e-20)


def test_a_box_in_a_mixture_is_one_of_its_parts():
    inner = Mixture([0.25, 0.75], [BOX, Gaussian(2.0)])
    parts = gaussian_parts(network(Mixture([0.4, 0.6], [inner, SKEWED])))
    assert [round(weight, 12) for weight, _ in parts] == [0.1, 0.3, 0.6]
    assert [part.depth for _, part in parts] == [3, 2, 3]


def test_matched_parts_have_the_mean_and_covariance():
    for law in (BOX, SKEWED):
        [(_, part)] = gaussian_parts(network(law), matched=True)
        sized = law.sized(3)
        np.testing.assert_allclose(part.input.mean, sized.mean, rtol=1e-14)
        np.testing.assert_allclose(part.input.cov, sized.cov, rtol=1e-14)
        assert part.depth == 2


def test_gaussian_inputs_and_rows_stay_as_they_are():
    for law in (LAWS["gaussian"], LAWS["rows"]):
        given = network(law)
        assert gaussian_parts(given) == [(1.0, given)]


@pytest.mark.parametrize("law", [BOX, SKEWED, LAWS["mixture"]], ids=["box", "skewed", "mixture"])
def test_parts_have_the_type_of_the_weights(law):
    for dtype in (np.float32, np.float64):
        given = network(law, dtype)
        assert {given.dtype, *(part.dtype for _, part in gaussian_parts(given))} == {
            np.dtype(dtype)
        }


def test_a_layer_that_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr("cumprop.memory.free_memory", lambda: 1e8)
    wide = cumprop.MLP([np.ones((1, 3000), np.float32)], input=Uniform(0.0, 1.0))
    with pytest.raises(CumpropError, match=r"needs 0\.144 GB, 0\.1 GB are free"):
        gaussian_parts(wide)


@pytest.mark.thorough
@pytest.mark.parametrize("law", [BOX, SKEWED, LAWS["mixture"]], ids=["box", "skewed", "mixture"])
def test_tensors_have_gradients_under_any_law(law):
    """In the first and the last weights, against central differences."""
    torch = pytest.importorskip("torch")

    def loss(weights):
        found = cumprop.estimate(
            cumprop.MLP(weights, B, ["tanh", "gelu"], input=law), "cumulant", order=3, cov=True
        )
        return found.mean.sum() + found.cov.trace()

    tensors = [torch.tensor(w, requires_grad=True) for w in W]
    gradients = torch.autograd.grad(loss(tensors), tensors)
    for layer in (0, 2):
        direction, h = RNG.normal(size=W[layer].shape), 1e-5
        ends = [
            loss([w + s * h * direction if i == layer else w for i, w in enumerate(W)])
            for s in (1, -1)
        ]
        slope = float((gradients[layer].numpy() * direction).sum())
        assert slope == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-6)


# --- copies ------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_copies_keep_the_law(law):
    given = network(law)
    for copy in (given.replace(), given.prefix(1), given.above(0.5), given.replace(biases=None)):
        assert alike(copy.input, given.input)
    other = given.replace(input=Uniform(0.0, 1.0))
    assert alike(other.input, Uniform(0.0, 1.0).sized(3))
    assert alike(other.replace(input=law).input, given.input)
    normal = other.replace(input_mean=None, input_cov=None)
    assert normal.input_mean is None and not normal.shape.gaussian_input
    moved = other.replace(input_mean=1.0)
    assert alike(moved.input, Gaussian(1.0).sized(3))


def test_a_gaussian_law_is_the_mean_and_the_covariance():
    law = Gaussian([1.0, 2.0, 3.0], 0.5)
    plain = cumprop.MLP(W, B, input_mean=[1.0, 2.0, 3.0], input_cov=0.5)
    for given in (cumprop.MLP(W, B, input=law), cumprop.MLP(W, B, input=law.sized(3))):
        np.testing.assert_array_equal(given.input_mean, plain.input_mean)
        np.testing.assert_array_equal(given.input_cov, plain.input_cov)
        assert given.input_variance.shape == ()


def test_moments_of_a_law_are_those_of_the_network():
    given = network(BOX)
    np.testing.assert_array_equal(given.input_mean, given.input.mean)
    np.testing.assert_array_equal(given.input_cov, given.input.cov)


def test_a_law_and_a_mean_exclude_each_other():
    with pytest.raises(CumpropError, match="give input alone"):
        cumprop.MLP(W, B, input=BOX, input_mean=1.0)
    with pytest.raises(CumpropError, match="give a law such as"):
        cumprop.MLP(W, B, input="uniform")
    with pytest.raises(CumpropError, match=r"low has shape \(3,\); give \(2,\)"):
        cumprop.MLP([[[1.0, 2.0]]], input=BOX)


# --- files -------------------------------------------------------------------------------------


def test_boxes_are_saved(tmp_path):
    path = tmp_path / "box.npz"
    given = network(BOX)
    given.save(path)
    assert alike(cumprop.load(path).input, given.input)
    assert alike(cumprop.load(path, input=Gaussian(2.0)).input, Gaussian(2.0).sized(3))
    assert alike(cumprop.load(path, input_mean=1.0).input, Gaussian(1.0).sized(3))
    with np.load(path) as arrays:
        np.savez(path, **{key: arrays[key] for key in arrays if key != "input_low"})
    with pytest.raises(CumpropError, match="one of input_low and input_high; save both"):
        cumprop.load(path)


@pytest.mark.parametrize("name", ["skewed", "mixture", "rows"])
def test_other_laws_are_given_to_load(tmp_path, name):
    path = tmp_path / "net.npz"
    with pytest.raises(CumpropError, match="cannot be saved; give it to load"):
        network(LAWS[name]).save(path)
    network(None).save(path)
    assert alike(cumprop.load(path, input=LAWS[name]).input, LAWS[name].sized(3))
