"""What the fuzz tests draw: configurations, valid and broken, and lines of every command."""

import contextlib
import copy
import io
import json
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import click
import yaml
from hypothesis import given
from hypothesis import strategies as st

import cumprop
from cumprop import activations
from cumprop.cli import cli, main
from cumprop.experiments.config import schema

CODES = {0, 1, 2, 3, 130}
CPU_SECONDS = 8
"""A command that runs longer is interrupted, as by Ctrl-C."""

JUNK = [
    None, True, -1, 0, 1, 2, 3.5, 1e-6, -2.5, 1e300, 10**40, 1e-200, 10**5, float("nan"),
    float("inf"), "", "x", "relu", "1e-6", "tail(2)", "tail(", "tail(nan)", "a\nb", "é∞\u2028",
    "-", "{", [], {}, [[]], [1, 1], [1, "x"], [None], {"a": 1}, {"": None}, {"critical": {}},
    {"critical": {"q": 1.0}}, {"w_var": [1.0, 2.0]}, {"w_var": -1}, [{}], [{"name": "toy"}],
    [{"name": "monte_carlo", "x": 1}],
]  # fmt: skip
WORDS = [
    "", "x", "-1", "0", "1", "2", "8", "1e3", "nan", "inf", "1/2", "2/1", "é", "a=b", "a=", "=",
    "network.width=2", "network.width=[", "estimators.0.order=9", "order=3", "y>1", "y>", "y>nan",
    "relu", "relu,tanh", "cumulant", "cumulant:order=2", "cumulant:order", "monte_carlo",
    "gaussian", "smoke", "json", "iid", "sobol", "mse_vs_flops", "--", "--help", "-h", "--debugg",
    "99999999999999",
]  # fmt: skip
"""Sizes among them are small, or too large for any machine: none would fill this one."""


@dataclass
class Tally:
    """How many commands ended with each code."""

    codes: dict[int, int] = field(default_factory=dict)

    @property
    def n(self):
        return sum(self.codes.values())

    def __str__(self):
        return ", ".join(f"{self.codes[code]:,} with code {code}" for code in sorted(self.codes))


def _interrupt(*_):
    raise KeyboardInterrupt


def check(tally, words):
    """Run a command line here; fail unless its code is one of `CODES`, and it says clearly why."""
    out, err = io.StringIO(), io.StringIO()
    before = signal.signal(signal.SIGPROF, _interrupt)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(words)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    said = err.getvalue()
    tally.codes[code] = tally.codes.get(code, 0) + 1
    assert code in CODES, (code, said)
    assert "Traceback" not in said, said
    assert not said.startswith("unexpected"), said  # how an error is called that nobody foresaw
    if code in (1, 2) and words[0] != "doctor":
        lines = said.strip().splitlines()
        assert lines, "no word of why"
        if lines[0].startswith("Usage"):
            assert lines[-1].startswith("Error: "), said
        assert all(line.strip() for line in lines) or lines[0].startswith("Usage"), said
    return code


def _network(draw):
    init = st.sampled_from(["he", "critical", {"w_var": 2.0}, {"critical": {"q": 0.5}}])
    return {
        "width": draw(st.one_of(st.integers(1, 9), st.lists(st.integers(1, 9), min_size=1))),
        "depth": draw(st.sampled_from([1, 2, 3, [1, 2], [3, 1]])),
        "seeds": draw(st.sampled_from([1, 2, [0], [5, 3]])),
        "activation": draw(st.sampled_from(activations.available())),
        "init": draw(init),
        "dtype": draw(st.sampled_from(["float32", "float64"])),
        "readout": draw(st.sampled_from(["output", "output", "pre", "post", "tail(1.5)"])),
    }


ESTIMATORS = [
    {"name": "cumulant", "order": [1, 2, 3]},
    {"name": "cumulant", "order": 3, "kind": ["tree", "augmented_factorised"]},
    {"name": "cumulant", "order": [2, 3], "kind": "augmented", "metric": "average"},
    {"name": "gaussian"},
    {"name": "monte_carlo", "n_samples": [10, 1e3], "design": ["iid", "orthogonal"], "repeats": 2},
    {"name": "monte_carlo", "tolerance": [0.1, 0.5], "design": "sobol"},
]


