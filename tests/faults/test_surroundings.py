"""Environments that people run command lines in: notebooks, terminals, pipes, links, long names."""

import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cumprop
from cumprop.cli import main
from cumprop.results import store

CONFIG = """\
network: {width: 6, depth: 1, seeds: 2}
truth: {n_samples: 1000}
estimators: [{name: gaussian}, {name: cumulant, order: [1, 2]}]
figures: [mse_vs_flops]
"""
COMMAND = [sys.executable, "-c", "import sys; from cumprop.cli import main; sys.exit(main())"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A folder with a network, an experiment and its results."""
    folder = tmp_path_factory.mktemp("Größe x")
    (folder / "tiny.yaml").write_text(CONFIG)
    cumprop.random_mlp(width=3, depth=2, seed=0, dtype="float64").save(folder / "net.npz")
    results = folder / "results"
    assert (
        main(["sweep", str(folder / "tiny.yaml"), "--workers", "1", "--results", str(results)]) == 0
    )
    return folder


def in_shell(line, folder, **environment):
    """Exit code, stdout and stderr of `$cumprop` in a line of bash."""
    script = f"set -o pipefail; {line.replace('$cumprop', shlex.join(COMMAND))}"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder, env=os.environ | environment, capture_output=True, timeout=300,
    )  # fmt: skip
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.slow
def test_the_backend_of_a_notebook(swept, tmp_path):
    """What a notebook asks of matplotlib and is not installed here does not keep figures away."""
    line = f"$cumprop plot results --out '{tmp_path}'"
    code, out, err = in_shell(line, swept, MPLBACKEND="module://matplotlib_inline.backend_inline")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == len(list(tmp_path.iterdir())) == 3


def test_an_installed_backend_stays(tmp_path):
    """`import cumprop.plots` in a notebook does not take its figures away."""
    (tmp_path / "inline.py").touch()
    code = "import os, cumprop.plots; print(os.environ['MPLBACKEND'])"
    environment = {"MPLBACKEND": "module://inline", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True
    )
    assert done.stdout == "module://inline\n", done.stderr


# --- terminals and pipes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["estimate", "net.npz", "--tolerance", "0.01"], "+- 95%"),
        (["estimate", "fehlt-\udcc3\udcbc.npz"], "fehlt-\xc3\xbc.npz"),
        (["estimate", "keine-größe.npz"], "keine-gro?e.npz"),
        (["estimate", "net.npz", "--kind", "Σ→"], "sum ->"),
        (["sweep", "tiny.yaml", "--workers", "1"], "mse_vs_flops"),
        (["list"], "monte_carlo"),
        (["truth", "list"], "orthogonal"),
        (["status"], "tiny"),
    ],
    ids=lambda words: " ".join(words[:2]).encode("ascii", "replace").decode() if words else "",
)
def test_a_terminal_of_ascii(swept, monkeypatch, words, shown):
    """Nothing that is printed breaks it: letters it lacks are spelt out, bytes stay bytes."""
    monkeypatch.chdir(swept)
    screen = io.BytesIO()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(screen, "ascii", write_through=True))
    main(words)
    printed = screen.getvalue().decode("latin-1")
    assert "unexpected" not in printed
    assert shown in printed


@pytest.mark.slow
def test_names_that_the_locale_lacks(tmp_path):
    """Where file names cannot have an umlaut, a sentence says what to do."""
    (tmp_path / "größe.yaml").write_text(CONFIG)
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    code, _, err = in_shell("$cumprop sweep größe.yaml --workers 1", tmp_path, **plain)
    assert code == 1 and err.splitlines()[-1].endswith("set PYTHONUTF8=1, or take plain letters")


@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(swept, tmp_path, closed):
    """Rows are stored all the same, and nothing that is printed gets into a file."""
    line = f"$cumprop sweep tiny.yaml --workers 2 --results '{tmp_path}' {closed}"
    assert in_shell(line, swept)[0] == 0
    assert len(store.read_rows(tmp_path)) == 6
    assert main(["results", "verify", str(tmp_path)]) == 0


@pytest.mark.slow
def test_a_closed_stderr_leaves_stdout_alone(swept):
    code, out, _ = in_shell("$cumprop estimate net.npz --format csv 2>&-", swept)
    assert code == 0 and out.startswith("layer,unit,mean,std,") and len(out.splitlines()) == 4


@pytest.mark.slow
def test_a_reader_that_has_gone(swept):
    """No traceback, and no complaint of the interpreter when it ends."""
    for line in ("$cumprop list", "$cumprop estimate net.npz --format json"):
        _, out, err = in_shell(f"({line}; echo $? >&2) | exec true", swept)
        *said, code = err.strip().splitlines()
        assert (out, code) in (("", "0"), ("", "1")) and len(said) <= 1
        assert all(line.startswith("unreliable: ") for line in said)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk(swept):
    code, _, err = in_shell("$cumprop list > /dev/full", swept)
    assert (code, err) == (1, "input/output: No space left on device\n")


# --- files -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [["plot"], ["score"], ["status"], ["report"], ["results", "verify"], ["results", "compact"]],
    ids=" ".join,
)
@pytest.mark.parametrize("link", [True, False])
def test_a_link_to_an_experiment(run, swept, tmp_path, monkeypatch, words, link):
    """Its truth is found where the experiment lies; also from inside, as `.`."""
    (tmp_path / "linked").symlink_to(swept / "results" / "tiny")
    monkeypatch.chdir(tmp_path if link else swept / "results" / "tiny")
    out = ["--out", str(tmp_path / "out")] if words[0] in ("plot", "report") else []
    code, printed, err = run(*words, "linked" if link else ".", *out)
    assert code == 0, err
    assert words[0] == "report" or "tiny" in printed + err


SPREADSHEETS = {
    "mark.csv": b"\xef\xbb\xbf1,2,0.5\n",
    "mark_and_lines.csv": b"\xef\xbb\xbf1\r\n2\r\n0.5\r\n",
    "semicolons.csv": b"1,0;2;0,5\r\n",
}


@pytest.mark.parametrize("name", SPREADSHEETS)
def test_csv_of_a_spreadsheet(run, swept, tmp_path, name):
    (tmp_path / name).write_bytes(SPREADSHEETS[name])
    np.save(tmp_path / "mean.npy", [1.0, 2.0, 0.5])
    network = swept / "net.npz"
    words = ("estimate", network, "--format", "json", "--input-mean")
    (code, found, _), (_, expected, _) = (
        run(*words, tmp_path / name),
        run(*words, tmp_path / "mean.npy"),
    )
    assert code == 0
    assert json.loads(found)["mean"] == json.loads(expected)["mean"]


@pytest.mark.parametrize("content", [b"a;b;c\n1;2;3\n", "1,2,3\n".encode("utf-16"), b"1\t2\t3"])
def test_other_tables_are_refused_in_one_line(run, swept, tmp_path, content):
    (tmp_path / "mean.csv").write_bytes(content)
    code, _, err = run("estimate", swept / "net.npz", "--input-mean", tmp_path / "mean.csv")
    assert code == 1 and len(err.splitlines()) == 1 and "commas (or semicolons) between" in err


@pytest.mark.slow
@pytest.mark.parametrize("letter", ["n", "ü"])
def test_names_of_240_bytes(run, tmp_path, monkeypatch, letter):
    """Files that a name goes into stay below the 255 bytes of file systems, each its own."""
    monkeypatch.chdir(tmp_path)
    length = 240 // len(letter.encode())
    names = [letter * (length - 1) + last for last in "ab"]
    for name in names:
        (tmp_path / f"{name}.yaml").write_text(CONFIG)
        assert run("sweep", f"{name}.yaml", "--workers", 1)[0] == 0
    code, out, err = run("plot", "--out", "figures")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == len(list((tmp_path / "figures").iterdir())) == 6
    assert run("report")[0] == run("results", "compact")[0] == 0
    cumprop.random_mlp(width=3, depth=1, seed=0).save("net.npz")
    for suffix in ("json", "csv", "parquet"):
        assert (
            run("estimate", "net.npz", "--format", suffix, "--out", f"{names[0]}.{suffix}")[0] == 0
        )
