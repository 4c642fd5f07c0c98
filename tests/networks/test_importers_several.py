"""Weights alone: what is one network, what are several, and which way a matrix lies."""

from itertools import pairwise

import numpy as np
import pytest
from helpers.sources import refusal

import cumprop
from cumprop.cli import main

RNG = np.random.default_rng(0)


def layers(shapes):
    """Weights and biases of linear layers by name, (out, in)."""
    found = {}
    for name, (n_out, n_in) in shapes.items():
        found[f"{name}.weight"] = RNG.normal(size=(n_out, n_in)).astype("f4")
        found[f"{name}.bias"] = RNG.normal(size=n_out).astype("f4")
    return found


def save(arrays, path):
    library = pytest.importorskip("safetensors.numpy", reason="pip install safetensors")
    library.save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, path)
    return path


ONE = {
    "numbers": {"0": (8, 4), "2": (8, 8), "4": (4, 8)},
    "a nested prefix": {"model.net.0": (8, 8), "model.net.2": (8, 8)},
    "an actor alone": {"actor.mu.0": (4, 4), "actor.mu.2": (4, 4), "actor.mu.4": (4, 4)},
    "names of layers": {"fc1": (8, 4), "fc2": (8, 8), "out": (2, 8)},
    "squares": {"fc1": (8, 8), "fc2": (8, 8), "out": (8, 8)},
    "parts": {"features.0": (8, 4), "features.2": (6, 8), "classifier.0": (5, 6),
              "classifier.2": (2, 5)},
    "an autoencoder": {"encoder.0": (8, 16), "encoder.2": (3, 8), "decoder.0": (8, 3),
                       "decoder.2": (16, 8)},
    "a body and a head": {"latent_pi.0": (8, 4), "latent_pi.2": (8, 8), "mu": (2, 8)},
    "a layer in each block": {f"layers.{k}.linear": (8, 8) for k in range(12)},
    "blocks of two": {"block0.fc1": (8, 4), "block0.fc2": (6, 8), "block1.fc1": (8, 6),
                      "block1.fc2": (4, 8)},
}  # fmt: skip


@pytest.mark.parametrize("case", ONE)
def test_one_network_is_read(case, tmp_path):
    arrays = layers(ONE[case])
    network = cumprop.load(arrays, activations="tanh")
    for name, w, b in zip(ONE[case], network.weights, network.biases, strict=True):
        np.testing.assert_array_equal(w, arrays[f"{name}.weight"])
        np.testing.assert_array_equal(b, arrays[f"{name}.bias"])
    if case not in ("squares", "blocks of two"):  # the file keeps no order
        parts = ["encoder", "decoder"] if case == "an autoencoder" else None
        path = save(arrays, tmp_path / "a.safetensors")
        again = cumprop.load(path, activations="tanh", prefix=parts)
        np.testing.assert_array_equal(again.forward(np.ones(network.widths[0])), network.forward(
            np.ones(network.widths[0])))  # fmt: skip


