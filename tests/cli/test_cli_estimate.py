"""`cumprop estimate`: inputs, tails, layers, formats, and networks of other libraries."""

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.pictures import assert_legible, drawn, words
from scipy.special import ndtr, ndtri

import cumprop
from cumprop import streams
from cumprop.contract import build
from cumprop.networks.importers import npz
from cumprop.plots import sampled_check
from cumprop.sampling import Inputs

RNG = np.random.default_rng(0)
W = [RNG.normal(size=shape) / np.sqrt(shape[1]) for shape in [(6, 4), (5, 6), (3, 5)]]
B = [RNG.normal(size=len(w)) for w in W]


@pytest.fixture
def net(tmp_path):
    path = tmp_path / "net.npz"
    cumprop.MLP(W, B, ["tanh", "relu"]).save(path)
    return path


@pytest.fixture
def linear(tmp_path):
    """W x + b, of which everything is known exactly."""
    path = tmp_path / "linear.npz"
    cumprop.MLP(W[:1], B[:1]).save(path)
    return path


# --- input -------------------------------------------------------------------------------------

MEAN, ROOT = RNG.normal(size=4), RNG.normal(size=(4, 4))
COV = ROOT @ ROOT.T


@pytest.mark.parametrize(
    ("mean", "cov"),
    [
        (0.5, 2.0),
        (MEAN, np.abs(MEAN)),
        (MEAN, COV),
        (None, np.outer(MEAN, MEAN)),  # of rank one
        (MEAN, 1e-12),
        (MEAN, 0.0),
    ],
)
@pytest.mark.parametrize("suffix", ["npy", "csv"])
def test_input(as_json, linear, tmp_path, mean, cov, suffix):
    """Mean W μ + b and covariance W Σ Wᵀ, for numbers and files of vectors and matrices."""
    words = []
    for name, value in (("mean", mean), ("cov", cov)):
        if isinstance(value, np.ndarray):
            path = tmp_path / f"{name}.{suffix}"
            np.save(path, value) if suffix == "npy" else np.savetxt(path, value, delimiter=",")
            words += [f"--input-{name}", path]
        elif value is not None:
            words += [f"--input-{name}", value]
    found = as_json(linear, "--cov", *words)
    mu = np.zeros(4) if mean is None else mean * np.ones(4)
    sigma = np.diag(cov * np.ones(4)) if np.ndim(cov) < 2 else cov
    expected = W[0] @ sigma @ W[0].T
    np.testing.assert_allclose(found["mean"], W[0] @ mu + B[0], rtol=1e-12)
    np.testing.assert_allclose(found["cov"], expected, rtol=1e-10, atol=1e-12 * np.max(cov))
    np.testing.assert_allclose(found["std"], np.sqrt(np.diag(expected)), rtol=1e-9)


