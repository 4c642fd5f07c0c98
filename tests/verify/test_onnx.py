"""2,400 random ONNX graphs against ONNX Runtime, and 6,000 mutilated ones."""

import time
from collections import Counter

import numpy as np
import pytest
from helpers.onnx_graphs import difference, loaded
from helpers.onnx_random import mutilated, random_graph

import cumprop

pytestmark = pytest.mark.verify


def test_random_graphs(tmp_path, record):
    """Seeds that the quick tests do not have."""
    operators, worst = Counter(), 0.0
    for seed in range(1000, 3400):
        made = random_graph(seed)
        operators.update({node.op_type for node in made.graph.node})
        worst = max(worst, float(difference(loaded(made, tmp_path), made, n=3)))
    measured = f"largest relative difference {worst:.1e}; {len(operators)} operators"
    record("2,400 random ONNX graphs agree with ONNX Runtime", measured, "≤ 1e-5", worst <= 1e-5)


def test_mutilated_graphs(tmp_path, record):
    """Attributes, constants, names, operators, shapes and bytes changed, in 1,200 graphs."""
    tally, slowest = Counter(), 0.0
    for seed in range(5000, 6200):
        made = random_graph(seed)
        for i in range(5):
            (tmp_path / "a.onnx").write_bytes(mutilated(made, np.random.default_rng([seed, i])))
            start = time.process_time()
            try:
                cumprop.load(tmp_path / "a.onnx")
                tally["read"] += 1
            except cumprop.CumpropError as error:
                clear = str(error).isprintable() and len(str(error)) < 700
                tally["refused in one line" if clear else "unclear"] += 1
            except UserWarning:  # a note on how it is read
                tally["read"] += 1
            slowest = max(slowest, time.process_time() - start)
    measured = ", ".join(f"{n:,} {name}" for name, n in sorted(tally.items()))
    measured += f"; slowest {slowest:.0f} s"
    holds = tally["unclear"] == 0 and slowest < 60
    record("6,000 mutilated ONNX graphs", measured, "read or one line, ≤ 60 s", holds)
