"""The benchmark on a device: its arithmetic, its report and its refusals. No time is tested."""

import json

import numpy as np
import pytest

from cumprop.cli import main
from cumprop.estimators.cumulant import Cumulant
from cumprop.networks import random_mlp
from cumprop.reproduction.reference_scores import KnownErrors
from cumprop.sweep.rates import Effort

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")

from cumprop.reproduction import device, device_benchmark  # noqa: E402  (need PyTorch)

pytestmark = [pytest.mark.torch, pytest.mark.slow]

BRIEF = Effort(0.01, 1)
HOST = device.Device("cpu")
DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    ),
]


def errors(widths, order=2, exponent=-2.0):
    """Made-up errors n^exponent of one order."""
    common = {"depth": 2, "readout": "output", "activation": "relu", "init": "he"}
    common |= {"dtype": "float32", "estimator": "cumulant", "order": float(order)}
    common |= {"kind": "basic", "truncation": "corrected", "resolved": True}
    return KnownErrors("made up", [common | {"width": w, "y": w**exponent} for w in widths], [])


@pytest.mark.parametrize("name", DEVICES)
def test_a_report(name):
    estimators, shapes = [Cumulant(2), Cumulant(3, "tree")], [(8, 2), (16, 2)]
    place = device.Device(name)
    report = device_benchmark.run(place, estimators, shapes, BRIEF, errors([8, 16]))
    json.dumps(report, allow_nan=False)
    assert [entry["width"] for entry in report["sampling"]] == [8, 16]
    for entry in report["estimators"]:
        assert entry["note"] is None
        assert entry["seconds"] > 0 and entry["gradient_seconds"] > 0
        assert entry["float64_error"] < 1e-9
        assert 0 < entry["rounding_vn_mse"] < 1e-9
        network = random_mlp(entry["width"], 2, 0)
        tensors = device.on_device(network, place, torch.float32)
        order = Cumulant(3, "tree") if "tree" in entry["label"] else Cumulant(2)
        assert entry["flops"] == order.estimate(tensors).flops.total
    second, tree = report["estimators"][:2]
    assert tree["ratio_iid"] is tree["vn_mse"] is None
    rival = report["sampling"][0]
    passes = 1 / second["vn_mse"]
    wanted = passes / rival["passes_per_second"] / second["seconds"]
    assert second["ratio_iid"] == pytest.approx(wanted)
    wanted = passes / rival["gradients_per_second"] / second["gradient_seconds"]
    assert second["ratio_gradient"] == pytest.approx(wanted)


def test_errors_of_wider_networks_follow_the_law():
    known, problem = errors([16, 64, 128, 256]), {"width": 1024, "depth": 2}
    problem |= {name: known.points[0][name] for name in ("readout", "activation", "init", "dtype")}
    vn_mse, extrapolated = device_benchmark._known(known, Cumulant(2), problem)
    assert (vn_mse, extrapolated) == (pytest.approx(1024**-2.0), True)
    assert device_benchmark._known(known, Cumulant(2), problem | {"width": 64}) == (64**-2.0, False)
    assert device_benchmark._known(known, Cumulant(2), problem | {"width": 100}) is None
    assert device_benchmark._known(known, Cumulant(3), problem) is None


def test_sampling_runs_the_network():
    network = random_mlp(width=16, depth=2, seed=0)
    weights = list(device.on_device(network, HOST, torch.float32).weights)
    x = np.random.default_rng(0).normal(size=(20_000, 16)).astype(np.float32)
    found, wanted = device.forward(weights, torch.tensor(x)).numpy(), network.forward(x)
    assert np.allclose(found, wanted, atol=1e-5)
    rival = device.sampling(HOST, network, BRIEF)
    assert rival["variance"] == pytest.approx(wanted.var(axis=0).mean(), rel=0.1)


def test_memory_is_predicted_before_it_is_taken(monkeypatch):
    monkeypatch.setattr(device.Device, "free", lambda self: 1e4)
    report = device_benchmark.run(HOST, [Cumulant(2)], [(64, 2)], BRIEF, None)
    (entry,) = report["estimators"]
    assert entry["seconds"] is None
    assert entry["note"].startswith("needs ")


def test_precision_is_put_back():
    with device.tf32(True):
        assert torch.get_float32_matmul_precision() == "high"
        with device.tf32(False):
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"


def test_the_command(tmp_path, capsys):
    path = tmp_path / "device.json"
    words = ["bench", "--device", "cpu", "--width", "8", "--depth", "1", "--order", "2", "--quick"]
    assert main([*words, "--json", str(path)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("CPU, PyTorch")
    assert "cumulant order=2" in printed
    assert json.loads(path.read_text())["schema_version"] == device_benchmark.SCHEMA_VERSION


@pytest.mark.parametrize("name", ["nonsense", "meta"])
def test_unknown_devices_are_refused(name, capsys):
    assert main(["bench", "--device", name, "--order", "1"]) == 1
    assert f"device {name}: " in capsys.readouterr().err