def test_a_row_is_a_vector(as_json, linear, tmp_path):
    np.savetxt(tmp_path / "mean.csv", MEAN[None], delimiter=",")
    np.save(tmp_path / "mean.npy", MEAN[None])
    for name in ("mean.csv", "mean.npy"):
        found = as_json(linear, "--input-mean", tmp_path / name)
        np.testing.assert_allclose(found["mean"], W[0] @ MEAN + B[0], rtol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_degenerate_inputs_in_a_deep_network(as_json, net, order):
    """With next to no noise the mean is f(μ)."""
    network = cumprop.load(net)
    words = (net, "--input-mean", 1.0, "--order", order)
    exact = network.forward(np.ones((1, 4)))[0]
    for cov in (0.0, 1e-14, 1e-10):
        np.testing.assert_allclose(as_json(*words, "--input-cov", cov)["mean"], exact, atol=1e-8)


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("rank", [1, 2])
def test_rank_deficient_input(as_json, net, tmp_path, order, rank):
    """x = μ + A g gives what the network with weights W_0 A gives under standard normal g."""
    root = RNG.normal(size=(4, rank))
    np.save(tmp_path / "cov.npy", root @ root.T)
    np.save(tmp_path / "mean.npy", MEAN)
    words = ("--input-mean", tmp_path / "mean.npy", "--input-cov", tmp_path / "cov.npy")
    found = as_json(net, *words, "--order", order)
    small = cumprop.MLP([W[0] @ root, *W[1:]], [W[0] @ MEAN + B[0], *B[1:]], ["tanh", "relu"])
    expected = cumprop.estimate(small, "cumulant", order=order)
    np.testing.assert_allclose(found["mean"], expected.mean, rtol=1e-9)


# --- tails -------------------------------------------------------------------------------------


def test_tail_of_a_gaussian(as_json, linear):
    sd = np.sqrt((W[0] ** 2).sum(axis=1))
    found = as_json(linear, "--tail", "y > -3e-1")
    assert found["threshold"] == -0.3
    np.testing.assert_allclose(found["above"], ndtr((B[0] + 0.3) / sd), rtol=1e-10)
    certain = as_json(linear, "--tail", "y>-1e9")
    assert certain["above"] == [1.0] * 6
    assert found["flops"] > as_json(linear)["flops"]


def test_rare_events(run, as_json, linear):
    """Of a Gaussian output, exact; intervals stretched by two: a false alarm once in 10,000."""
    row, shift = W[0][0] - 2 * W[0][1], B[0][0] - 2 * B[0][1]
    t = shift + 5 * np.linalg.norm(row)
    words = (linear, "--tail", f"y0 - 2*y1 > {t}", "--tail-tolerance", 0.1)
    found = as_json(*words)
    [event] = found["events"]
    low, high = event["interval"]
    assert abs(event["probability"] - ndtr(-5.0)) < high - low <= 0.21 * event["probability"]
    [nearest, *_] = event["points"]
    np.testing.assert_allclose(nearest["input"], 5 * row / np.linalg.norm(row), atol=0.05)
    assert "above" not in found and found["flops"] > event["flops"]

    _, out, _ = run("estimate", *words)
    assert f"P(y0 - 2*y1 > {t}) = " in out and "likeliest input, 5 s.d. from the mean" in out
    _, out, _ = run("estimate", *words, "--format", "csv")
    frame = pd.read_csv(io.StringIO(out))
    for name, value in (("", event["probability"]), ("_low", low), ("_high", high)):
        np.testing.assert_allclose(frame[f"probability{name}"], value, rtol=1e-14)


@pytest.mark.slow
def test_rare_events_of_every_output(run, as_json, net):
    words = (net, "--tail", "y < 0.3", "--tail-tolerance", 0.3)
    found = as_json(*words)
    assert [event["event"] for event in found["events"]] == [f"y{i} < 0.3" for i in range(3)]
    assert found["below"] == [event["probability"] for event in found["events"]]
    ends = np.array([event["interval"] for event in found["events"]])
    np.testing.assert_array_equal(found["below_interval"], ends.T)
    same = cumprop.MLP(W, B, ["tanh", "relu"]).probability("y2 < 0.3", tolerance=0.3)
    assert found["below"][2] == same.probability
    _, out, _ = run("estimate", *words, "--format", "csv")
    frame = pd.read_csv(io.StringIO(out))
    np.testing.assert_allclose(frame["below_low"], ends[:, 0], rtol=1e-14)
    _, out, _ = run("estimate", *words)
    assert "P(y<0.3)" in out and out.count("likeliest input") <= 3


def test_adaptive_measures_tails_that_are_too_rare_for_its_samples(as_json, net):
    """The events of the same seed; tails that its samples know to 10% stay as they are."""
    words = (net, "--tail", "y < 0.3", "--tolerance", 0.05)
    found = as_json(*words)
    assert [event["event"] for event in found["events"]] == ["y2 < 0.3"]
    low, high = np.array(found["below_interval"])
    assert ((high - low)[:2] < 0.25 * np.array(found["below"])[:2]).all()
    network = cumprop.MLP(W, B, ["tanh", "relu"])
    assert found["below"][2] == network.probability("y2 < 0.3", budget=500_000).probability
    assert low[2] < found["below"][2] < high[2] < 1e-3


def test_both_tails(as_json, linear, tmp_path):
    """They add up to 1 where nothing is certain; a certain value is neither above nor below."""
    for estimator in ("cumulant", "monte_carlo"):
        above, below = (
            as_json(linear, "--tail", f"y{sign}0.5", "--estimator", estimator) for sign in "><"
        )
        np.testing.assert_allclose(np.add(above["above"], below["below"]), 1, rtol=1e-12)
        assert below["threshold"] == 0.5 and "above" not in below
        assert (below["below_stderr"] is None) == (estimator == "cumulant")
    cumprop.MLP([[[0.0, 0.0]]], [[2.0]]).save(tmp_path / "certain.npz")
    words = (tmp_path / "certain.npz", "--estimator", "monte_carlo")
    assert as_json(*words, "--tail", "y>2")["above"] == [0.0]
    assert as_json(*words, "--tail", "y<2")["below"] == [0.0]


def test_quantiles_of_a_gaussian(as_json, linear):
    """b + s.d. · Φ⁻¹(q), whatever the scale of the input, down to a constant."""
    for cov in (1.0, 1e-12, 1e6, 0.0):
        found = as_json(linear, "--tail-quantiles", "0.01, 0.5,0.999", "--input-cov", cov)
        sd = np.sqrt(cov * (W[0] ** 2).sum(axis=1))
        for q, thresholds in found["quantiles"].items():
            expected = B[0] + sd * ndtri(float(q))
            np.testing.assert_allclose(thresholds, expected, rtol=1e-12, atol=2e-6 * sd.max())
        assert list(found["quantiles"]) == ["0.01", "0.5", "0.999"]
    assert found["flops"] > as_json(linear)["flops"]


def test_quantiles_are_where_tails_are(as_json, net):
    """--tail at a quantile of 0.9 is 0.1, to the resolution of thresholds over the s.d."""
    found = as_json(net, "--tail-quantiles", "0.9", "--order", 3)
    for unit, threshold in enumerate(found["quantiles"]["0.9"]):
        above = as_json(net, "--tail", f"y>{threshold!r}", "--order", 3)["above"]
        assert above[unit] == pytest.approx(0.1, abs=3e-6)


def test_quantiles_of_samples(as_json, net):
    """Those of the very inputs that the estimate draws: 10 lie above the 0.99 quantile of 1000."""
    words = (net, "--estimator", "monte_carlo", "--n-samples", 1000, "--seed", 3)
    found = as_json(*words, "--tail-quantiles", "0.99")
    network = cumprop.load(net)
    inputs = Inputs(network).batches(streams.sampling(3, network.shape.width), 1000)
    y = np.sort(np.concatenate([network.forward(batch.x) for batch in inputs]), axis=0)
    sd = y.std(axis=0)
    np.testing.assert_allclose(found["quantiles"]["0.99"], y[-11], rtol=0, atol=3e-6 * sd.max())


@pytest.mark.slow
def test_far_quantiles_have_intervals(run, as_json, linear):
    """Of Gaussian outputs, exact; ends are four standard errors away: a false alarm in 1,000."""
    words = (linear, "--tail-quantiles", "0.9,0.999999999", "--tail-tolerance", 0.4)
    found = as_json(*words)
    sd = np.linalg.norm(W[0], axis=1)
    for q in ("0.9", "0.999999999"):
        low, high = np.array(found["quantile_intervals"][q])
        exact = B[0] + sd * ndtri(float(q))
        assert ((low < exact) & (exact < high) & (high - low < 2 * sd)).all()
    same = cumprop.MLP(W[:1], B[:1]).quantile("y1", 0.9, tolerance=0.4)
    assert found["quantiles"]["0.9"][1] == same.value and found["flops"] > same.flops.total
    _, out, _ = run("estimate", *words, "--format", "csv")
    frame = pd.read_csv(io.StringIO(out))
    np.testing.assert_allclose(frame["quantile_0.999999999_low"], low, rtol=1e-14)


@pytest.mark.slow
def test_adaptive_measures_quantiles_that_are_too_far_for_its_samples(as_json, net):
    """Tails that its samples know to 10% stay order statistics; more than ten are not measured."""
    words = (net, "--estimator", "adaptive", "--set", "tolerance=0.02")
    found = as_json(*words, "--tail-quantiles", "0.5,0.99999")
    network = cumprop.MLP(W, B, ["tanh", "relu"])
    far = network.quantile("y0", 0.99999, budget=500_000)
    assert found["quantiles"]["0.99999"][0] == far.value
    assert found["quantile_intervals"]["0.99999"][1][0] == far.interval[1]
    assert list(found["quantiles"]) == ["0.5", "0.99999"]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("monte_carlo", {"n_samples": 300}), ("adaptive", {"tolerance": 0.3}), ("blend", {})],
)
def test_a_seed_gives_the_same_numbers_here_in_the_library_and_in_a_sweep(
    as_json, tmp_path, name, parameters
):
    network = cumprop.random_mlp(width=12, depth=2, seed=0)
    network.save(tmp_path / "net.npz")
    sets = [word for key, value in parameters.items() for word in ("--set", f"{key}={value}")]
    means = {}
    for seed in (0, 3):
        words = (tmp_path / "net.npz", "--estimator", name, *sets, "--seed", seed)
        means[seed] = as_json(*words)["mean"]
        by_name = cumprop.estimate(network, name, cov=True, seed=seed, **parameters)
        backend = build(name, **parameters)
        instance = cumprop.estimate(network, backend, cov=True, seed=np.int64(seed))
        as_in_a_sweep = backend.estimate(network, cov=True, rng=streams.sampling(seed, 12, 0))
        for found in (by_name, instance, as_in_a_sweep):
            assert found.mean.tolist() == means[seed]
    assert backend.estimate(network, cov=True).mean.tolist() == means[0] != means[3]


