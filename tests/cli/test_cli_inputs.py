"""`cumprop estimate`: laws of the input from its options."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import cumprop
from cumprop.inputs import Empirical, Gaussian, Uniform

RNG = np.random.default_rng(0)
W = [RNG.normal(size=shape) / np.sqrt(shape[1]) for shape in [(12, 3), (12, 12), (2, 12)]]
LOW, HIGH = np.array([-1.0, 0.5, 2.0]), np.array([0.5, 3.0, 2.0])
ROWS = RNG.gamma(2.0, size=(400, 3))


@pytest.fixture
def net(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cumprop.MLP(W, activations=["tanh", "relu"]).save("net.npz")
    np.save("low.npy", LOW)
    np.savetxt("high.csv", HIGH, delimiter=",")
    np.savetxt("rows.csv", ROWS, delimiter=",")
    np.save("rows.npy", ROWS)
    np.savetxt("four.csv", np.ones((9, 4)), delimiter=",")
    return "net.npz"


def expected(law, estimator="cumulant", **parameters):
    network = cumprop.load("net.npz", input=law)
    return cumprop.estimate(network, estimator, cov=True, **parameters)


@pytest.mark.parametrize(
    ("words", "law"),
    [
        (("--input", "uniform:0,1"), Uniform(0.0, 1.0)),
        (("--input", "uniform:low.npy,high.csv"), Uniform(LOW, HIGH)),
        (("--input", "uniform:-1,high.csv"), Uniform(-1.0, HIGH)),
        (("--input", "normal:0.5,2"), Gaussian(0.5, 2.0)),
        (("--input", "normal:low.npy,high.csv"), Gaussian(LOW, HIGH)),
        (("--input-box", "-1:1"), Uniform(-1.0, 1.0)),
        (("--input-box", "-1:0.5,0.5:3,2:2"), Uniform(LOW, HIGH)),
        (
            ("--input-data", "rows.csv", "--components", 1),
            Gaussian(ROWS.mean(axis=0), np.cov(ROWS.T, ddof=0)),
        ),
    ],
)
def test_laws(as_json, net, words, law):
    found, exact = as_json(net, *words, "--order", 2), expected(law, order=2)
    assert found["estimator"] == "cumulant"
    np.testing.assert_allclose(found["mean"], exact.mean, rtol=1e-9)
    np.testing.assert_allclose(found["std"], np.sqrt(np.diag(exact.cov)), rtol=1e-9)
    assert found["status"] == exact.status


def test_an_option_replaces_the_law_of_the_file(as_json, net):
    cumprop.load(net, input=Uniform(LOW, HIGH)).save("box.npz")
    assert as_json("box.npz")["mean"] == as_json(net, "--input", "uniform:low.npy,high.csv")["mean"]
    for words in (("--input-box", "0:1"), ("--input-mean", 0.5), ("--input", "normal:0,1")):
        assert as_json("box.npz", *words)["mean"] == as_json(net, *words)["mean"]


@pytest.mark.parametrize("suffix", ["csv", "npy"])
def test_rows_are_averaged_by_adaptive(as_json, net, suffix):
    found = as_json(net, "--input-data", f"rows.{suffix}")
    y = cumprop.load(net).forward(ROWS)
    assert found["estimator"] == "adaptive" and found["n_samples"] == 400
    np.testing.assert_allclose(found["mean"], y.mean(axis=0), rtol=1e-12)
    assert found["status"] == "400 rows leave 0.05 output s.d.; tolerance 0.01 takes 10,000"
    assert as_json(net, "--input-data", f"rows.{suffix}", "--tolerance", 0.1)["status"] == "ok"


def test_rows_with_tails_and_quantiles(as_json, net):
    """Shares of the rows, with the intervals of Clopper and Pearson for independent inputs."""
    y = cumprop.load(net).forward(ROWS)
    t = float(np.round(np.median(y[:, 0]), 3))
    found = as_json(net, "--input-data", "rows.csv", "--tail", f"y>{t}", "--tail-quantiles", 0.5)
    np.testing.assert_allclose(found["above"], (y > t).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found["quantiles"]["0.5"], np.sort(y, axis=0)[199], rtol=1e-12)
    hits = int((y[:, 0] > t).sum())
    exact = stats.binomtest(hits, 400).proportion_ci(method="exact")
    low, high = np.array(found["above_interval"])[:, 0]
    assert low <= hits / 400 <= high
    assert high - low == pytest.approx(exact.high - exact.low, rel=0.05)


def test_components(as_json, net):
    pytest.importorskip("sklearn")
    found = as_json(net, "--input-data", "rows.csv", "--components", 3)
    law = Empirical(ROWS).sized(3).smoothed(3)
    np.testing.assert_allclose(found["mean"], expected(law).mean, rtol=1e-9)


def test_tails_under_a_box(as_json, net):
    """Sampled by `adaptive`: within 5 standard errors of 200,000 samples of numpy's own."""
    words = ("--input-box", "0:1", "--tail", "y>0.1", "--estimator", "adaptive")
    found = as_json(net, *words, "--set", "tolerance=0.05")
    y = cumprop.load(net).forward(np.random.default_rng(1).random((200_000, 3)))
    p = (y > 0.1).mean(axis=0)
    se = np.hypot(found["above_stderr"], 0.5 / np.sqrt(200_000))
    assert (np.abs(found["above"] - p) <= 5 * se).all()


