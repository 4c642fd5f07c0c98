"""ONNX files: any feed-forward graph of linear maps and entrywise functions.

The reader follows the graph with one input in place of a batch. Each tensor is an affine function
of the neurons so far (`affine`, `linear`, `windows`), entrywise functions make new neurons
(`neurons`, `entrywise`, `patterns`), and the neurons become layers in the end (`layers`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cumprop.memory import check_memory
from cumprop.networks.importers.onnx.file import model_of
from cumprop.networks.importers.onnx.graph import Walk
from cumprop.networks.importers.parts import Parts, library


def read(path: Path) -> Parts:
    """The network in an ONNX file."""
    library("onnx")
    check_memory(path.stat().st_size)
    return from_model(model_of(path.read_bytes()), path.parent)


def from_model(model: Any, folder: Path) -> Parts:
    """The network in an `onnx.ModelProto`, whose external data lies in `folder`."""
    with np.errstate(all="ignore"):  # MLP refuses what overflows
        return Walk(model, folder).parts()