@pytest.mark.slow
def test_quantiles_of_a_wide_network_by_sampling(as_json, tmp_path):
    """At width 64 the 0.9 and 0.99 quantiles of order 3 are 0.02 and 0.08 s.d. off, RMS.

    Those of 100,000 samples have noise of 0.005 and 0.012; the Gaussian ones are 0.23 off at 0.99.
    """
    network = cumprop.random_mlp(64, 3, 0)
    network.save(tmp_path / "wide.npz")
    found = as_json(tmp_path / "wide.npz", "--tail-quantiles", "0.9,0.99")
    x = np.random.default_rng(5).normal(size=(10**5, 64)).astype(np.float32)
    y = network.forward(x)
    mean, sd = np.array(found["mean"]), np.array(found["std"])
    missed = {}
    for q, thresholds in found["quantiles"].items():
        exact = np.quantile(y, float(q), axis=0)
        missed[q] = np.sqrt(np.mean(((np.array(thresholds) - exact) / sd) ** 2))
    assert missed["0.9"] < 0.04 and missed["0.99"] < 0.12
    gaussian = np.sqrt(np.mean(((mean + sd * ndtri(0.99) - exact) / sd) ** 2))
    assert missed["0.99"] < 0.5 * gaussian


def test_tail_by_sampling(as_json, net):
    """Six standard errors: a false alarm in 3e8 cases."""
    words = (net, "--tail", "y>0.2", "--estimator", "monte_carlo", "--n-samples", 20000)
    found = as_json(*words)
    x = np.random.default_rng(5).normal(size=(10**5, 4))
    share = (cumprop.load(net).forward(x) > 0.2).mean(axis=0)
    allowed = 6 * np.hypot(found["above_stderr"], np.sqrt(share * (1 - share) / len(x)))
    assert (np.abs(np.array(found["above"]) - share) <= allowed).all()
    cumulant = as_json(net, "--tail", "y>0.2", "--order", 3)
    assert cumulant["above_stderr"] is None
    np.testing.assert_allclose(cumulant["above"], share, atol=0.05)


