"""Truths sampled on an accelerator, and scores of trees against them.

PYTHONPATH=.:tests python -m helpers.device_truth FOLDER --device cuda --problems wide

Products are in float32 (TF32 off), sums in float64. Inputs are antithetic pairs of the radius E|x|,
which is exact for homogeneous networks (mathematics §7); each network has its own Philox stream.
"""

import argparse
import json
import time
from math import ceil
from pathlib import Path

import numpy as np
import torch

import cumprop
from cumprop.estimators.cumulant import Cumulant
from cumprop.results.scores import mse_between
from cumprop.sampling.designs import expected_radius
from helpers.stored_means import DEEP, SHALLOW, TINY, WIDE, StoredMeans, iid_variance

GROUPS = 8
"""Groups of each half."""
SETS = {"wide": WIDE, "deep": DEEP, "shallow": SHALLOW, "tiny": TINY}
STREAM = 0x7275


class Sampler:
    """Forward passes of a problem's network in batches of `rows` antithetic pairs."""

    def __init__(self, problem, device, rows, dtype=torch.float32):
        weights = problem.network.weights
        weights = weights if problem.readout == "output" else weights[:-1]
        self.weights = [torch.tensor(np.array(w), device=device).to(dtype) for w in weights]
        self.linear_end = problem.readout == "output"
        self.rows, self.width, self.dtype = rows, problem.width, dtype
        key = (problem.width, problem.depth, STREAM)
        seed = np.random.SeedSequence(problem.seed, spawn_key=key).generate_state(1, np.uint64)[0]
        self.seed = int(seed >> 1)
        self.generator = torch.Generator(device).manual_seed(self.seed)

    def directions(self):
        """Inputs of the radius E|x|, (rows, n), float32."""
        device = self.weights[0].device
        x = torch.randn(self.rows, self.width, generator=self.generator, device=device)
        x *= expected_radius(self.width) / torch.linalg.vector_norm(x, dim=1, keepdim=True)
        return x

    def passes(self, x):
        x = x.to(self.dtype)
        for weight in self.weights[: len(self.weights) - self.linear_end]:
            x = torch.relu_(x @ weight.T)
        return x @ self.weights[-1].T if self.linear_end else x

    def sums(self):
        """Sums over 2·rows inputs: of each output, and of all squares."""
        x = self.directions()
        ends = [self.passes(x), self.passes(-x)]
        sums = sum(y.sum(0, dtype=torch.float64) for y in ends)
        return sums, sum((y * y).sum(dtype=torch.float64) for y in ends)


def sample(problem, n_samples, device, rows, seconds):
    """The truth from `n_samples` inputs, or as many as fit into `seconds`."""
    torch.set_float32_matmul_precision("highest")
    sampler = Sampler(problem, device, rows)
    sampler.sums()  # warms up; its inputs are not used again
    pace = _seconds(sampler.sums, device)
    asked = ceil(n_samples / (4 * GROUPS * rows))
    batches = max(1, min(asked, int(seconds / (2 * GROUPS * pace))))
    groups = torch.zeros(2, GROUPS, problem.width, dtype=torch.float64, device=device)
    squares, start = torch.zeros((), dtype=torch.float64, device=device), time.perf_counter()
    for group in groups.reshape(-1, problem.width):
        for _ in range(batches):
            sums, square = sampler.sums()
            group += sums
            squares += square
    per_group = 2 * rows * batches
    means = groups.cpu().numpy() / per_group
    taken, n_samples = time.perf_counter() - start, 2 * GROUPS * per_group
    mean_square = squares.item() / (n_samples * problem.width)
    facts = {
        "n_samples": n_samples,
        "design": "antithetic pairs of radius E|x|, float32 products, float64 sums",
        "seed": sampler.seed,
        "rows": rows,
        "device": name(device),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "seconds": round(taken, 1),
        "rounding_mse": rounding(problem, device, rows, min(n_samples, 2**20)),
    }
    variance = iid_variance(problem.width, mean_square, means.mean(axis=1))
    return StoredMeans(problem, means, variance, facts)


def rounding(problem, device, rows, n_samples):
    """The mean squared change of the means, were the products in float64, on the same inputs."""
    single = Sampler(problem, device, rows)
    double = Sampler(problem, device, rows, torch.float64)
    batches = ceil(n_samples / rows)
    change = torch.zeros(problem.width, dtype=torch.float64, device=device)
    for _ in range(batches):
        x = single.directions()
        change += (single.passes(x) - double.passes(x)).sum(0)
    return float((change / (batches * rows)).square().mean())


def scored(stored, device):
    """MSE of orders against a truth: on the device, up to width 256 of NumPy in float32, too."""
    problem = stored.problem
    network = problem.network
    estimators, places = [Cumulant(3, "tree")], [(device, torch.float32), (device, torch.float64)]
    if problem.width <= 256:
        estimators += [Cumulant(2), Cumulant(3)] + ([Cumulant(4)] if problem.depth <= 4 else [])
        places.append(("NumPy", None))
    for estimator in estimators:
        for place, dtype in places:
            given = network
            if dtype is not None:
                tensors = [torch.tensor(np.array(w)).to(device, dtype) for w in network.weights]
                given = cumprop.MLP(tensors)
            run = lambda mlp=given, e=estimator: e.estimate(mlp)  # noqa: E731
            with torch.no_grad():
                start = time.perf_counter()
                found = run()
                taken = time.perf_counter() - start if dtype is None else _seconds(run, device)
            mean = problem.of(found)
            mean = mean if dtype is None else mean.cpu().numpy()
            mse, mse_se = mse_between(mean, stored.groups)
            yield {
                "problem": problem.path.stem, "estimator": estimator.label, "place": place,
                "dtype": "float32" if dtype is None else str(dtype).removeprefix("torch."),
                "mse": mse, "mse_se": mse_se, "vn_mse": mse / stored.variance,
                "vn_mse_se": mse_se / stored.variance, "seconds": round(taken, 4),
                "flops": found.flops.total, "n_samples": stored.facts["n_samples"],
            }  # fmt: skip


def name(device):
    cuda = torch.device(device).type == "cuda"
    return torch.cuda.get_device_name() if cuda else "CPU"


def _seconds(work, device):
    _wait(device)
    start = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - start


def _wait(device):
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--problems", choices=SETS, default="wide")
    parser.add_argument("--samples", type=float, default=1e8)
    parser.add_argument("--seconds", type=float, default=60.0, help="the most, for each network")
    parser.add_argument("--numbers", type=int, default=2**25, help="in a batch of one layer")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    truths = []
    for problem in SETS[chosen.problems]:
        rows = max(1, chosen.numbers // problem.width)
        truth = sample(problem, chosen.samples, chosen.device, rows, chosen.seconds)
        truth.write(chosen.folder / problem.path.name)
        print(problem.path.stem, json.dumps(truth.facts), f"variance {truth.variance:.6g}",
              flush=True)  # fmt: skip
        truths.append(truth)
    with (chosen.folder / "scores.jsonl").open("a") as file:
        for truth in truths:
            for row in scored(truth, chosen.device):
                print(json.dumps(row), file=file, flush=True)
                print(*row.values(), flush=True)


if __name__ == "__main__":
    main()
