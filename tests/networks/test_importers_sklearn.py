"""Networks of scikit-learn, alone, behind scalers and PCA, and with a scaled target."""

import warnings

import numpy as np
import pytest
from helpers.sources import refusal
from scipy.special import expit, softmax

import cumprop

sklearn = pytest.importorskip("sklearn", reason="pip install scikit-learn")
from sklearn.compose import TransformedTargetRegressor  # noqa: E402
from sklearn.decomposition import PCA, TruncatedSVD  # noqa: E402
from sklearn.linear_model import LinearRegression  # noqa: E402
from sklearn.neural_network import MLPClassifier, MLPRegressor  # noqa: E402
from sklearn.pipeline import Pipeline, make_pipeline  # noqa: E402
from sklearn.preprocessing import (  # noqa: E402
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    StandardScaler,
)

OLD = tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 5)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 5)) * [1, 30, 0.01, 1000, 1] + [0, 100, 3, -500, 1]
"""Inputs in five units, not centred."""
Z = (X - X.mean(axis=0)) / X.std(axis=0)
Y = 50 * np.stack([Z[:, 0] * Z[:, 1], np.abs(Z[:, 2]), Z[:, 3] - Z[:, 4]], axis=1) + 7
CLASSES = np.argmax(Y, axis=1)


def regressor(**options):
    return MLPRegressor(hidden_layer_sizes=(8, 7), max_iter=5, random_state=0, **options)


def classifier(**options):
    return MLPClassifier(hidden_layer_sizes=(8, 7), max_iter=5, random_state=0, **options)


def fit(model, x=X, y=Y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # five steps do not converge
        return model.fit(x, y)


def assert_same(found, expected):
    """Equal to rounding of the sums in which means of 500 cancel."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11 * np.abs(expected).max())


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("scaler", ["passthrough", StandardScaler()])
def test_classifiers_give_logits(activation, scaler):
    three = fit(make_pipeline(scaler, classifier(activation=activation)), y=CLASSES)
    logits = cumprop.load(three).forward(X)
    np.testing.assert_allclose(softmax(logits, axis=1), three.predict_proba(X), atol=1e-9)
    two = fit(make_pipeline(scaler, classifier(activation=activation)), y=CLASSES == 0)
    logits = cumprop.load(two).forward(X)[:, 0]
    np.testing.assert_allclose(expit(logits), two.predict_proba(X)[:, 1], atol=1e-9)


STEPS = {
    "StandardScaler": StandardScaler(),
    "StandardScaler, no mean": StandardScaler(with_mean=False),
    "StandardScaler, no deviation": StandardScaler(with_std=False),
    "MinMaxScaler": MinMaxScaler((-1, 2)),
    "MaxAbsScaler": MaxAbsScaler(),
    "PCA": PCA(3),
    "PCA, whitened": PCA(3, whiten=True),
    "passthrough": "passthrough",
    "None": None,
    "FunctionTransformer": FunctionTransformer(),
    "Pipeline": make_pipeline(StandardScaler(), PCA(4, whiten=True), MinMaxScaler()),
}


@pytest.mark.parametrize("name", STEPS)
def test_steps_before_the_network_are_folded(name):
    """The network maps raw inputs to predictions and has no layer more."""
    model = fit(Pipeline([("first", STEPS[name]), ("last", regressor())]))
    network = cumprop.load(model)
    assert network.widths == (5, 8, 7, 3)
    assert_same(network.forward(X), model.predict(X))
    several = fit(make_pipeline(StandardScaler(), STEPS[name], MaxAbsScaler(), regressor()))
    assert_same(cumprop.load(several).forward(X), several.predict(X))


@pytest.mark.parametrize(
    "scaler",
    [None, StandardScaler(), StandardScaler(with_std=False), MinMaxScaler((2, 5)), MaxAbsScaler()],
)
@pytest.mark.parametrize("columns", [slice(3), 0])
def test_a_scaler_of_the_target_is_folded(scaler, columns):
    """Around a pipeline, and as its last step; one target has no axis of its own."""
    y = Y[:, columns]
    inner = TransformedTargetRegressor(regressor(), transformer=scaler)
    outer = TransformedTargetRegressor(
        make_pipeline(StandardScaler(), regressor()), transformer=scaler
    )
    for model in (fit(make_pipeline(StandardScaler(), inner), y=y), fit(outer, y=y)):
        found = cumprop.load(model).forward(X)
        assert_same(found.reshape(y.shape), model.predict(X))


def test_single_precision_of_the_network_is_kept():
    model = fit(regressor(), X.astype(np.float32), Y.astype(np.float32))
    assert cumprop.load(model).dtype == np.float32


@pytest.mark.skipif(OLD, reason="scikit-learn before 1.5 divides by 0: pip install -U scikit-learn")
def test_a_component_without_variance():
    """Whitening divides by its deviation, 0, which scikit-learn replaces by the smallest number."""
    model = fit(make_pipeline(PCA(whiten=True), regressor()))
    model[0].components_[-1] = model[0].explained_variance_[-1] = 0
    assert_same(cumprop.load(model).forward(X), model.predict(X))


class Shifted(StandardScaler):
    """A scaler that does something else."""

    def transform(self, x):
        return super().transform(x) + 1


def test_estimators_that_are_refused():
    assert "not fitted" in refusal(regressor())
    assert "not fitted" in refusal(make_pipeline(StandardScaler(), regressor()))
    assert "not fitted" in refusal(TransformedTargetRegressor(regressor()))
    unfitted = make_pipeline(StandardScaler(), fit(regressor()))
    assert "step 'standardscaler' is not fitted; call its fit first" in refusal(unfitted)
    assert "only MLPRegressor and MLPClassifier" in refusal(LinearRegression())
    assert "only MLPRegressor and MLPClassifier" in refusal(fit(make_pipeline(StandardScaler())))
    clipped = fit(make_pipeline(MinMaxScaler(clip=True), regressor()))
    assert "step 'minmaxscaler' clips, which is not linear; fit it with clip=False" in refusal(
        clipped
    )
    for step in (Normalizer(), TruncatedSVD(2), Shifted(), FunctionTransformer(np.abs)):
        name = type(step).__name__
        model = fit(make_pipeline(make_pipeline(step), regressor()))
        said = f"step 'pipeline.{name.lower()}' ({name}) cannot be read; only StandardScaler"
        assert said in refusal(model)
    poisson = fit(regressor())
    poisson.out_activation_ = "exp"  # as after loss="poisson", which old releases lack
    assert "end with exp, which cannot be read" in refusal(poisson)
    functions = TransformedTargetRegressor(regressor(), func=np.cbrt, inverse_func=cube)
    said = "the transformer of the target (FunctionTransformer) cannot be read"
    assert said in refusal(fit(functions))
    turned = TransformedTargetRegressor(regressor(), transformer=PCA(), check_inverse=False)
    assert "must be a scaler to be read, not PCA" in refusal(fit(turned))
    model = fit(regressor())
    model.coefs_[1][0, 0] = np.nan
    assert refusal(model) == "MLPRegressor: W1 contains NaN or infinite entries; replace them"


def cube(y):
    return y**3