def test_probabilities_stay_probabilities(as_json, net):
    for threshold in (-3, 3):
        above = np.array(as_json(net, "--tail", f"y>{threshold}", "--order", 4)["above"])
        assert ((above >= 0) & (above <= 1)).all()


# --- output ------------------------------------------------------------------------------------


def test_layers(as_json, net):
    expected = cumprop.estimate(cumprop.load(net), "cumulant", order=3)
    found = as_json(net, "--layers", "--order", 3)["layer_means"]
    assert [len(means) for means in found] == [6, 5]
    for means, exact in zip(found, expected.layer_means, strict=True):
        np.testing.assert_allclose(means, exact, rtol=1e-12)
    assert "layer_means" not in as_json(net)


def test_order_1_has_no_standard_deviation(as_json, net, run):
    words = (net, "--order", 1, "--kind", "ablated")
    found = as_json(*words)
    assert found["std"] is None and len(found["mean"]) == 3
    assert run("estimate", *words, "--cov")[0] == 1


def test_csv_and_parquet(run, as_json, net, tmp_path):
    words = (net, "--cov", "--layers", "--tail", "y>0", "--tail-quantiles", "0.9")
    expected = as_json(*words)
    _, out, err = run("estimate", *words, "--format", "csv")
    assert err.splitlines() == [expected["status"], err.splitlines()[1]]
    assert err.splitlines()[1].startswith("cumulant: ")
    path = tmp_path / "estimate.parquet"
    assert run("estimate", *words, "--format", "parquet", "--out", path)[:2] == (0, "")
    for frame in (pd.read_csv(io.StringIO(out)), pd.read_parquet(path)):
        assert list(frame)[:4] == ["layer", "unit", "mean", "std"]
        hidden, outputs = frame[frame.layer != "output"], frame[frame.layer == "output"]
        assert list(hidden.layer.astype(int)) == [1] * 6 + [2] * 5
        np.testing.assert_allclose(
            hidden["mean"], np.concatenate(expected["layer_means"]), rtol=1e-12
        )
        for column in ("mean", "std", "above"):
            np.testing.assert_allclose(outputs[column], expected[column], rtol=1e-12)
        assert set(outputs["status"]) == {expected["status"]} and hidden["status"].isna().all()
        np.testing.assert_allclose(outputs["quantile_0.9"], expected["quantiles"]["0.9"])
        np.testing.assert_allclose(outputs[["cov_0", "cov_1", "cov_2"]], expected["cov"], rtol=1e-9)


