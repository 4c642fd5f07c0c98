"""`cumprop estimate --classes --certify --expect`: what the library says, in every format."""

import io

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtr

import cumprop

W = [np.array([[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]])]
B = [np.array([2.0, 0.0, -1.0])]


@pytest.fixture
def linear(tmp_path):
    path = tmp_path / "linear.npz"
    cumprop.MLP(W, B, []).save(path)
    return path


@pytest.fixture
def bent(tmp_path):
    path = tmp_path / "bent.npz"
    made = cumprop.random_mlp(24, 2, 0, dtype="float64")
    made.replace(weights=[*made.weights[:-1], made.weights[-1][:3]]).save(path)
    return path


def test_the_library_says_the_same(as_json, linear):
    found = as_json(linear, "--classes", "--expect", "max", "--expect", "squared:1,0,2")
    network = cumprop.MLP(W, B, [])
    assert found["classes"]["probabilities"] == (
        cumprop.class_probabilities(network).probabilities.tolist()
    )
    squared = cumprop.expected(network, "squared", target=[1.0, 0.0, 2.0])
    assert found["expected"]["squared:1,0,2"]["value"] == squared.value
    assert found["expected"]["max"]["name"] == "max y"
    assert found["flops"] > found["classes"]["flops"]


def test_two_classes_and_a_certificate(as_json, tmp_path):
    """P = Φ(2/5); the radius is at most that distance, 0.4, times σ / σ."""
    cumprop.MLP([W[0][:2]], [B[0][:2]], []).save(tmp_path / "two.npz")
    found = as_json(tmp_path / "two.npz", "--classes", "--certify", "--tolerance", 0.01)["classes"]
    assert found["probabilities"][0] == pytest.approx(ndtr(0.4), abs=1e-3)
    assert 0.3 < found["certificate"]["radius"] <= 0.4
    assert found["n_samples"] is None


def test_tolerance_is_that_of_the_questions(as_json, bent):
    found = as_json(bent, "--classes", "--expect", "min", "--tolerance", 0.01)
    assert found["estimator"] == "cumulant"
    assert found["n_samples"] is None  # of the means
    assert found["classes"]["n_samples"] == 9704
    assert found["expected"]["min"]["half_width"] <= 0.01 * found["expected"]["min"]["deviation"]


def test_table(run, bent):
    code, out, err = run("estimate", bent, "--classes", "--certify", "--expect", "cross-entropy:2")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0].split()[-2:] == ["P(class)", "softmax"]
    assert lines[1].count("(") == 2
    assert any(line.startswith("E[cross-entropy of class 2] = ") for line in lines)
    assert any("certificate" in line or line.startswith("certified: class") for line in lines)


def test_csv(run, bent):
    _, out, _ = run("estimate", bent, "--classes", "--expect", "max", "--format", "csv")
    frame = pd.read_csv(io.StringIO(out))
    assert frame["class_probability"].sum() == pytest.approx(1)
    assert (frame["class_probability_low"] <= frame["class_probability"]).all()
    assert (frame["softmax"] <= frame["softmax_high"]).all()
    assert frame["expected_max"].nunique() == 1


def test_order_2_says_what_it_lacks(run, bent):
    code, out, _ = run("estimate", bent, "--classes", "--expect", "max", "--order", 2)
    assert code == 0
    assert "unreliable: outputs are taken as Gaussian, because cumulant order=2" in out


def test_targets_in_files(as_json, linear, tmp_path):
    np.save(tmp_path / "goal.npy", np.array([1.0, 0.0, 2.0]))
    path = f"squared:{tmp_path / 'goal.npy'}"
    one, other = (as_json(linear, "--expect", w)["expected"][w] for w in (path, "squared:1,0,2"))
    assert one["value"] == other["value"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--certify"], "--certify certifies a class; give --classes, too"),
        (["--expect", "mode"], "--expect mode: write max, min, cross-entropy:CLASS or squared"),
        (["--expect", "max:1"], "--expect max:1: write max, min"),
        (["--expect", "cross-entropy:a"], "--expect cross-entropy:a: write max"),
        (["--expect", "squared:nothing.npy"], "--expect squared:nothing.npy: write max"),
    ],
)
def test_words_that_are_none(run, linear, words, says):
    code, _, err = run("estimate", linear, *words)
    assert code == 2
    assert says in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--expect", "cross-entropy:3"], "target is 3; give a class from 0 to 2"),
        (
            ["--expect", "squared:1,2"],
            "the target has shape (2,); give (3,) finite numbers, or one",
        ),
        (["--classes", "--certify", "--input-box", "0:1"], "needs equal Gaussian noise"),
        (["--classes", "--estimator", "adaptive"], "adaptive samples: take cumulant"),
    ],
)
def test_what_does_not_fit(run, linear, words, says):
    code, _, err = run("estimate", linear, *words)
    assert code == 1
    assert says in err
