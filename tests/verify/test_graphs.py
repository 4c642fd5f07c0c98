"""Expected errors on networks with skip connections, convolutions and pools, random and trained."""

import warnings

import numpy as np
import pytest

import cumprop

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
pytest.importorskip("onnx", reason="ONNX is not installed: pip install onnx")
datasets = pytest.importorskip("sklearn.datasets", reason="pip install scikit-learn")

nn = torch.nn
pytestmark = pytest.mark.verify

SAMPLES = 400_000
ORDERS = {
    "order 2": {"order": 2},
    "order 3": {"order": 3},
    "order 3 tree": {"order": 3, "kind": "tree"},
}


class Residual(nn.Module):
    """x + B φ(A x), with a normalisation first if asked for, as in pre-activation networks."""

    def __init__(self, width, act, normalised=False):
        super().__init__()
        self.norm = nn.BatchNorm1d(width) if normalised else nn.Identity()
        self.a, self.b, self.act = nn.Linear(width, width), nn.Linear(width, width), act

    def forward(self, x):
        return x + self.b(self.act(self.a(self.norm(x))))


class Dense(nn.Module):
    """[x, φ(A x)]: what comes in is passed on beside what is new."""

    def __init__(self, width, growth, act):
        super().__init__()
        self.a, self.act = nn.Linear(width, growth), act

    def forward(self, x):
        return torch.cat([x, self.act(self.a(x))], dim=1)


class ConvBlock(nn.Module):
    """φ(x + B φ(A x)) with convolutions and a normalisation."""

    def __init__(self, channels, act):
        super().__init__()
        self.a = nn.Conv2d(channels, channels, 3, padding=1)
        self.b = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm, self.act = nn.BatchNorm2d(channels), act

    def forward(self, x):
        return self.act(x + self.b(self.act(self.norm(self.a(x)))))