@st.composite
def experiments(draw):
    """Experiments as the schema has them; most are valid."""
    network = {
        k: v for k, v in _network(draw).items() if k in ("width", "depth") or draw(st.booleans())
    }
    tail = network.get("readout") == "tail(1.5)"
    experiment = {
        "network": network,
        "truth": {"n_samples": draw(st.sampled_from([2, 1000, 1e4]))},
        "estimators": draw(st.lists(st.sampled_from(ESTIMATORS), min_size=1, max_size=3)),
    }
    if tail or draw(st.booleans()):
        designs = ["importance"] if tail else ["iid", "antithetic", "orthogonal"]
        experiment["truth"]["design"] = draw(st.sampled_from(designs))
    extra = {
        "figures": ["mse_vs_flops"],
        "workers": 1,
        "most_bytes": 1e9,
        "scales": {"a": {"truth": {"n_samples": 9}}},
    }
    return experiment | {k: v for k, v in extra.items() if draw(st.integers(0, 3)) == 0}


def _places(value, path=()):
    yield path
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, below in items:
        yield from _places(below, (*path, key))


def _names(part):
    """All names in the schema: keys that stand in the wrong place are likely mistakes."""
    if isinstance(part, dict):
        yield from part.get("properties", {})
        for below in part.values():
            yield from _names(below)


NAMES = sorted(
    {*_names(schema()), "order", "kind", "n_samples", "tolerance", "command", "colour", ""}
)


@st.composite
def broken(draw):
    """An experiment with one to three changes: a value, a key gone, renamed, or too many."""
    experiment = copy.deepcopy(draw(experiments()))
    for _ in range(draw(st.integers(1, 3))):
        *above, last = draw(st.sampled_from([p for p in _places(experiment) if p] or [("x",)]))
        holder = experiment
        for part in above:
            holder = holder[part]
        change = draw(st.sampled_from(["value", "value", "delete", "rename", "add"]))
        if change == "value" or isinstance(holder, list):
            holder[last] = copy.deepcopy(draw(st.sampled_from(JUNK)))
        elif change == "add":
            holder[draw(st.sampled_from(NAMES))] = copy.deepcopy(draw(st.sampled_from(JUNK)))
        else:
            value = holder.pop(last, None)
            if change == "rename":
                holder[draw(st.sampled_from(NAMES))] = value
    return experiment


def as_yaml(draw, experiment):
    """The text of an experiment, in one of the ways that YAML has."""
    if draw(st.booleans()):
        return json.dumps(experiment).replace("NaN", ".nan").replace("Infinity", ".inf")
    return yaml.safe_dump(experiment, allow_unicode=True, sort_keys=False)


PIECES = [
    b":", b"-", b"[", b"]", b"{", b"}", b"&a ", b"*a", b"!", b"!!python/object ", b"|", b">", b"%",
    b"@", b"`", b"\t", b"\0", b"\xff", b"\n", b"'", b'"', b"? ", b"<<: ", b"extends: test.yaml\n",
    b"[" * 3000, b"#", b"---\n", b"network: {}\n", b"1e999", b"0x1", b"\xef\xbb\xbf",
]  # fmt: skip


@st.composite
def mangled(draw):
    """The bytes of an experiment, pieces put in, cut out or repeated."""
    content = as_yaml(draw, draw(experiments())).encode()
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(content)))
        end = min(start + draw(st.integers(0, 20)), len(content))
        piece = draw(
            st.one_of(
                st.sampled_from(PIECES), st.binary(max_size=4), st.just(content[start:end] * 2)
            )
        )
        content = content[:start] + piece + content[end:]
    return content


@st.composite
def configurations(draw):
    """The bytes of a configuration file."""
    kind = draw(st.sampled_from(["valid", "broken", "broken", "mangled"]))
    if kind == "mangled":
        return draw(mangled())
    return as_yaml(draw, draw(experiments() if kind == "valid" else broken())).encode()