SEVERAL = {
    "online and target": (
        {"q_net.0": (8, 4), "q_net.2": (4, 8), "q_net_target.0": (8, 4), "q_net_target.2": (4, 8)},
        "q_net (4-8-4), q_net_target (4-8-4)",
    ),
    "actor and critic": (
        {"actor.0": (8, 4), "actor.2": (4, 8), "critic.0": (8, 4), "critic.2": (1, 8)},
        "actor (4-8-4), critic (4-8-1)",
    ),
    "that do not chain": (
        {"actor.0": (8, 4), "actor.2": (2, 8), "critic.0": (8, 4), "critic.2": (1, 8)},
        "actor (4-8-2), critic (4-8-1)",
    ),
    "two heads": (
        {"body": (8, 4), "mean": (8, 8), "logvar": (8, 8)},
        "body (4-8), mean (8-8), logvar (8-8)",
    ),
    "numbered heads": (
        {"body": (8, 4), "heads.0": (8, 8), "heads.1": (8, 8)},
        "body (4-8), heads.0 (8-8), heads.1 (8-8)",
    ),
    "head1, head2": ({"head1": (8, 8), "head2": (8, 8)}, "head1 (8-8), head2 (8-8)"),
    "twin critics": (
        {"qf0.0": (8, 8), "qf0.2": (8, 8), "qf1.0": (8, 8), "qf1.2": (8, 8)},
        "qf0 (8-8-8), qf1 (8-8-8)",
    ),
    "net1 and net2": (
        {"net1.0": (8, 4), "net1.2": (4, 8), "net2.0": (8, 4), "net2.2": (4, 8)},
        "net1 (4-8-4), net2 (4-8-4)",
    ),
    "a moving average": (
        {"model.0": (8, 4), "model.2": (4, 8), "model_ema.0": (8, 4), "model_ema.2": (4, 8)},
        "model (4-8-4), model_ema (4-8-4)",
    ),
    "a moving average of named layers": (
        {"fc1": (8, 4), "fc2": (4, 8), "ema.fc1": (8, 4), "ema.fc2": (4, 8)},
        "fc (4-8-4), ema.fc (4-8-4)",
    ),
    "generator and discriminator": (
        {"generator.0": (8, 3), "generator.2": (6, 8), "discriminator.0": (8, 6),
         "discriminator.2": (1, 8)},
        "generator (3-8-6), discriminator (6-8-1)",
    ),
    "experts": (
        {"experts.0.fc": (8, 8), "experts.1.fc": (8, 8)},
        "experts.0.fc (8-8), experts.1.fc (8-8)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SEVERAL)
def test_several_networks_are_refused_and_one_can_be_chosen(case, tmp_path, capsys):
    shapes, found = SEVERAL[case]
    arrays = layers(shapes)
    path = save(arrays, tmp_path / "a.safetensors")
    for source in (arrays, path):
        message = refusal(source, activations="relu")
        assert "several networks" in message and "--prefix" in message
        assert sorted(found.split(", ")) == sorted(
            message.partition("networks, ")[2].partition(";")[0].split(", ")
        )
    prefix = found.partition(" (")[0]
    wanted = [w for name, w in arrays.items() if name.startswith(prefix) and "weight" in name]
    if case in ("online and target", "a moving average"):
        wanted = wanted[:2]
    for source in (arrays, path):
        network = cumprop.load(source, activations="relu", prefix=prefix)
        for a, b in zip(network.weights, wanted, strict=True):
            np.testing.assert_array_equal(a, b)
    command = ["estimate", str(path), "--activations", "relu", "--prefix", prefix]
    assert main([*command, "--format", "json"]) == 0, capsys.readouterr().err


def test_parts_that_follow_each_other():
    shapes, _ = SEVERAL["two heads"]
    arrays = layers(shapes) | {"log_std": np.zeros(8), "epoch": np.array(3)}
    network = cumprop.load(arrays, activations="relu", prefix=["body", "logvar"])
    np.testing.assert_array_equal(network.weights[1], arrays["logvar.weight"])
    assert network.biases[1] is not None and network.depth == 1
    both = cumprop.load(layers(SEVERAL["actor and critic"][0]), "relu", prefix=["actor", "critic"])
    assert both.widths == (4, 8, 4, 8, 1)


def test_prefixes_that_choose_nothing(tmp_path):
    arrays = layers(SEVERAL["two heads"][0])
    assert "prefix tail stands for no array; names are body" in refusal(arrays, prefix="tail")
    assert "prefix mean stands twice" in refusal(arrays, prefix=["mean", "mean"])
    cumprop.MLP([np.eye(2)]).save(tmp_path / "a.npz")
    assert "a prefix is for state dicts" in refusal(tmp_path / "a.npz", prefix="a")


@pytest.mark.parametrize("widths", [(8, 8, 8, 8), (5, 8, 7, 3)])
def test_kernels_are_turned_as_their_name_says(widths, tmp_path):
    shapes = list(pairwise(widths))
    kernels = [RNG.normal(size=s).astype("f4") for s in shapes]
    arrays = {f"params.Dense_{k}.kernel": w for k, w in enumerate(kernels)}
    arrays |= {f"params.Dense_{k}.bias": np.full(n, k, "f4") for k, n in enumerate(widths[1:])}
    x = RNG.normal(size=(5, widths[0]))
    expected = x
    for k, w in enumerate(kernels):
        expected = np.tanh(expected) @ w + k if k else expected @ w
    for source in (arrays, save(arrays, tmp_path / "a.safetensors")):
        network = cumprop.load(source, activations="tanh")
        np.testing.assert_allclose(network.forward(x), expected, rtol=1e-4, atol=1e-4)


def test_order_against_numbers():
    """Twelve layers sorted as words: 0, 1, 10, 11, 2, …"""
    names = sorted(map(str, range(12)))
    message = refusal(layers(dict.fromkeys(names, (8, 8))), activations="relu")
    assert "the numbers in names contradict the order" in message
    widths = dict(zip(map(str, range(12)), range(3, 15), strict=True))
    arrays = layers({name: (widths[name] + 1, widths[name]) for name in names})
    assert cumprop.load(arrays, activations="relu").widths == tuple(range(3, 16))
    up = layers({"up3": (6, 8), "up2": (5, 6), "up1": (4, 5)})
    assert cumprop.load(up, activations="relu").widths == (8, 6, 5, 4)


@pytest.mark.parametrize(
    ("others", "name"),
    [
        ({"0.exp_avg": (8, 8)}, "0.exp_avg"),
        ({"optimizer.0.m": (8, 8)}, "optimizer.0.m"),
        ({"norm.bias": (8,)}, "norm.bias"),
        ({"0.scale": (8,)}, "0.scale"),
        ({"0.kernel": (8,)}, "0.kernel"),
        ({"mask.bias": (8, 8)}, "mask.bias"),
    ],
)
def test_what_belongs_to_no_linear_layer_is_named(others, name):
    arrays = {"0.weight": np.eye(8)} | {k: np.ones(shape) for k, shape in others.items()}
    assert f"{name}, of shape {others[name]}, is no weight" in refusal(arrays, activations="relu")


@pytest.mark.parametrize("name", ["bias0", "B0", "w1", "W0_target", "b_0", "critic.0.weight"])
def test_npz_names_that_look_like_weights_are_not_ignored(tmp_path, name):
    np.savez(tmp_path / "a.npz", W0=np.eye(3), **{name: np.ones(3)})
    assert f"found {name}" in refusal(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", W0=np.eye(3), b0=np.ones(3), weight_decay=0.1, epoch=3)
    assert cumprop.load(tmp_path / "a.npz").biases[0] is not None
