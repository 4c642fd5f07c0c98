"""The report: verdicts follow the rows, the page needs no other file, every claim is in it."""

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cumprop.cli import main
from cumprop.reproduction.claims import CLAIMS
from cumprop.reproduction.report import Judged
from cumprop.reproduction.verdicts import AGREES, DISAGREES, OPEN
from cumprop.results import store
from cumprop.results.scores import GROUP

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
COST = {1: 1e6, 2: 2e8, 3: 1e9, 4: 3e11}


def rows(config, widths=(91, 128, 181, 256), depths=(4,), kind="basic", scale=1.0, **law):
    """Scores of an experiment with vn-MSE = scale · n^a(K) · L^b(K), five networks alike."""
    fall, grow = law.get("fall", lambda k: -k), law.get("grow", lambda k: k)
    made = [
        dict.fromkeys(GROUP)
        | {"config": config, "width": n, "depth": depth, "readout": "output", "seed": seed}
        | {"activation": "relu", "init": "he", "dtype": "float32", "estimator": "cumulant"}
        | {"order": order, "kind": kind, "algorithm": "auto", "metric": "exact", "repeat": 0}
        | {"truncation": "corrected", "parameters": f'{{"order": {order}}}', "flops": COST[order]}
        | {"truth_design": "iid", "truth_n_samples": 10**6, "n_groups": 16, "truth_gain": 1.0}
        | {"flops_convention": "executed-1", "conditions": "here", "seconds": 1.0, "status": "ok"}
        | {"outcome": "done", "expected_error": np.nan}
        | {"cell_key": f"{config}{order}{n}{depth}{seed}", "truth_key": "k", "variance": 0.3}
        | {"mse": 0.3 * scale * n ** fall(order) * depth ** grow(order) * (1 + 0.02 * seed)}
        for order in (1, 2, 3, 4) for n in widths for depth in depths for seed in range(5)
    ]  # fmt: skip
    table = pd.DataFrame(made).astype({"order": float, "tolerance": float, "n_samples": float})
    return table.assign(mse_se=table["mse"] * 1e-3, vn_mse=table["mse"] / 0.3, resolved=True)


def judged(table, source, words=""):
    return [
        claim.judge(dict([*table.groupby("config")]))
        for claim in CLAIMS
        if claim.source == source and words in claim.statement
    ]


def verdicts(table, source, words=""):
    return {measurement.verdict for measurement in judged(table, source, words)}


def test_the_law_decides_figure_3a():
    assert verdicts(rows("width_scaling"), "Figure 3a") == {AGREES}
    flat = rows("width_scaling", fall=lambda order: 0)
    assert verdicts(flat, "Figure 3a") == {DISAGREES}


def test_an_ablation_that_falls_disagrees():
    flat = rows("ablation", depths=(2, 4), kind="ablated", fall=lambda order: 0)
    assert verdicts(flat, "Figure 3b") == verdicts(flat, "Figure 9") == {AGREES}
    falling = rows("ablation", depths=(2, 4), kind="ablated")
    assert verdicts(falling, "Figure 3b") == verdicts(falling, "Figure 9") == {DISAGREES}


def test_the_law_decides_figure_8():
    assert verdicts(rows("depth_scaling", depths=(2, 4, 8)), "Figure 8") == {AGREES}
    steep = rows("depth_scaling", depths=(2, 4, 8), grow=lambda order: 2 * order)
    assert verdicts(steep, "Figure 8") == {DISAGREES}


def test_savings_are_against_iid_sampling():
    """A forward pass at width 256, depth 4 takes 6.6e5 FLOPs: order 1 saves 6.6e5 / (1e6 vn)."""
    (measurement,) = judged(rows("relu_w256"), "Figure 1")
    vn_mse = 4 / 256 * 1.04  # mean luck of five networks
    saving = 6.6e5 / (1e6 * vn_mse)
    found = float(re.match(r"K=1 ([\d,.]+)×", measurement.text)[1].replace(",", ""))
    assert found == pytest.approx(saving, rel=0.05)
    assert measurement.verdict == AGREES
    assert verdicts(rows("relu_w256", scale=1e9), "Figure 1") == {DISAGREES}


