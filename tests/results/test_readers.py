"""A reader never writes: all files of a folder of results are as they were after it.

Parts, a compacted file and their neighbours are damaged in all the ways that a reader can meet.
"""

import shutil
from pathlib import Path

import pytest
from helpers import harness

import cumprop
from cumprop.cli import main
from cumprop.plots import plot
from cumprop.reproduction.reference_scores import KnownErrors
from cumprop.reproduction.report import report
from cumprop.results import compaction, scores, store, verification
from cumprop.sweep.status import status

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
CONFIG = """\
network: {width: 4, depth: 1, seeds: 2}
truth: {n_samples: 1000}
estimators: [{name: cumulant, order: [1, 2]}, {name: monte_carlo, tolerance: 0.1}]
figures: [mse_vs_flops]
"""
READERS = {
    "plot": ["plot", "RESULTS", "--out", "OUT"],
    "plot one": ["plot", "RESULTS/single", "--out", "OUT"],
    "report": ["report", "RESULTS", "--out", "OUT/a.html", "--markdown", "OUT/a.md"],
    "points": ["report", "RESULTS", "--out", "OUT/a.html", "--points", "OUT"],
    "status": ["status", "RESULTS"],
    "verify": ["results", "verify", "RESULTS"],
    "query": ["results", "query", "SELECT count(*) AS n FROM parts", "RESULTS"],
    "truth list": ["truth", "list", "RESULTS"],
    "dry run": ["sweep", "CONFIG", "--results", "RESULTS", "--dry-run", "--workers", "1"],
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """One folder with parts and one compacted, both damaged, and scores without rows."""
    folder = tmp_path_factory.mktemp("readers")
    for name in ("single", "compacted", "scored"):
        (folder / f"{name}.yaml").write_text(CONFIG)
        words = ["sweep", folder / f"{name}.yaml", "--results", folder / "results"]
        assert main([*map(str, words), "--workers", "1"]) == 0
    results = folder / "results"
    shutil.rmtree(results / "scored" / "parts")
    parts = sorted((results / "single" / "parts").glob("*.parquet"))
    parts[0].write_bytes(parts[0].read_bytes()[:100])
    shutil.copy(parts[1], parts[1].with_name(f"{'0' * 16}.parquet"))
    (parts[0].parent / f"{'1' * 16}.parquet").mkdir()
    (parts[0].parent / ".0.tmp").touch()
    compaction.compact(results / "compacted")
    path = results / "compacted" / store.COMPACTED
    path.write_bytes(path.read_bytes()[:-1])
    store.write_part(results / "compacted" / "parts", harness.read_part(parts[2]))
    truth = next((results / "truth").glob("*/*.npz"))
    truth.write_bytes(truth.read_bytes()[:-100])
    return results


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*the next sweep samples it anew")
@pytest.mark.parametrize("words", READERS.values(), ids=READERS)
def test_a_command_that_reads_changes_nothing(results, tmp_path, words, capsys):
    if "query" in words:
        pytest.importorskip("duckdb")
    names = {"RESULTS": results, "OUT": tmp_path, "CONFIG": results.parent / "single.yaml"}
    for name, path in names.items():
        words = [word.replace(name, str(path)) for word in words]
    before = harness.contents(results)
    assert main(words) == (3 if "verify" in words else 0), capsys.readouterr().err
    assert harness.contents(results) == before
    capsys.readouterr()


@pytest.mark.filterwarnings("ignore:.*the next sweep samples it anew")
def test_a_library_call_that_reads_changes_nothing(results, tmp_path, capsys):
    before = harness.contents(results)
    assert len(scores.score(results)) > 0
    assert KnownErrors.find(results) is not None
    assert len(store.read_rows(results)) > 0
    for folder in store.config_folders(results):
        status(folder)
        verification.verify(folder)
    assert harness.contents(results) == before
    assert f"{'0' * 16}.parquet: the row of" in capsys.readouterr().err


@pytest.mark.slow
def test_the_committed_reference_stays_as_it_is(tmp_path, capsys):
    """Also where a file of it is damaged, or of a schema that is read no more."""
    reference = tmp_path / "reference"
    for name in ("distill", "relu_w256"):
        shutil.copytree(REFERENCE / name, reference / name)
    before = harness.contents(reference)
    plot(reference / "distill", tmp_path / "figures")
    report(reference)
    KnownErrors.find(reference / "relu_w256")
    (reference / "distill" / store.COMPACTED).write_bytes(b"damaged")
    before |= {reference / "distill" / store.COMPACTED: b"damaged"}
    with pytest.raises(cumprop.CumpropError):
        plot(reference / "distill", tmp_path / "figures")
    assert harness.contents(reference) == before
    capsys.readouterr()
