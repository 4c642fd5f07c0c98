"""What an estimate prints, and its forms for notebooks, pandas and JSON."""

import dataclasses
import importlib
import json
import pkgutil
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

import cumprop
from cumprop.contract import Estimate
from cumprop.flops import Flops


def known(n=3, **changes):
    """An estimate of n outputs of which everything is known."""
    mean = np.arange(n) + 0.123456
    return dataclasses.replace(
        Estimate(
            mean=mean,
            layer_means=(np.zeros(7), np.ones(6)),
            cov=np.diag(np.arange(1.0, n + 1) ** 2),
            stderr=np.full(n, 0.01),
            flops=Flops({"linear": 1000, "other": 234}),
            n_samples=4096,
            half_width=np.full(n, 0.03),
            status="sampled",
        ),
        **changes,
    )


def test_estimates_are_compared_by_identity():
    """An array has no truth value, and a numerical result no use as an equal of another."""
    one, other = known(), known()
    assert one == one and one != other
    assert len({one, other, one}) == 2


def test_no_record_of_arrays_compares_them():
    """Dataclasses with arrays or tables among their fields compare by identity."""
    for found in pkgutil.walk_packages(cumprop.__path__, "cumprop."):
        try:
            module = importlib.import_module(found.name)
        except ModuleNotFoundError as error:
            assert not error.name.startswith("cumprop")  # but a package of an extra
            continue
        for cls in vars(module).values():
            if dataclasses.is_dataclass(cls) and cls.__module__ == found.name and _has_arrays(cls):
                assert cls.__eq__ is object.__eq__, f"{cls}: give it eq=False"
                assert cls.__hash__ is object.__hash__


def _has_arrays(cls):
    types = (str(f.type) for f in dataclasses.fields(cls))
    return any(re.search(r"\b(Array|DataFrame)\b", t) and "Callable" not in t for t in types)


def test_text_shows_what_is_known():
    assert (
        repr(known())
        == str(known())
        == (
            "Estimate of 3 outputs after 2 hidden layers\n"
            "output  mean ± 95%     s.d.\n"
            "0       0.123 ± 0.030  1\n"
            "1       1.123 ± 0.030  2\n"
            "2       2.123 ± 0.030  3\n"
            "1.23e+03 FLOPs, 4,096 samples\n"
            "status: sampled"
        )
    )


def test_a_standard_error_alone_gives_the_interval():
    text = repr(known(half_width=None, cov=None))
    assert "output  mean ± 95%\n0       0.123 ± 0.020\n" in text
    text = repr(known(half_width=None, stderr=None, cov=None, n_samples=None))
    assert "output  mean\n0       0.123456\n" in text
    assert "\n1.23e+03 FLOPs\n" in text


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 5, 6, 10_000])
def test_a_few_lines_however_many_outputs(n):
    text = repr(known(n, cov=None))
    assert len(text.splitlines()) <= 10
    assert (f"… and {n - 5:,} more output" in text) == (n > 5)
    assert f"Estimate of {n:,} output{'' if n == 1 else 's'} after" in text


@pytest.mark.parametrize("odd", [np.nan, np.inf, -1e300, 1e-300, 0.0])
def test_odd_numbers_are_shown(odd):
    found = known(1, mean=np.array([odd]), half_width=np.array([abs(odd)]))
    assert f"{odd:.6g} ± {abs(odd):.2g}" in repr(found)


def test_every_backend_prints():
    network = cumprop.random_mlp(width=8, depth=2, seed=0)
    for name in {*cumprop.available()} - {"importance"}:  # of steps alone, without covariances
        estimate = cumprop.estimate(network, name, cov=True)
        text = str(estimate)
        assert "Estimate of 8 outputs after 2 hidden layers" in text and "s.d." in text
        assert estimate.status in text
        assert ("±" in text) == (estimate.stderr is not None or estimate.half_width is not None)