def test_plot_names_the_law(run, net):
    code, _, err = run("estimate", net, "--input-box", "0:1", "--plot", "box.svg")
    assert (code, err) == (0, "")
    assert "U[0, 1]" in Path("box.svg").read_text(encoding="utf-8")


BOTH = "exclude each other; give one of them"
MISTAKES = [
    (("--input-box", "0:1", "--input-data", "rows.csv"), f"--input-box and --input-data {BOTH}"),
    (
        ("--input-cov", "2", "--input", "uniform:0,1"),
        f"--input-mean or --input-cov and --input {BOTH}",
    ),
    (("--components", "3"), "--components is of a mixture fitted to --input-data; give both"),
    (("--input-box", "0:1,2:3"), "--input-box 0:1,2:3: low has shape (2,); give (3,) or a number"),
    (("--input-box", "1:0"), "--input-box 1:0: coordinate 0 has low 1 above high 0; swap them"),
    (
        ("--input-box", "0:1:2"),
        "--input-box 0:1:2: write LOW:HIGH for all inputs, as in 0:1, or one for each",
    ),
    (("--input-box", "low.npy"), "--input-box low.npy: write LOW:HIGH"),
    (("--input", "gamma:1,2"), "--input gamma:1,2: write uniform:LOW,HIGH or normal:MEAN,COV"),
    (("--input", "uniform"), "--input uniform: write uniform:LOW,HIGH"),
    (("--input", "uniform:0"), "--input uniform:0: write uniform:LOW,HIGH"),
    (("--input", "uniform:none.npy,1"), "--input uniform:none.npy,1: cannot be read: No such file"),
    (("--input", "normal:0,-1"), "--input normal:0,-1: input_cov has the negative eigenvalue -1"),
    (("--input-data", "none.csv"), "--input-data none.csv: cannot be read: No such file"),
    (
        ("--input-data", "four.csv"),
        "--input-data four.csv: rows of data have shape (9, 4); give (N, 3)",
    ),
    (("--input-data", "net.npz"), "--input-data net.npz: give a number, a .npy file"),
    (("--input-data", "rows.csv", "--components", "401"), "401 components of 400 rows"),
    (
        ("--input-data", "rows.csv", "--order", "3"),
        "cumulant takes no rows of data: fit a law to them",
    ),
    (
        ("--input-data", "rows.csv", "--plot", "p.png"),
        "--plot: rows of data leave no samples to check",
    ),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES)
def test_mistakes_are_one_line_that_names_the_option(run, net, words, message):
    code, out, err = run("estimate", net, *words)
    assert code in (1, 2) and out == ""
    assert message in err and err.count("\n") == 1