def test_order_four_at_depth_eight_loses_where_it_costs_more():
    grow = {"grow": lambda order: 0}
    assert verdicts(rows("depths", depths=(8,), scale=1e6, **grow), "Figure 2", "depth 8") == {
        AGREES
    }
    assert verdicts(rows("depths", depths=(8,), **grow), "Figure 2", "depth 8") == {DISAGREES}


def test_savings_are_told_at_the_papers_flops_too():
    """Its order 4 costs 16 n⁴L² + 26 n⁴L: at n=256, L=8, 5.29e12 against 3e11 here."""
    (measurement,) = judged(rows("depths", depths=(8,)), "Figure 2", "depth 8")
    own, papers = re.match(r"K=4 ([\d,.]+)× .*; ([\d,.]+)× at", measurement.text).groups()
    ratio = float(own.replace(",", "")) / float(papers.replace(",", ""))
    assert ratio == pytest.approx(256**4 * (16 * 64 + 26 * 8) / 3e11, rel=0.1)


def test_small_networks_decide_nothing():
    small = rows("width_scaling", widths=(16, 32, 64))
    assert verdicts(small, "Figure 3a") == {OPEN}
    assert "up to 64 only" in judged(small, "Figure 3a")[0].text
    assert judged(small, "Figure 1")[0].text == "not run"


def tail_rows(error, rival):
    """Scores of tails at 1e-6: five networks of 40 neurons with these relative errors, ± 2%."""
    table = rows("low_probability", widths=(256,), depths=(3,))
    table = table[table["order"].isin([3])].drop(columns="seed")
    sampling = {"estimator": "monte_carlo", "order": np.nan, "kind": None, "n_samples": 5695.0}
    sampled = table.assign(**sampling, parameters='{"extrapolate": "none"}')
    made = [
        mode.assign(seed=range(5), relative=[e * (1 + 0.01 * k) for k in range(-2, 3)])
        for mode, e in ((table, error), (sampled, rival))
    ]
    table = pd.concat(made, ignore_index=True)
    squares = [[40e-12 * e**2] for e in table["relative"]]
    return table.assign(
        buckets=[[-6]] * 10, bucket_neurons=[[40]] * 10, bucket_dropped=[[0]] * 10,
        bucket_zero=[[40e-12]] * 10, bucket_squares=squares, bucket_relative=squares,
    )  # fmt: skip


@pytest.mark.parametrize(("error", "rival", "small", "best"), [
    (0.2, 0.6, AGREES, AGREES),
    (0.4, 0.6, DISAGREES, AGREES),
    (0.4, 0.3, DISAGREES, DISAGREES),
])  # fmt: skip
def test_errors_of_tails_decide_figure_4(error, rival, small, best):
    first, second = judged(tail_rows(error, rival), "Figure 4")
    assert (first.verdict, second.verdict) == (small, best)
    assert f"K=3 {error:.2g}" in first.text
    assert f"5695 samples {rival:.2g}" in second.text


def run_rows(falls, method_status="ok"):
    """Runs of five seeds whose true loss falls by these factors, ± 2%."""
    return pd.DataFrame([
        {"config": "distill", "cell_key": f"{method}{seed}", "width": 16, "student_width": 8}
        | {"order": 2, "method": method, "seed": seed, "status": method_status, "flops": [1, 2]}
        | {"true_loss": [1.0, (1 + 0.01 * seed) / fall]}
        for method, fall in falls.items() for seed in range(-2, 3)
    ])  # fmt: skip