class Cells(HTMLParser):
    """The text of every table cell, and the tags that are open."""

    def __init__(self, html):
        super().__init__()
        self.open, self.cells, self.text = [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self.open[-1] in ("td", "th"):
            self.cells.append(data)


def test_html_is_well_formed_and_escaped():
    html = known(7, status="<script>alert('x')</script> & more")._repr_html_()
    found = Cells(html)
    assert found.open == []
    assert "script" not in re.sub(r"&lt;/?script", "", html)
    assert "status: <script>alert('x')</script> & more" in found.text
    assert found.cells[:6] == ["output", "mean ± 95%", "s.d.", "0", "0.123 ± 0.030", "1"]
    assert len(found.cells) == 3 * (1 + 5)
    assert "… and 2 more outputs; to_frame()" in found.text


def test_frames_have_a_row_per_output_and_a_column_for_what_is_known():
    frame = known().to_frame()
    assert list(frame.columns) == ["mean", "std", "stderr", "half_width", "status"]
    assert frame.index.name == "output" and frame["std"].tolist() == [1.0, 2.0, 3.0]
    alone = known(cov=None, stderr=None, half_width=None).to_frame()
    assert list(alone.columns) == ["mean", "status"] and len(alone) == 3
    judged = known(expected_error=0.02, status="unreliable: a; take b").to_frame()
    assert judged["expected_error"].tolist() == [0.02] * 3
    assert set(judged["status"]) == {"unreliable: a; take b"}


def test_expected_errors_are_said_and_give_the_digits_of_the_standard_deviation():
    found = known(1, cov=np.array([[2.0]]), expected_error=0.0123, expected_std_error=0.0021)
    assert "1.4142\n" in repr(found)
    assert "\nexpected error 0.012 output s.d., of the s.d. 0.21%\n" in repr(found)
    rough = dataclasses.replace(found, expected_std_error=0.8)
    assert "  1.4\n" in repr(rough) and "of the s.d. 80%\n" in repr(rough)
    assert found.to_dict()["expected_error"] == 0.0123
    assert found.to_dict()["expected_std_error"] == 0.0021
    alone = known(expected_std_error=None, expected_error=None)
    assert "expected" not in repr(alone) and alone.to_dict()["expected_error"] is None


def test_what_is_unreliable_is_the_first_and_strongest_note():
    status = "unreliable: few directions carry layer 2 & more; take adaptive"
    found = known(7, status=status)
    lines = repr(found).splitlines()
    assert lines[7] == status and status not in lines[8:]
    html = found._repr_html_()
    assert f"<p><strong>{status.replace('&', '&amp;')}</strong><br>" in html
    assert Cells(html).open == []
    assert "<strong>" not in known()._repr_html_()


def test_a_negative_variance_is_no_standard_deviation_of_zero():
    """Rounding below zero is zero."""
    found = known(2, cov=np.diag([-0.5, 4.0]))
    assert found.to_dict()["std"] == [None, 2.0]
    assert "none\n" in repr(found)
    rounded = known(2, cov=np.diag([-1e-16, 4.0]))
    assert rounded.to_dict()["std"] == [0.0, 2.0]


def test_dicts_survive_json():
    found = known(2, mean=np.array([1.5, 2.5], np.float32)).to_dict()
    assert json.loads(json.dumps(found)) == found
    assert found["mean"] == [1.5, 2.5] and found["cov"] == [[1.0, 0.0], [0.0, 4.0]]
    assert found["flops"] == 1234 and found["flops_components"] == {"linear": 1000, "other": 234}
    assert [len(means) for means in found["layer_means"]] == [7, 6]
    nothing = Estimate(np.zeros(1), ()).to_dict()
    assert [nothing[key] for key in ("std", "stderr", "half_width", "cov", "n_samples")] == [
        None
    ] * 5


@pytest.mark.torch
def test_tensors_are_shown_as_arrays_are(torch):
    network = cumprop.random_mlp(width=4, depth=2, seed=0, dtype="float64")
    weights = [torch.tensor(np.array(w), requires_grad=True) for w in network.weights]
    arrays, tensors = (
        cumprop.estimate(n, "cumulant", order=2, cov=True) for n in (network, cumprop.MLP(weights))
    )
    assert tensors.mean.requires_grad
    ours, theirs = arrays.to_dict(), tensors.to_dict()
    json.dumps(theirs)
    np.testing.assert_allclose(theirs["std"], ours["std"], rtol=1e-12)
    assert tensors.to_frame()["mean"].tolist() == theirs["mean"]
    assert repr(tensors).splitlines()[0] == repr(arrays).splitlines()[0]
    assert tensors._repr_html_().count("<tr>") == 5


@pytest.mark.slow
def test_text_and_html_need_no_pandas():
    code = (
        "import sys, cumprop; found = cumprop.estimate(cumprop.MLP([[[1.0]]])); "
        "repr(found), found._repr_html_(), found.to_dict(); sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