def test_table(run, net, tmp_path):
    code, out, _ = run("estimate", net, "--tail", "y>0.5", "--layers", "--out", tmp_path / "t.txt")
    assert (code, out) == (0, "")
    lines = (tmp_path / "t.txt").read_text().splitlines()
    assert lines[0].split() == ["output", "mean", "±", "95%", "s.d.", "P(y>0.5)"]
    assert lines[5] == "means of hidden units"
    assert lines[6].split() == ["layer", "units", "average", "smallest", "largest"]
    assert lines[7].split()[:2] == ["1", "6"]


# --- pictures ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize(
    ("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")]
)
def test_plot(run, net, tmp_path, suffix, start):
    path = tmp_path / f"check.{suffix}"
    code, out, err = run("estimate", net, "--plot", path)
    assert (code, err) == (0, "") and out.startswith("output")
    first = path.read_bytes()
    assert first.startswith(start)
    run("estimate", net, "--plot", path)
    assert path.read_bytes() == first


@pytest.mark.slow
@pytest.mark.parametrize("n_outputs", [1, 10, 256])
@pytest.mark.parametrize("known", ["nothing", "stderr", "half_width"])
def test_picture_shows_estimate_and_check(n_outputs, known):
    network = cumprop.MLP([RNG.normal(size=(n_outputs, 4))], [RNG.normal(size=n_outputs)])
    check = cumprop.estimate(network, "monte_carlo", cov=True, n_samples=1000)
    sampled = known != "nothing"
    given = {"n_samples": 500} if sampled else {"order": 2}
    name = "monte_carlo" if sampled else "cumulant"
    backend = build(name, **given)
    estimate = cumprop.estimate(network, backend)
    if known != "half_width":
        estimate = replace(estimate, half_width=None)
    half = 1.96 * estimate.stderr if sampled else 0
    if known == "half_width":
        half = 2.5 * estimate.stderr
        estimate = replace(estimate, half_width=half)
    figure = drawn(sampled_check, network, backend, estimate, check)
    left, right = figure.axes
    ours, theirs = (bars.lines[0].get_ydata() for bars in left.containers)
    if sampled:
        np.testing.assert_allclose(_lengths(left.containers[0]), 2 * half)
    np.testing.assert_array_equal(ours, estimate.mean)
    np.testing.assert_array_equal(theirs, check.mean)
    (bars,) = right.containers
    sd = np.sqrt(np.diag(check.cov))
    np.testing.assert_allclose(bars.lines[0].get_ydata(), (estimate.mean - check.mean) / sd)
    both = np.hypot(check.half_width, half)
    np.testing.assert_allclose(_lengths(bars), 2 * both / sd)
    said = words(figure)
    for part in (f"4-{n_outputs} network", "input N(0, I)", "1,000 independent", backend.label):
        assert part in said
    assert ("and those of the estimate" in said) == sampled
    lowest = min(text.get_window_extent().y0 for text in figure.texts)
    assert lowest >= 0
    assert_legible(figure)


def _lengths(bars):
    ends = np.array([end[:, 1] for end in bars.lines[2][0].get_segments()])
    return ends[:, 1] - ends[:, 0]


# --- networks of other libraries, and mistakes -------------------------------------------------


