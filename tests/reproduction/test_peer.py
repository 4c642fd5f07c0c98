"""The comparison with a checkout of another implementation: its wiring and its refusals.

The checkout here is a made-up one, whose propagation is that of order 1.
"""

import json
import sys

import numpy as np
import pytest

from cumprop.cli import main
from cumprop.errors import CumpropError
from cumprop.estimators.cumulant import Cumulant
from cumprop.networks import random_mlp
from cumprop.sweep.rates import Effort

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")

from cumprop.reproduction import peer  # noqa: E402  (needs PyTorch)

pytestmark = pytest.mark.torch

NETWORKS = """
from torch import nn

class MLP(nn.Module):
    def __init__(self, input_dim, hidden_dim, output_dim, num_layers):
        super().__init__()
        maps = [nn.Linear(hidden_dim, hidden_dim, bias=False) for _ in range(num_layers)]
        self.Ws = nn.ModuleList(maps)
"""
PROPAGATION = """
import torch

calls = []

class Tensor:
    def __init__(self, core):
        self.core = core

    def to_tensor(self):
        return self.core

def mlp_kprop(mlp, K_in, k_max, factor=False):
    assert not torch.is_grad_enabled() and torch.get_num_threads() == 1
    calls.append((k_max, factor))
    mean, var = K_in[1], K_in[2].diagonal()
    for layer, linear in enumerate(mlp.Ws):
        mean, var = linear.weight @ mean, (1 if layer == 0 else 2) * var.mean().expand(len(var))
        if layer < len(mlp.Ws) - 1:
            s, a = var.sqrt(), mean / var.sqrt()
            cdf, pdf = torch.special.ndtr(a), torch.exp(-a * a / 2) / (2 * torch.pi) ** 0.5
            mean, second = mean * cdf + s * pdf, (mean**2 + var) * cdf + mean * s * pdf
            var = second - mean**2
    return {1: Tensor(SCALE * mean)}
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Writes a checkout whose means are those of order 1, times a factor."""

    def written(scale=1.0, networks=NETWORKS):
        package = tmp_path / "peer" / "src" / "mlp_kprop"
        package.mkdir(parents=True)
        (package / "mlp.py").write_text(networks)
        (package / "kprop_harmonic.py").write_text(PROPAGATION.replace("SCALE", str(scale)))
        return tmp_path / "peer"

    yield written
    for name in [name for name in sys.modules if name.partition(".")[0] == "mlp_kprop"]:
        del sys.modules[name]


def test_both_sides_take_turns(checkout, tmp_path, capsys):
    before, threads = list(sys.path), torch.get_num_threads()
    path, stored = checkout(), tmp_path / "bench.json"
    words = ["bench", "--peer", str(path), "--width", "16", "--depth", "2", "--order", "1"]
    assert main([*words, "--quick", "--json", str(stored)]) == 0
    assert (sys.path, torch.get_num_threads()) == (before, threads)
    (entry,) = json.loads(stored.read_text())["orders"]
    calls = sys.modules["mlp_kprop.kprop_harmonic"].calls
    assert set(calls) == {(1, False)} and len(calls) == entry["rounds"] + 2
    assert entry["difference"] < 1e-5
    assert entry["ratio_low"] <= entry["ratio"] <= entry["ratio_high"]
    assert f"{entry['ratio']:.3g}" in capsys.readouterr().out


def test_the_twin_has_the_weights_of_the_network(checkout):
    network = random_mlp(width=16, depth=3, seed=0)
    with peer._one_thread(), torch.no_grad():
        found = peer.mean_of(checkout(), network, order=3)()
    assert np.allclose(found, Cumulant(1, metric="average").estimate(network).mean, atol=1e-5)
    assert sys.modules["mlp_kprop.kprop_harmonic"].calls == [(3, True)]


def test_other_means_are_refused(checkout):
    with pytest.raises(
        CumpropError, match=r"are off by 0\.00\d of their scale: check out revision"
    ):
        compared(checkout(scale=1.002))


def compared(path):
    return peer.compare(path, [1], [(8, 1)], Effort(0.0, 1))


def test_what_is_no_checkout_is_refused(checkout, tmp_path):
    with pytest.raises(CumpropError, match="has no src/mlp_kprop: give --peer a checkout of"):
        compared(tmp_path)
    with pytest.raises(CumpropError, match=r"No module named 'missing_package'.*: use the Python"):
        compared(checkout(networks="import missing_package"))


@pytest.mark.parametrize(
    "words",
    [["--order", "5"], ["--estimator", "gaussian"], ["--threads", "2"], ["--device", "cpu"]],
)
def test_only_orders_are_compared(tmp_path, words, capsys):
    assert main(["bench", "--peer", str(tmp_path), *words]) == 2
    assert "--peer compares orders 1 to 4" in capsys.readouterr().err


def test_pytorch_is_needed(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["bench", "--peer", str(tmp_path)]) == 1
    assert "--peer needs PyTorch: pip install" in capsys.readouterr().err