class Lattice(nn.Module):
    """The larger of four smaller ones of three lines each, for every output."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.lines = nn.Linear(inputs, 12 * outputs)

    def forward(self, x):
        y = self.lines(x).reshape(-1, 12, self.lines.out_features // 12)
        groups = []
        for g in range(4):
            a, b, c = (y[:, 3 * g + i] for i in range(3))
            groups.append(torch.minimum(torch.minimum(a, b), c))
        return torch.maximum(
            torch.maximum(groups[0], groups[1]), torch.maximum(groups[2], groups[3])
        )


class UShaped(nn.Module):
    """An autoencoder of images 8x8 whose decoder sees the encoder's features."""

    def __init__(self, act):
        super().__init__()
        self.down = nn.Conv2d(1, 6, 3, stride=2, padding=1)
        self.deep = nn.Conv2d(6, 12, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(12, 6, 2, stride=2)
        self.last = nn.ConvTranspose2d(12, 1, 2, stride=2)
        self.act = act

    def forward(self, x):
        first = self.act(self.down(x.reshape(-1, 1, 8, 8)))
        second = self.act(self.up(self.act(self.deep(first))))
        return self.last(torch.cat([first, second], dim=1)).flatten(1)


def modules():
    """Names, modules of 64 inputs, and the number of classes that they tell apart (0: images)."""
    relu, silu, tanh = nn.ReLU(), nn.SiLU(), nn.Tanh()
    image = nn.Unflatten(1, (1, 8, 8))
    yield (
        "residual",
        nn.Sequential(
            nn.Linear(64, 48), *(Residual(48, relu) for _ in range(3)), nn.Linear(48, 10)
        ),
        10,
    )
    yield (
        "residual tanh",
        nn.Sequential(
            nn.Linear(64, 32), *(Residual(32, tanh) for _ in range(4)), nn.Linear(32, 10)
        ),
        10,
    )
    yield (
        "pre-activation",
        nn.Sequential(
            nn.Linear(64, 48), *(Residual(48, silu, True) for _ in range(2)), nn.Linear(48, 10)
        ),
        10,
    )
    yield (
        "dense",
        nn.Sequential(
            Dense(64, 24, relu), Dense(88, 24, relu), Dense(112, 24, relu), nn.Linear(136, 10)
        ),
        10,
    )
    yield "convolutions", nn.Sequential(
        image, nn.Conv2d(1, 8, 3, padding=1), relu, nn.AvgPool2d(2),
        nn.Conv2d(8, 12, 3), relu, nn.Flatten(), nn.Linear(48, 24), relu, nn.Linear(24, 10),
    ), 10  # fmt: skip
    yield "residual convolutions", nn.Sequential(
        image, nn.Conv2d(1, 6, 3, padding=1), relu, ConvBlock(6, relu), nn.AvgPool2d(4),
        nn.Flatten(), nn.Linear(24, 10),
    ), 10  # fmt: skip
    yield "separable", nn.Sequential(
        image, nn.Conv2d(1, 8, 1), nn.Hardswish(), nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.Hardswish(), nn.Conv2d(8, 12, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(12, 10),
    ), 10  # fmt: skip
    yield "largest of patches", nn.Sequential(
        image, nn.Conv2d(1, 4, 3, padding=1), relu, nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(64, 10),
    ), 10  # fmt: skip
    yield "lattice", Lattice(64, 10), 10
    yield "u-shaped", UShaped(relu), 0


def trained(module, outputs, epochs):
    """Some epochs on the digits: their classes, or the images themselves."""
    x, labels = datasets.load_digits(return_X_y=True)
    x, labels = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(labels)
    loss = nn.CrossEntropyLoss() if outputs else nn.MSELoss()
    optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
    module.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            loss(module(x[batch]), labels[batch] if outputs else x[batch]).backward()
            optimizer.step()
    return module.eval()


def inputs():
    """Laws of the input: all digits, noise around one of them, and pixels of any grey."""
    x = datasets.load_digits().data / 16
    yield "digits", {"input_mean": x.mean(axis=0), "input_cov": np.cov(x.T)}
    yield "noise 0.1", {"input_mean": x[7], "input_cov": 0.01}
    yield "grey", {"input": cumprop.inputs.Uniform(0.0, 1.0)}


def rows():
    """A row for every network, input and estimator: what it says of its error, and the error."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    for epochs in (0, 20):
        for name, module, outputs in modules():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                network = cumprop.load(trained(module, outputs, epochs), input_shape=(64,))
            for law, given in inputs():
                asked = network.replace(**given)
                truth = cumprop.estimate(asked, "monte_carlo", n_samples=SAMPLES, cov=True)
                unit, noise = float(np.trace(truth.cov)), float((truth.stderr**2).sum())
                runs = [(label, cumprop.estimate(asked, **o)) for label, o in ORDERS.items()]
                runs += [
                    (f"adaptive {t}", cumprop.estimate(asked, "adaptive", tolerance=t))
                    for t in (0.1, 0.01)
                ]
                for label, found in runs:
                    off = found.mean - truth.mean
                    error = np.sqrt(max(float(off @ off) - noise, 0) / unit)
                    stated = np.inf if found.half_width is None else found.half_width
                    inside = np.abs(off) <= np.hypot(stated, 1.96 * truth.stderr)
                    yield {
                        "network": f"{name}, {epochs} epochs, {law}",
                        "run": label,
                        "error": error,
                        "noise": np.sqrt(noise / unit),
                        "expected": found.expected_error,
                        "status": found.status,
                        "inside": inside.mean(),
                    }


@pytest.fixture(scope="module")
def table():
    import pandas as pd

    found = pd.DataFrame(rows())
    with pd.option_context("display.width", 200, "display.max_colwidth", 60):
        print(found.to_string())
    return found


def test_orders_are_as_far_off_as_they_say(table, record):
    orders = table[table["run"].str.startswith("order")]
    ok = orders[orders["status"] == "ok"]
    off = ok["error"] / (ok["expected"] + 2 * ok["noise"])
    record(
        f"networks with skips, convolutions, pools: orders that say ok ({len(ok)} of "
        f"{len(orders)}) within twice their expected error",
        f"{(off <= 2).mean():.1%}, worst {off.max():.2g}",
        "≥ 97%, worst ≤ 5",
        (off <= 2).mean() >= 0.97 and off.max() <= 5,
    )


def test_adaptive_meets_tolerances(table, record):
    adaptive = table[table["run"].str.startswith("adaptive")]
    wanted = adaptive["run"].str.split().str[1].astype(float)
    met = adaptive["error"] <= wanted
    record("the same networks: tolerances 0.1 and 0.01 met", f"{met.mean():.1%} of {len(met)}",
           "≥ 95%", met.mean() >= 0.95)  # fmt: skip
    inside = adaptive["inside"].mean()
    record("the same: outputs inside their intervals", f"{inside:.1%}", "93 to 99.5%",
           0.93 <= inside <= 0.995)  # fmt: skip