def test_models_of_other_libraries(as_json, net, tmp_path):
    save = pytest.importorskip("safetensors.numpy", reason="pip install safetensors").save_file
    arrays = {f"{i}.weight": w for i, w in enumerate(W)} | {f"{i}.bias": b for i, b in enumerate(B)}
    save(arrays, tmp_path / "net.safetensors")
    found = as_json(tmp_path / "net.safetensors", "--activations", "tanh, relu")
    np.testing.assert_allclose(found["mean"], as_json(net)["mean"], rtol=1e-12)


def test_notes_on_the_network_stand_on_stderr(run, net, monkeypatch):
    read, (_, expected, _) = npz.read, run("estimate", net, "--format", "csv")

    def noted(path):
        parts = read(path)
        parts.notes.append("its final Softmax is left off")
        return parts

    monkeypatch.setattr(npz, "read", noted)
    code, out, err = run("estimate", net, "--format", "csv")
    assert (code, out) == (0, expected)
    assert err.splitlines()[0] == f"note: {net}: its final Softmax is left off"


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (("--tail", "y=3"), 2, "--tail 'y=3': write 'y>3' or 'y<3', with a number"),
        (("--tail", "y>big"), 2, "--tail 'y>big': write"),
        (("--tail", "y>nan"), 2, "--tail 'y>nan': write"),
        (("--tail", "y0-y1>0"), 2, "--tail 'y0-y1>0': write 'y>3' or 'y<3', with a number; other"),
        (("--tail", "y9>0", "--tail-tolerance", "1"), 2, "--tail: event 'y9>0': the outputs are"),
        (("--tail-tolerance", "0.1"), 2, "--tail-tolerance: name the event, as in --tail 'y0>3'"),
        (("--tail-quantiles", "0.9,1"), 2, "--tail-quantiles '0.9,1': give probabilities between"),
        (("--tail-quantiles", "90%"), 2, "--tail-quantiles '90%': give probabilities between 0"),
        (
            ("--tail-quantiles", "0.9", "--order", "1", "--kind", "ablated"),
            1,
            "quantiles need standard deviations, which this estimator does not give; take",
        ),
        (
            ("--tail", "y<0", "--estimator", "linearized"),
            1,
            "linearized: heaviside has no slope; take unscented, gaussian or cumulant",
        ),
        (("--plot", "a.gif"), 2, "--plot a.gif: give a file that ends with .png, .svg, .pdf"),
        (("--format", "parquet"), 2, "--format parquet: name a file, as in --out"),
        (("--activations", "relu"), 1, "{net}: it names its activations itself"),
        (("--input-mean", "nope.npy"), 1, "--input-mean nope.npy: cannot be read: No such file"),
        (("--input-cov", "{net}"), 1, "--input-cov {net}: give a number, a .npy file"),
        (("--input-cov", "{pickled}"), 1, "--input-cov {pickled}: give a number, a .npy file"),
        (("--input-cov", "{huge}"), 1, "--input-cov {huge}: give a number, a .npy file"),
        (("--input-cov", "{empty}"), 1, "--input-cov {empty}: give a number, a .npy file"),
        (("--input-mean", "{words}"), 1, "--input-mean {words}: give a number, a .npy file"),
        (("--input-mean", "{short}"), 1, "{net}: input_mean has shape (2,); give (4,)"),
        (("--input-cov", "{short}"), 1, "{net}: input_cov has shape (2,); give (4, 4)"),
        (("--input-cov", "-1"), 1, "{net}: input_cov has the negative eigenvalue -1"),
        (("--input-mean", "inf"), 1, "{net}: input_mean contains NaN or infinite entries"),
    ],
)
def test_a_mistake_is_one_line(run, net, tmp_path, words, code, line):
    places = {name: tmp_path / f"{name}.npy" for name in ("pickled", "huge")}
    places |= {name: tmp_path / f"{name}.csv" for name in ("empty", "words", "short")} | {
        "net": net
    }
    np.save(places["pickled"], np.array([None] * 4), allow_pickle=True)
    with places["huge"].open("wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (10**9, 10**9)}
        np.lib.format.write_array_header_1_0(file, header)
    places["empty"].touch()
    places["words"].write_text("mean\n1\n2\n3\n4\n")
    places["short"].write_text("1,2\n")
    found, out, err = run("estimate", net, *(word.format(**places) for word in words))
    assert (found, out) == (code, "")
    assert err.startswith(line.format(**places)), err
    assert len(err.splitlines()) == 1
