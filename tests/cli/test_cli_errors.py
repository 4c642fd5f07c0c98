"""`cumprop estimate` shows the error of every number, and says what is unreliable."""

import io
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import cumprop
from cumprop.cli.report import of
from cumprop.contract.plugins import temporary_plugins

CLAIMING = """
from dataclasses import dataclass, replace
from typing import ClassVar
import numpy as np
from cumprop.contract import register
from cumprop.estimators.cumulant import Cumulant

@register("claiming")
@dataclass(frozen=True)
class Claiming(Cumulant):
    version: ClassVar[int] = 1
    status: str = "ok"
    negative: bool = False

    def estimate(self, network, *, cov=False, rng=None):
        found = super().estimate(network, cov=cov)
        cov = -found.cov if self.negative and found.cov is not None else found.cov
        return replace(
            found, cov=cov, status=self.status, half_width=np.full(len(found.mean), 0.0123),
            expected_error=0.0045, expected_std_error=0.067,
        )
"""
DOUBT = "unreliable: few directions carry layer 2; take adaptive"


@pytest.fixture
def net(tmp_path):
    path = tmp_path / "net.npz"
    network = cumprop.random_mlp(width=8, depth=2, seed=0, dtype="float64")
    network.replace(weights=[*network.weights[:-1], network.weights[-1][:3]]).save(path)
    return path


@pytest.fixture
def claiming(net, tmp_path):
    """Words that estimate with a backend which makes claims of its errors."""
    (tmp_path / "claiming.py").write_text(CLAIMING)
    with temporary_plugins():
        yield (net, "--plugin", tmp_path / "claiming.py", "--estimator", "claiming")


def test_every_number_has_its_error(run, as_json, claiming):
    found = as_json(*claiming)
    assert (found["expected_error"], found["expected_std_error"]) == (0.0045, 0.067)
    assert found["half_width"] == [0.0123] * 3
    code, out, err = run("estimate", *claiming)
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0].split() == ["output", "mean", "±", "95%", "s.d."]
    for line, mean, std in zip(lines[1:4], found["mean"], found["std"], strict=True):
        decimals = 1 - int(np.floor(np.log10(0.067 * std)))
        assert line.split()[1:] == [f"{mean:.3f}", "±", "0.012", f"{std:.{decimals}f}"]
    assert "; expected error 0.0045 output s.d., of the s.d. 6.7%; status: ok" in lines[-1]
    frame = pd.read_csv(io.StringIO(run("estimate", *claiming, "--format", "csv")[1]))
    assert set(frame["expected_error"]) == {0.0045} and set(frame["status"]) == {"ok"}
    assert set(frame["expected_std_error"]) == {0.067} and set(frame["half_width"]) == {0.0123}


@pytest.mark.parametrize("form", ["table", "json", "csv", "parquet"])
@pytest.mark.parametrize("to_file", [False, True])
def test_what_is_unreliable_is_said_once_on_the_screen(run, claiming, tmp_path, form, to_file):
    """On a line of its own, above the cost, and it exits with 0; JSON has it on stderr as well."""
    words = ["--set", f"status={json.dumps(DOUBT)}", "--format", form]
    path = tmp_path / f"estimate.{form}"
    if to_file or form == "parquet":
        words += ["--out", path]
    code, out, err = run("estimate", *claiming, *words)
    assert code == 0
    screen = err.splitlines() if form != "table" or to_file else out.splitlines()
    assert screen.count(DOUBT) == 1
    if form == "table" and not to_file:
        assert err == "" and screen[-2] == DOUBT
    if path.exists():
        content = pd.read_parquet(path) if form == "parquet" else path.read_text()
        assert DOUBT in (set(content["status"]) if form == "parquet" else content)


def test_a_negative_variance_has_no_standard_deviation(run, as_json, claiming):
    words = (*claiming, "--set", "negative=true")
    assert as_json(*words)["std"] == [None] * 3
    out = run("estimate", *words)[1].splitlines()
    assert [line.split()[-1] for line in out[1:4]] == ["none"] * 3


def test_tails_and_quantiles_that_are_not_sampled_are_unreliable(as_json, net):
    for words in (("--tail", "y>0.5"), ("--tail", "y<0.5"), ("--tail-quantiles", "0.9")):
        found = as_json(net, "--order", 3, *words)
        assert found["status"].startswith("unreliable: ")
        assert "a tail probability that is not sampled" in found["status"]
        assert found["status"].count("take monte_carlo or adaptive") == 1
        assert found.get("above_interval") is None and found.get("below_interval") is None
        sampled = as_json(net, "--estimator", "monte_carlo", "--n-samples", 500, *words)
        assert sampled["status"] == "ok"


def test_sampled_tails_have_intervals(run, as_json, net):
    """0 of 500 inputs leave up to 1 - 0.05^(1/500)."""
    words = (net, "--estimator", "monte_carlo", "--n-samples", 500)
    found = as_json(*words, "--tail", "y>-0.2")
    low, high = map(np.array, found["above_interval"])
    assert (low < found["above"]).all() and (found["above"] < high).all()
    assert (high - low < 0.1).all()
    never = as_json(*words, "--tail", "y<-1000", "--format", "json")
    assert never["below"] == [0] * 3 and never["below_interval"][0] == [0] * 3
    np.testing.assert_allclose(never["below_interval"][1], 1 - 0.05 ** (1 / 500))
    line = run("estimate", *words, "--tail", "y<-1000")[1].splitlines()[1]
    assert line.endswith("0.0000 (0.0000 to 0.0060)")
    _, out, _ = run("estimate", *words, "--tail", "y>-0.2", "--format", "csv")
    frame = pd.read_csv(io.StringIO(out))
    np.testing.assert_allclose(frame[["above_low", "above_high"]].T, [low, high])


def test_doubts_come_before_notes():
    fine = cumprop.Estimate(np.zeros(1), ())
    note, doubt = replace(fine, status="sampled 64 inputs"), replace(fine, status=DOUBT)
    assert of("x", note, [fine, doubt])["status"] == f"{DOUBT}; sampled 64 inputs"
    again = replace(fine, status=f"{DOUBT}; sampled 64 inputs")
    assert of("x", note, [again, doubt])["status"] == f"{DOUBT}; sampled 64 inputs"
    assert of("x", fine, [fine])["status"] == "ok"
