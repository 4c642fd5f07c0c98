"""A parameter of a wrong type is one clear line, however an estimator is made."""

import json
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pytest

import cumprop
from cumprop.cli import main
from cumprop.contract import Estimator, build, build_for, get
from cumprop.errors import ConfigError, CumpropError
from cumprop.experiments.config import load
from cumprop.parameters import typed

WRONG = [
    ("cumulant", "order", "3", "a whole number, got '3'"),
    ("cumulant", "order", 2.5, "a whole number, got 2.5"),
    ("cumulant", "order", True, "a whole number, got True"),
    ("cumulant", "order", None, "a whole number, got None"),
    ("cumulant", "kind", 3, "text, got 3"),
    ("cumulant", "edgeworth", 1, "true, false or null, got 1"),
    ("adaptive", "tolerance", "0.1", "a number, got '0.1'"),
    ("adaptive", "screen", "32", "a whole number, got '32'"),
    ("monte_carlo", "n_samples", "many", "a whole number, got 'many'"),
    ("monte_carlo", "design", 1, "text, got 1"),
    ("blend", "order", 2.5, "a whole number, got 2.5"),
    ("blend", "n_samples", "1024", "a whole number, got '1024'"),
    ("unscented", "alpha", "1", "a number, got '1'"),
]


@dataclass(frozen=True)
class Plugin(Estimator):
    """A backend as a plugin has it, with checks of its own."""

    version: ClassVar[int] = 1
    name: ClassVar[str] = "plugin"
    factor: float = 1
    times: int = 2
    how: Literal["slow", "fast"] = "slow"

    def __post_init__(self):
        if self.times * self.factor > 10:
            raise CumpropError("too much; take less")

    def estimate(self, network, *, cov=False, rng=None):
        raise NotImplementedError

    def predict_cost(self, shape):
        raise NotImplementedError

    @classmethod
    def from_tolerance(cls, tolerance, shape, **parameters):
        return cls(**parameters)


@dataclass(frozen=True)
class Heir(Plugin):
    """One that inherits the checks and adds a parameter."""

    more: int = 0

    def __post_init__(self):
        super().__post_init__()
        if self.more < 0:
            raise CumpropError("less than nothing")


@pytest.fixture(scope="module")
def network():
    return cumprop.random_mlp(width=4, depth=1, seed=0)


@pytest.mark.parametrize(("name", "key", "value", "message"), WRONG)
def test_every_way_to_an_estimator_gives_the_same_error(
    network, tmp_path, capsys, name, key, value, message
):
    ways = [
        lambda: get(name)(**{key: value}),
        lambda: build(name, **{key: value}),
        lambda: cumprop.estimate(network, name, **{key: value}),
    ]
    message = f"{key} must be {message}"
    for way in ways:
        with pytest.raises(CumpropError) as caught:
            way()
        assert str(caught.value) == message
    network.save(tmp_path / "net.npz")
    written = json.dumps(value)
    words = ["estimate", str(tmp_path / "net.npz"), "--estimator", name, "--set"]
    assert main([*words, f"{key}={written}"]) == 2
    assert capsys.readouterr().err.strip().endswith(message)
    if key != "tolerance":  # of a sweep, where it is checked with the grid
        path = tmp_path / "test.yaml"
        path.write_text(
            "network: {width: 4, depth: 1}\ntruth: {n_samples: 100}\n"
            f"estimators: [{{name: {name}, {key}: {written}}}]\n"
        )
        with pytest.raises(ConfigError) as caught:
            load(path)
        assert str(caught.value).endswith(f"estimators[0].{key}: {message}")


def test_numbers_of_numpy_and_whole_floats_are_taken():
    made = build("cumulant", order=np.int64(2))
    assert made == get("cumulant")(order=2.0) == build("cumulant", order=2)
    assert type(made.order) is int
    exact = build("adaptive", tolerance=np.float32(0.5), screen=np.float64(64))
    assert (exact.tolerance, exact.screen) == (0.5, 64)
    assert [type(value) for value in (exact.tolerance, exact.screen)] == [float, int]


@pytest.mark.parametrize("cls", [Plugin, Heir])
def test_plugins_are_checked_before_their_own_checks(cls):
    made = cls(factor=3)
    assert (made.factor, type(made.factor), made.times) == (3.0, float, 2)
    with pytest.raises(CumpropError, match="times must be a whole number, got '9'"):
        cls(times="9")
    with pytest.raises(CumpropError, match="how must be 'slow' or 'fast', got 'swift'"):
        cls(how="swift")
    with pytest.raises(CumpropError, match="too much; take less"):
        cls(factor=9)


def test_heirs_are_checked_too():
    with pytest.raises(CumpropError, match=r"more must be a whole number, got 1\.5"):
        Heir(more=1.5)
    with pytest.raises(CumpropError, match="less than nothing"):
        Heir(more=-1)


def test_a_type_that_cannot_be_found_is_named():
    @dataclass(frozen=True)
    class Vague(Plugin):
        field: "Nowhere" = None  # noqa: F821

    with pytest.raises(CumpropError, match=r"Vague: the type of a field is not known.*Nowhere"):
        Vague()


def test_other_types_are_named():
    with pytest.raises(CumpropError, match="x must be of type list, got 3"):
        typed(3, list[int], "x")
    assert typed([1], list[int], "x") == [1]


@pytest.mark.parametrize("tolerance", ["0.1", None, 0.0, -1.0, float("nan")])
@pytest.mark.parametrize("name", ["cumulant", "monte_carlo", "adaptive", "gaussian"])
def test_tolerances_are_checked(network, name, tolerance):
    with pytest.raises(CumpropError, match="tolerance"):
        build_for(name, tolerance, network.shape)


def test_an_error_of_the_backend_is_no_advice(network):
    class Wrong(Plugin):
        @classmethod
        def from_tolerance(cls, tolerance, shape, **parameters):
            return None + 1

    cumprop.register("wrong")(Wrong)
    try:
        with pytest.raises(TypeError, match="unsupported operand"):
            build_for("wrong", 0.1, network.shape)
    finally:
        cumprop.contract.registry.forget(__name__)
    with pytest.raises(CumpropError, match="tolerance decides what order also sets"):
        build_for("cumulant", 0.1, network.shape, order=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": "a"}, "seed must be a whole number, got 'a'"),
        ({"seed": -1}, "seed is -1; give"),
        ({"cov": "yes"}, "cov must be true or false, got 'yes'"),
        ({"network": [[1.0]]}, "network is list; give a cumprop.MLP"),
        ({"estimator": 3}, "estimator is 3; give the name or an instance"),
        ({"estimator": Plugin}, "give the name or an instance"),
        ({"estimator": Plugin(), "factor": 2}, "parameters go with an estimator's name"),
    ],
)
def test_what_estimate_refuses(network, arguments, message):
    with pytest.raises(CumpropError, match=message):
        cumprop.estimate(**{"network": network} | arguments)


def test_a_required_parameter_that_is_missing_is_named(network):
    @dataclass(frozen=True, kw_only=True)
    class Needy(Plugin):
        needed: int

    cumprop.register("needy")(Needy)
    try:
        with pytest.raises(CumpropError, match="estimator needy needs the parameter 'needed'"):
            cumprop.estimate(network, "needy")
        assert build("needy", needed=3).needed == 3
    finally:
        cumprop.contract.registry.forget(__name__)
