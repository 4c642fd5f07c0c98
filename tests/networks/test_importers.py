"""Networks from files and objects of other libraries, written by those libraries."""

import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from helpers.sources import export, nnet_text, refusal

import cumprop
from cumprop.activations import available
from cumprop.cli import main
from cumprop.errors import CumpropError
from cumprop.networks.importers import FILES
from cumprop.networks.importers.parts import Parts, chained

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
pytest.importorskip("onnx", reason="ONNX is not installed: pip install onnx")
safetensors = pytest.importorskip("safetensors.torch", reason="pip install safetensors")
neural_network = pytest.importorskip("sklearn.neural_network", reason="pip install scikit-learn")
from sklearn.pipeline import make_pipeline  # noqa: E402

nn = torch.nn

DOCUMENT = Path(__file__).parents[2] / "docs" / "networks.md"
RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 5)).astype(np.float32)
Y = np.stack([X[:, 0] * X[:, 1], np.abs(X[:, 2]), X[:, 3] - X[:, 4]], axis=1)


def fitted(cls=neural_network.MLPRegressor, y=Y, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # five steps do not converge
        return cls(hidden_layer_sizes=(8, 7), max_iter=5, random_state=0, **options).fit(X, y)


def sequential(model):
    """The fitted scikit-learn network as PyTorch has it."""
    layers = []
    for coefs, intercept in zip(model.coefs_, model.intercepts_, strict=True):
        linear = nn.Linear(*coefs.shape)
        linear.weight.data = torch.tensor(coefs.T).contiguous()
        linear.bias.data = torch.tensor(intercept)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


# --- every format ------------------------------------------------------------------------------


def test_every_format_gives_the_same_estimate(tmp_path):
    """To 1e-6 of the output scale, with what scikit-learn itself computes as the forward pass."""
    model = fitted()
    module = sequential(model)
    weights, biases = [c.T for c in model.coefs_], model.intercepts_
    cumprop.MLP(weights, biases, "relu").save(tmp_path / "a.npz")
    safetensors.save_file(module.state_dict(), tmp_path / "a.safetensors")
    torch.save(module.state_dict(), tmp_path / "a.pt")
    export(module, tmp_path / "a.onnx")
    normalisation = np.zeros(5), np.zeros(5), np.zeros(6), np.ones(6)
    (tmp_path / "a.nnet").write_text(nnet_text(weights, biases, *normalisation))
    loaded = {
        "sklearn": cumprop.load(model),
        "module": cumprop.load(module),
        "state_dict": cumprop.load(module.state_dict(), activations="relu"),
        "npz": cumprop.load(tmp_path / "a.npz"),
        "safetensors": cumprop.load(tmp_path / "a.safetensors", activations=["relu", "relu"]),
        "torch": cumprop.load(str(tmp_path / "a.pt"), activations="relu"),
        "onnx": cumprop.load(tmp_path / "a.onnx"),
        "nnet": cumprop.load(tmp_path / "a.nnet"),
        "pipeline": cumprop.load(make_pipeline("passthrough", model)),
        "exported": cumprop.load(module, input_shape=(5,)),
    }
    expected = cumprop.estimate(loaded["sklearn"], "cumulant", order=3, cov=True)
    scale = np.sqrt(np.diag(expected.cov)).max()
    for name, network in loaded.items():
        assert network.widths == loaded["sklearn"].widths, name
        assert network.activations == loaded["sklearn"].activations, name
        found = cumprop.estimate(network, "cumulant", order=3)
        np.testing.assert_allclose(found.mean, expected.mean, rtol=0, atol=1e-6 * scale)
        np.testing.assert_allclose(network.forward(X), model.predict(X), rtol=0, atol=1e-5 * scale)


def test_the_input_is_given_beside_the_network(tmp_path):
    path = tmp_path / "a.npz"
    cumprop.MLP([np.eye(3)], input_mean=5.0).save(path)
    assert cumprop.load(path).input_mean.tolist() == [5.0] * 3
    network = cumprop.load(path, input_mean=[1, 2, 3], input_cov=[1, 0, 4])
    assert network.input_mean.tolist() == [1, 2, 3]
    assert network.input_cov.tolist() == np.diag([1.0, 0, 4]).tolist()


# --- the documentation -------------------------------------------------------------------------


@pytest.mark.slow
def test_documented_examples_run(tmp_path, monkeypatch, capsys):
    """The code of docs/networks.md, Python first, then the shell, in one folder."""
    text = DOCUMENT.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```(python|sh)\n(.*?)```", text, re.DOTALL)
    python, shell = (
        "".join(block for language, block in blocks if language == wanted)
        for wanted in ("python", "sh")
    )
    assert python and shell
    subprocess.run([sys.executable, "-c", f"import cumprop, torch\n{python}"], check=True)
    for line in shell.splitlines():
        program, *words = shlex.split(line, comments=True)
        assert (program, main(words)) == ("cumprop", 0), capsys.readouterr().err


def test_documented_operators_are_those_that_are_read():
    """The first column of the table, and the activations below it."""
    from cumprop.networks.importers.onnx.graph import OPERATORS

    section = DOCUMENT.read_text(encoding="utf-8").partition("## Operators")[2]
    rows = re.findall(r"^\| (`[A-Z].*?) \|", section.partition("\n## ")[0], re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted({*OPERATORS, "Constant"})
    known = re.search(r"`MLP` knows the activations\s`([^`]+)`", section)
    assert known[1].split() == available()


# --- everything else ---------------------------------------------------------------------------


def test_notes_reach_the_user(monkeypatch):
    """Each is a UserWarning of one line that names the source and points at the call of `load`."""

    def noted(tensors, prefixes):
        return Parts([np.eye(2)], [None], notes=["the final Softmax is left off", "a\nb" * 1000])

    monkeypatch.setattr("cumprop.networks.importers.torch.from_state_dict", noted)
    with pytest.warns(UserWarning) as caught:
        assert cumprop.load({}).widths == (2, 2)
    first, second = caught
    assert str(first.message) == "dict: the final Softmax is left off"
    assert str(second.message).isprintable() and len(str(second.message)) < 700
    assert first.filename == __file__


def test_sources_that_are_none(tmp_path):
    said = refusal(tmp_path / "a.h5")
    assert said.endswith(f"suffix '.h5' is not known; the known ones are {', '.join(FILES)}")
    said = refusal(42)
    assert all(kind in said for kind in (*FILES, "state dict", "Module", "MLPRegressor"))
    for source in ({"w": np.eye(2)}, fitted(), tmp_path / "a.npz"):
        assert "an input_shape is for PyTorch modules" in refusal(source, input_shape=(2,))
    for source in (fitted(), nn.Linear(2, 2)):
        assert "a prefix is for" in refusal(source, prefix="a")
    for suffix in FILES:
        assert "No such file" in refusal(tmp_path / f"missing{suffix}")
        (tmp_path / f"folder{suffix}").mkdir()
        assert "directory" in refusal(tmp_path / f"folder{suffix}")
    path = tmp_path / "a.npz"
    cumprop.MLP([np.eye(3)]).save(path)
    assert "names its activations itself" in refusal(path, activations="relu")
    assert "input_cov is not symmetric" in refusal(path, input_cov=np.triu(np.ones((3, 3))))


def test_what_does_not_fit_into_memory_is_refused(tmp_path, monkeypatch):
    model = fitted()
    torch.save(sequential(model).state_dict(), tmp_path / "a.pt")
    safetensors.save_file(sequential(model).state_dict(), tmp_path / "a.safetensors")
    cumprop.load(model).save(tmp_path / "a.npz")
    export(sequential(model), tmp_path / "a.onnx")
    (tmp_path / "a.nnet").write_text(nnet_text(np.ones((1, 9, 9)), np.ones((1, 9)), *X[:4, :1]))
    monkeypatch.setattr("cumprop.memory.free_memory", lambda: 1000)
    for path in tmp_path.iterdir():
        assert "GB are free" in refusal(path)
    with pytest.raises(CumpropError, match="GB are free"):
        chained([(np.ones((30, 1)), None), "relu"])
    assert "GB are free" in refusal({"w": np.ones((1, 6))}, input_cov=np.ones((6, 6)))


@pytest.mark.slow
def test_a_missing_library_is_named(tmp_path):
    for suffix, package in ((".onnx", "onnx"), (".safetensors", "safetensors"), (".pt", "torch")):
        path = tmp_path / f"a{suffix}"
        path.touch()
        code = (
            f"import sys; sys.modules[{package!r}] = None; import cumprop\n"
            f"try: cumprop.load({str(path)!r})\nexcept cumprop.CumpropError as e: print(e)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout == f"{path}: {package} is not installed: pip install {package}\n"


def test_loading_npz_needs_no_other_library(tmp_path):
    cumprop.MLP([np.eye(3)]).save(tmp_path / "a.npz")
    code = f"import sys, cumprop; cumprop.load({str(tmp_path / 'a.npz')!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert "numpy" in loaded and not loaded & {"torch", "onnx", "sklearn", "safetensors"}