class Places:
    """Files and folders that command lines name: right, wrong, damaged and missing."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "test.yaml").write_text(
            "network: {width: 4, depth: 1}\ntruth: {n_samples: 100}\njobs: 1\n"
            "estimators: [{name: cumulant, order: [1, 2]}]\nscales: {smoke: {workers: 1}}\n"
        )
        main(
            [
                "sweep",
                str(folder / "test.yaml"),
                "--results",
                str(folder / "good"),
                "--workers",
                "1",
            ]
        )
        (folder / "empty").mkdir()
        (folder / "bad" / "test" / "parts").mkdir(parents=True)
        cumprop.random_mlp(width=4, depth=1, seed=0).save(folder / "net.npz")
        for name in (
            "bad.yaml",
            "bad.npz",
            "bad.onnx",
            "bad.pt",
            "bad.safetensors",
            "bad.npy",
            "bad.csv",
            "bad.py",
        ):
            (folder / name).write_bytes(b"PK\x03\x04 no \xff such thing: [")
        (folder / "mean.csv").write_text("0,1,0,2\n")

    def paths(self, name):
        """Values for a parameter that names a file or folder."""
        (self.folder / "bad" / "test" / "parts" / "a.parquet").write_bytes(b"PAR1")
        bad = [
            *self.folder.glob("bad*"),
            self.folder / "missing",
            Path(),
            self.folder / "test.yaml" / "x",
        ]
        right = {
            "configs": "test.yaml",
            "config": "test.yaml",
            "model": "net.npz",
            "directory": "good",
        }
        good = self.folder / right.get(name, "new")
        return [str(path) for path in (*[good] * 5, *bad)]


@st.composite
def command_lines(draw, places):
    """The words of one command line: any command, options with right, wrong and no values."""
    words, command = _command(draw, cli)
    for parameter in command.params:
        times = draw(
            st.sampled_from(
                [1, 1, 1, 0, 2] if isinstance(parameter, click.Argument) else [0, 0, 0, 1]
            )
        )
        for _ in range(times):
            words += _parameter(draw, parameter, places)
    if words[0] == "bench":  # else it takes a minute
        words += [
            "--quick",
            "--width",
            "2",
            "--depth",
            "1",
            "--order",
            draw(st.sampled_from(["1", "2", "x"])),
        ]
    if words[0] in ("sweep", "train", "distill"):  # in this process
        words += ["--workers", "1"]
    for _ in range(draw(st.sampled_from([0, 0, 0, 1]))):
        words.insert(draw(st.integers(0, len(words))), draw(st.sampled_from(WORDS)))
    return words


def _command(draw, group):
    name = draw(st.sampled_from(sorted(group.commands)))
    command = group.commands[name]
    if isinstance(command, click.Group):
        words, command = _command(draw, command)
        return [name, *words], command
    return [name], command


def _parameter(draw, parameter, places):
    option = (
        [] if isinstance(parameter, click.Argument) else [draw(st.sampled_from(parameter.opts))]
    )
    if getattr(parameter, "is_flag", False):
        return option
    if isinstance(parameter.type, click.Path):
        values = places.paths(parameter.name)
    elif isinstance(parameter.type, click.Choice):
        values = [*parameter.type.choices, "x", ""]
    elif parameter.name == "sql":
        values = [
            "SELECT 1",
            "SELECT * FROM parts",
            "FROM scores",
            "SELECT",
            "DROP TABLE parts",
            "é",
            "SELECT nope",
        ]
    elif parameter.name in ("input_mean", "input_cov"):
        values = [
            "0",
            "0.5",
            "nan",
            *(str(places.folder / name) for name in ("mean.csv", "bad.csv", "bad.npy")),
        ]
    else:
        values = WORDS
    return [*option, draw(st.sampled_from(values))]


@contextlib.contextmanager
def _elsewhere(folder):
    """What is given no folder goes here; a scale in the environment does not count."""
    with contextlib.chdir(folder / "empty"), mock.patch.dict(os.environ):
        os.environ.pop("SCALE", None)
        yield


def configurations_checked(folder, cases):
    """Validate every configuration drawn, and have its sweep forecast."""
    tally, path = Tally(), folder / "drawn.yaml"
    Places(folder)

    @cases
    @given(content=configurations())
    def checked(content):
        path.write_bytes(content)
        valid = check(tally, ["validate", str(path)])
        planned = check(tally, ["sweep", str(path), "--dry-run", "--workers", "1"])
        assert planned == valid or valid == 2, (valid, planned)  # a scale may be wrong

    with _elsewhere(folder):
        checked()
    return tally


def command_lines_checked(folder, cases):
    """Run every command line drawn; results and figures without a folder are left in one."""
    tally = Tally()

    @cases
    @given(words=command_lines(Places(folder)))
    def checked(words):
        check(tally, words)

    with _elsewhere(folder):
        checked()
    return tally
