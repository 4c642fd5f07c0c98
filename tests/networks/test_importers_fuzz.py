"""Malformed files: every importer gives a network or one line, and executes nothing.

Hypothesis changes valid files of each format (800 cases each, 4,800 in all): bytes flipped, pieces
cut out, repeated or put elsewhere, numbers in the header made huge.
"""

import io
import json
import os
import pickle
import struct
import warnings
import zipfile

import numpy as np
import pytest
from helpers.sources import nnet_text
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cumprop
from cumprop.errors import CumpropError
from cumprop.networks.importers import FILES

pytestmark = pytest.mark.slow

CASES = settings(
    max_examples=800, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
RNG = np.random.default_rng(0)
ARRAYS = {
    "W0": RNG.normal(size=(4, 3)).astype(np.float32),
    "b0": RNG.normal(size=4).astype(np.float32),
    "W1": RNG.normal(size=(2, 4)).astype(np.float32),
}
HUGE = [10**9, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1]


def npz_bytes():
    file = io.BytesIO()
    np.savez(file, **ARRAYS)
    return file.getvalue()


def compressed_npz_bytes():
    file = io.BytesIO()
    np.savez_compressed(file, **ARRAYS)
    return file.getvalue()


def safetensors_bytes():
    library = pytest.importorskip("safetensors.numpy", reason="pip install safetensors")
    return library.save(ARRAYS)


def torch_bytes():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
    file = io.BytesIO()
    torch.save({name: torch.tensor(array) for name, array in ARRAYS.items()}, file)
    return file.getvalue()


def onnx_bytes():
    onnx = pytest.importorskip("onnx", reason="ONNX is not installed: pip install onnx")
    helper, float_ = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("Gemm", ["x", "W0", "b0"], ["z"], transB=1),
        helper.make_node("LeakyRelu", ["z"], ["h"], alpha=0.2),
        helper.make_node("Gemm", ["h", "W1"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", float_, ["N", 3])],
        [helper.make_tensor_value_info("y", float_, ["N", 2])],
        [onnx.numpy_helper.from_array(array, name) for name, array in ARRAYS.items()],
    )
    return helper.make_model(graph).SerializeToString()


def nnet_bytes():
    weights, biases = [ARRAYS["W0"], ARRAYS["W1"]], [ARRAYS["b0"], np.zeros(2)]
    normalisation = np.zeros(3), np.ones(3), np.arange(4), np.arange(1, 5)
    return nnet_text(weights, biases, *normalisation).encode()


FORMATS = {
    "npz": (npz_bytes, ".npz"),
    "npz, compressed": (compressed_npz_bytes, ".npz"),
    "safetensors": (safetensors_bytes, ".safetensors"),
    "torch": (torch_bytes, ".pt"),
    "onnx": (onnx_bytes, ".onnx"),
    "nnet": (nnet_bytes, ".nnet"),
}
UNNAMED = {".safetensors", ".pt"}
"""Formats without activations."""


def test_every_format_is_damaged():
    assert {suffix for _, suffix in FORMATS.values()} == {*FILES} - {".pth"}  # as .pt


def attempt(path):
    """Load; a refusal must be one printable line that starts with the path."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy and PyTorch warn of some of the damage
            network = cumprop.load(path)
    except CumpropError as error:
        line = str(error)
        assert line.startswith(f"{path}: ") and line.isprintable() and len(line) < 700
        if "name the activations" in line:
            attempt_with_activations(path)
    else:
        assert np.isfinite(network.forward(np.zeros((1, network.widths[0])))).all()


def attempt_with_activations(path):
    try:
        cumprop.load(path, activations="relu")
    except CumpropError as error:
        assert str(error).startswith(f"{path}: ")


@st.composite
def damage(draw, whole):
    """A few changes to valid bytes."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["flip", "cut", "end", "repeat", "huge", "digits", "noise"]))
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        length = draw(st.integers(1, 40))
        if kind == "flip" and content:
            content[at] ^= draw(st.integers(1, 255))
        elif kind == "cut":
            del content[at : at + length]
        elif kind == "end":
            del content[at:]
        elif kind == "repeat":
            content[at:at] = content[at : at + length]
        elif kind == "huge":
            size, code = draw(st.sampled_from([(4, "<I"), (8, "<Q")]))
            content[at : at + size] = struct.pack(
                code, draw(st.sampled_from(HUGE)) % 2 ** (8 * size)
            )
        elif kind == "digits":
            where = [i for i, byte in enumerate(content) if 48 <= byte < 58]
            if where:
                i = draw(st.sampled_from(where))
                content[i : i + 1] = str(draw(st.sampled_from(HUGE))).encode()
        else:
            content[at:at] = draw(st.binary(max_size=20))
    return bytes(content)


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files(tmp_path, name):
    write, suffix = FORMATS[name]
    path = tmp_path / f"a{suffix}"

    @CASES
    @given(damage(write()))
    def check(content):
        path.write_bytes(content)
        attempt(path)

    path.write_bytes(write())
    options = {"activations": "leaky_relu(0.2)"} if suffix in UNNAMED else {}
    assert cumprop.load(path, **options).widths == (3, 4, 2)
    check()


@pytest.mark.parametrize("name", FORMATS)
def test_every_truncation(tmp_path, name):
    """All of them are refused, the empty file too; npz and torch keep their index at the end."""
    write, suffix = FORMATS[name]
    path, whole = tmp_path / f"a{suffix}", write().rstrip()  # the last line break of a text
    options = {"activations": "relu"} if suffix in UNNAMED else {}
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(CumpropError):
            cumprop.load(path, **options)


@pytest.mark.parametrize("suffix", FILES)
def test_no_pickle_is_executed(tmp_path, suffix):
    """Neither a bare pickle nor one inside the containers that can have them."""
    for extra in ("safetensors", "torch", "onnx"):
        pytest.importorskip(extra, reason=f"pip install {extra}")
    canary = tmp_path / "canary"
    payload = pickle.dumps(Payload(str(canary)))
    path = tmp_path / f"a{suffix}"
    npy = io.BytesIO()
    np.lib.format.write_array(npy, np.array([Payload(str(canary))], dtype=object))
    members = [{"a/data.pkl": payload, "a/version": b"3\n"}, {"W0.npy": npy.getvalue()}]
    for content in (payload, *map(zipped, members)):
        path.write_bytes(content)
        with pytest.raises(CumpropError) as caught:
            cumprop.load(path, activations="relu")
        assert "\n" not in str(caught.value)
        assert not canary.exists()
    pickle.loads(payload)
    assert canary.exists()  # the payload works


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def zipped(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


@pytest.mark.parametrize("shape", [(10**9, 10**9), (10**9, 10), (10**5, 10**5), (-1, 3)])
def test_npz_headers_that_ask_for_too_much(tmp_path, shape):
    npy = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(npy, header)
    path = tmp_path / "a.npz"
    path.write_bytes(zipped({"W0.npy": npy.getvalue() + bytes(80)}))
    with pytest.raises(CumpropError, match="damaged"):
        cumprop.load(path)


def test_an_archive_of_several_disks(tmp_path):
    """Python's own question whether a file is a zip archive fails here."""
    whole = bytearray(torch_bytes())
    locator = whole.index(b"PK\x06\x07")
    whole[locator + 16 : locator + 20] = struct.pack("<I", 2)
    path = tmp_path / "a.pt"
    path.write_bytes(whole)
    with pytest.raises(CumpropError, match="damaged"):
        cumprop.load(path, activations="relu")


def test_an_archive_that_would_fill_the_memory(tmp_path, monkeypatch):
    """What it unpacks to is known before it is unpacked."""
    path = tmp_path / "a.npz"
    np.savez_compressed(path, W0=np.zeros((1000, 1000)))
    assert path.stat().st_size < 10**4
    monkeypatch.setattr("cumprop.memory.free_memory", lambda: 10**7)
    with pytest.raises(CumpropError, match=r"needs 0\.032 GB, 0\.01 GB are free"):
        cumprop.load(path)


@pytest.mark.parametrize(
    "tensor",
    [
        {"dtype": "F32", "shape": [10**9, 10**9], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [10**9, 3], "data_offsets": [0, 12 * 10**9]},
        {"dtype": "F32", "shape": [1, 1], "data_offsets": [10**9, 10**9 + 4]},
        {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 4]},
        {"dtype": "F99", "shape": [1, 1], "data_offsets": [0, 4]},
        {"dtype": "I32", "shape": [1, 1], "data_offsets": [0, 4]},
    ],
)
def test_safetensors_headers(tmp_path, tensor):
    pytest.importorskip("safetensors", reason="pip install safetensors")
    header = json.dumps({"W0": tensor}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(CumpropError, match=r"damaged|holds I32 numbers; save it as F32"):
        cumprop.load(path)


def test_an_onnx_tensor_of_a_thousand_million_rows(tmp_path):
    onnx = pytest.importorskip("onnx", reason="ONNX is not installed: pip install onnx")
    model = onnx.load_model_from_string(onnx_bytes())
    path = tmp_path / "a.onnx"
    for dims, message in (((10**9, 10**9), "GB are free"), ((10**6, 10), "is damaged")):
        model.graph.initializer[0].dims[:] = dims
        path.write_bytes(model.SerializeToString())
        with pytest.raises(CumpropError, match=message):
            cumprop.load(path)