@pytest.mark.parametrize(("ours", "sgd", "trains", "near"), [
    (6.0, 9.0, AGREES, AGREES),
    (4.0, 9.0, DISAGREES, AGREES),
    (6.0, 60.0, AGREES, DISAGREES),
    (60.0, 6.0, AGREES, DISAGREES),
])  # fmt: skip
def test_the_fall_of_the_loss_decides_distillation(ours, sgd, trains, near):
    table = run_rows({"cumulant": ours, "sgd": sgd})
    first, second = judged(table, "Distillation")
    assert (first.verdict, second.verdict) == (trains, near)
    assert re.search(rf"K=2 {ours:.2g}× .*SGD {sgd:.2g}×", first.text)


def test_runs_that_diverge_decide_nothing():
    lost = run_rows({"cumulant": 6.0, "sgd": 9.0}, "diverged at step 1: estimated loss -1")
    assert verdicts(lost, "Distillation") == {OPEN}


def test_a_reason_stands_where_rows_disagree():
    claim = next(c for c in CLAIMS if c.source == "Figure 3a")
    claim = dataclasses.replace(claim, reason="Because.")
    flat = {"width_scaling": rows("width_scaling", fall=lambda order: 0)}
    steep = {"width_scaling": rows("width_scaling")}
    assert Judged(claim, claim.judge(flat)).measured.endswith(". Because.")
    assert "Because" not in Judged(claim, claim.judge(steep)).measured


def test_every_experiment_of_a_claim_is_shipped_and_made():
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    made = set(re.search(r"^EXPERIMENTS := (.*)$", makefile, re.M)[1].split())
    made |= set(re.search(r"^TRAINING := (.*)$", makefile, re.M)[1].split())
    assert {claim.experiment for claim in CLAIMS} <= made
    assert all((ROOT / "configs" / f"{name}.yaml").is_file() for name in made)


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.ids, self.links, self.sources = set(), set(), []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.ids |= {attributes.get("id")} - {None}
        self.links |= {attributes.get("href")} - {None}
        self.sources += [attributes["src"]] if "src" in attributes else []


@pytest.fixture
def results(tmp_path):
    for name in ("width_scaling", "relu_w256"):
        table = rows(name).assign(total_low=np.nan, total_high=np.nan)
        store.write_parquet(table, tmp_path / "results" / name / "scores.parquet")
        figure = "mse_vs_width" if name == "width_scaling" else "mse_vs_flops"
        store.write_plan(tmp_path / "results" / name, [], [figure, "mse_vs_depth"])
    return tmp_path / "results"


def test_the_page_needs_no_other_file(results, capsys):
    assert main(["report", str(results), "--markdown", str(results / "docs" / "table.md")]) == 0
    html = (results / "report.html").read_text()
    page = _Page()
    page.feed(html)
    assert len(page.sources) == 2
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.sources)
    assert page.links == {f"#{name}" for name in ("width_scaling", "relu_w256")}
    assert {"width_scaling", "relu_w256"} <= page.ids
    assert "<script" not in html
    assert "one depth shows no law" in html
    assert "<td>Figure 3a</td>" in html
    capsys.readouterr()


def test_markdown_links_every_verdict_to_its_points(results, capsys):
    table = results / "docs" / "table.md"
    words = ["report", str(results), "--markdown", str(table)]
    assert main([*words, "--points", str(results / "drawn")]) == 0
    text = table.read_text()
    for claim in CLAIMS:
        assert f"| {claim.source} | {claim.statement} |" in text
    links = set(re.findall(r"\]\(([^)]+)\)", text))
    assert links == {f"../drawn/{name}/points.csv" for name in ("width_scaling", "relu_w256")}
    for link in links:
        assert len(pd.read_csv(table.parent / link)) == 16
    assert main(words) == 0
    assert not re.search(r"\]\(", table.read_text())
    capsys.readouterr()


def test_nothing_to_report_says_what_to_do(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 1
    assert "run `cumprop sweep" in capsys.readouterr().err
