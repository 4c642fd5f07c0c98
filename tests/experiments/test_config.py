"""Configurations: what is read, and that every mistake is one clear line."""

import json
from pathlib import Path

import pytest

from cumprop.contract import build
from cumprop.errors import ConfigError
from cumprop.experiments import config, yaml_loader
from cumprop.experiments.models import Config
from cumprop.networks import Shape

CONFIGS = Path(__file__).parents[2] / "configs"

GOOD = """\
network: {activation: relu, init: he, width: [16, 32], depth: 2, seeds: 3}
truth: {n_samples: 4e6}
estimators:
  - {name: cumulant, order: [1, 2], kind: basic}
figures: [mse_vs_flops]
scales:
  smoke: {network: {width: 8}}
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="test.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def problems(path, *arguments):
    with pytest.raises(ConfigError) as caught:
        config.load(path, *arguments, figures=["mse_vs_flops"])
    return [line.replace(f"{path.parent}/", "") for line in str(caught.value).splitlines()]


class TestYaml:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("1e-6", 1e-6), ("4e6", 4e6), ("-1.5E+3", -1500.0), (".5", 0.5), ("7", 7),
            ("true", True), ("null", None), ("~", None), ("yes", "yes"), ("no", "no"),
            ("1:30", "1:30"), ("1_000", "1_000"), ("2026-01-01", "2026-01-01"), ("010", 10),
            ("'1e-6'", "1e-6"), (".inf", float("inf")), ("9" * 120, 1e120), ("''", ""),
        ],
    )  # fmt: skip
    def test_scalars_are_those_of_yaml_1_2(self, text, value):
        assert yaml_loader.parse(text, "here").plain() == value

    def test_round_trip_of_small_numbers(self, write):
        path = write(GOOD.replace("order: [1, 2]", "tolerance: [1e-6, 0.1]"))
        assert config.load(path).estimators[0].tolerance == [1e-6, 0.1]

    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("a: 1\nb: {c: 1, c: 2}", "test.yaml:2:11 b.c: duplicate key, first given in line 2"),
            ("a: [1", "test.yaml:1:6: not YAML: expected ',' or ']', but got '<stream end>'"),
            ("a: &x 1\nb: *x", "test.yaml:2:4: not YAML: aliases (*name) are not read"),
            ("a: !!python/name:os.system", "test.yaml:1:4 a: tag tag:yaml.org,2002:python/name"),
            ("- 1", "test.yaml:1:1: must be a mapping"),
            ("extends: nope.yaml", "test.yaml:1:10 extends: no such file: nope.yaml"),
            ("extends: test.yaml", "test.yaml:1:10 extends: goes round in a circle"),
            ("extends: [a]", "test.yaml:1:10 extends: must be the path of one YAML file"),
            ("[" * 3000, "test.yaml: nested too deeply"),
            ("[a]: 1", "test.yaml:1:1: a key must be a plain word"),
        ],
    )
    def test_bad_yaml_is_one_line(self, write, text, line):
        (found,) = problems(write(text))
        assert found.startswith(line)

    def test_not_utf8(self, tmp_path):
        (tmp_path / "test.yaml").write_bytes(b"a: \xff")
        assert problems(tmp_path / "test.yaml") == ["test.yaml: cannot be read: is not UTF-8 text"]

    def test_extends_merges_mappings_and_replaces_lists(self, write):
        write("a: {x: 1, y: [1, 2], z: {p: 1}}\nb: 1", "base.yaml")
        path = write("extends: base.yaml\na: {y: [3], z: {q: 2}}")
        merged = {"a": {"x": 1, "y": [3], "z": {"p": 1, "q": 2}}, "b": 1}
        assert yaml_loader.load(path).plain() == merged

    def test_an_error_in_the_base_is_located_there(self, write):
        write(GOOD.replace("depth: 2", "depth: 0"), "base.yaml")
        assert problems(write("extends: base.yaml")) == [
            "base.yaml:1:63 network.depth: must be at least 1, got 0"
        ]


class TestLayers:
    def test_what_is_read(self, write):
        read = config.load(write(GOOD))
        assert read.network.width == [16, 32]
        assert read.network.depth == [2]
        assert read.network.seeds == [0, 1, 2]
        assert read.truth.n_samples == 4_000_000
        assert read.truth.design == "orthogonal"

    def test_scale_then_set_win(self, write):
        path = write(GOOD)
        assert config.load(path, "smoke").network.width == [8]
        sets = ("network.width=[64, 128]", "estimators.0.order=3", "network.seeds=[7, 3]")
        read = config.load(path, "smoke", sets)
        assert read.network.width == [64, 128]
        assert read.network.seeds == [7, 3]
        assert read.estimators[0].parameters == {"order": [3], "kind": ["basic"]}

    def test_a_file_outranks_the_scales_that_it_inherits(self, write):
        """And its own scales outrank it; what it does not name is that of the inherited scale."""
        base = GOOD.replace("width: 8", "width: 8, seeds: 1}, truth: {n_samples: 100")
        write(base, "base.yaml")
        path = write("extends: base.yaml\nnetwork: {width: 4}\ntruth: {n_samples: 7}")
        read = config.load(path, "smoke")
        assert (read.network.width, read.network.seeds, read.truth.n_samples) == ([4], [0], 7)
        own = path.read_text() + "\nscales: {smoke: {network: {width: 5}}}"
        path = write(own)
        read = config.load(path, "smoke")
        assert (read.network.width, read.network.seeds, read.truth.n_samples) == ([5], [0], 7)

    @pytest.mark.parametrize(
        ("scale", "sets", "line"),
        [
            ("smok", (), "test.yaml: no scale 'smok'; it has smoke (did you mean 'smoke'?)"),
            (None, ("network.width=0",), "--set network.width=0 network.width: must be at least 1"),
            (None, ("network.widht=3",), "--set network.widht=3 network.widht: unknown key (did"),
            (None, ("estimators.5=3",), "--set estimators.5=3: '5' is no index of a list; use 0"),
            (None, ("network",), "--set network: write --set key=value"),
            (None, ("a=[",), "--set a=[:1:2: not YAML"),
        ],
    )
    def test_wrong_overrides(self, write, scale, sets, line):
        (found,) = problems(write(GOOD), scale, sets)
        assert found.startswith(line)

    def test_manual_and_critical_init(self, write):
        manual = write(GOOD.replace("init: he", "init: {w_var: [1, 2, 2], b_var: 0.1}"))
        network = config.load(manual).network
        assert network.plain_init == {"w_var": [1.0, 2.0, 2.0], "b_var": 0.1, "b_mean": 0.0}
        assert network.shape(16, 2) == Shape((16,) * 4, ("relu",) * 2, biased=True)
        critical = GOOD.replace("init: he", "init: {critical: {q: 0.85}}")
        critical = critical.replace("relu", "tanh", 1)
        assert config.load(write(critical)).network.plain_init == {"critical": {"q": 0.85}}

    def test_a_parameter_may_be_a_value_or_a_list(self, write):
        (grid,) = config.load(write(GOOD)).estimators
        shape = Shape((16,) * 4, ("relu",) * 2)
        assert [made for _, made in grid.estimators(shape)] == [
            build("cumulant", order=1, kind="basic"),
            build("cumulant", order=2, kind="basic"),
        ]

    def test_tolerance_goes_through_from_tolerance(self, write):
        (grid,) = config.load(
            write(GOOD.replace("order: [1, 2]", "tolerance: [0.5, 0.01]"))
        ).estimators
        shape = Shape((16,) * 4, ("relu",) * 2)
        orders = [(tolerance, made.order) for tolerance, made in grid.estimators(shape)]
        assert orders == [(0.5, 1), (0.01, 4)]


@pytest.mark.parametrize(
    ("old", "new", "at", "line"),
    [
        ("seeds", "sedes", "sedes", "network.sedes: unknown key (did you mean 'seeds'?)"),
        ("[16, 32]", "0", "0", "network.width: must be at least 1, got 0"),
        ("32", "big", "big", "network.width[1]: must be a whole number, got 'big'"),
        ("32", "'32'", "'32'", "network.width[1]: must be a whole number, got '32'"),
        ("[16, 32]", "1.5", "1.5", "network.width: must be a whole number, got 1.5"),
        ("[16, 32]", "true", "true", "network.width: must be a whole number, got True"),
        ("[16, 32]", "[16, 16]", "[16", "network.width: lists 16 twice; take one away"),
        ("[16, 32]", "[]", "[]", "network.width: must not be empty"),
        ("seeds: 3", "seeds: 0", "0}", "network.seeds: must be a count from 1"),
        ("seeds: 3", "seeds: [1, -1]", "-1", "network.seeds[1]: must be at least 0, got -1"),
        ("relu", "rleu", "rleu", "network.activation: unknown activation 'rleu'"),
        ("init: he", "init: hee", "hee", "network.init: must be one of he, critical, got 'hee'"),
        ("init: he", "init: {w_var: -1}", "{w_var", "network.init: w_var contains -1"),
        ("init: he", "init: {w_var: [1]}", "{w_var", "network.init: w_var is [1.0]"),
        ("init: he", "init: {w_var: x}", "x}", "network.init.w_var: must be a number, got 'x'"),
        ("init: he", "init: {w_var: 1, b: 2}", "b: 2", "network.init.b: unknown key"),
        ("4e6", "-4e6", "-4e6", "truth.n_samples: must be at least 2, got -4000000"),
        ("4e6", ".inf", ".inf", "truth.n_samples: must be a whole number, got inf"),
        ("4e6", "4e6, design: grid", "grid", "truth.design: must be one of iid"),
        ("[1, 2]", "[1, 9]", "9]", "estimators[0].order: order 9: choose 1 to"),
        ("[1, 2]", "ten", "ten", "estimators[0].order: order must be a whole number, got 'ten'"),
        ("order: [1, 2]", "tolerance: -1", "-1", "estimators[0].tolerance: must be greater than 0"),
        ("order", "ordre", "ordre", "estimators[0].ordre: unknown parameter (did you mean 'order'"),
        ("kind: basic", "engine: dense", "engine", "estimators[0].engine: is called algorithm now"),
        ("kind: basic", "repeats: 2", "2}", "estimators[0].repeats: cumulant gives the same"),
        ("kind: basic", "tolerance: 1", "1}", "estimators[0].tolerance: tolerance decides what"),
        ("cumulant", "cumulent", "cumulent", "estimators[0].name: unknown estimator 'cumulent'"),
        ("{name: cumulant,", "{", "{", "estimators[0].name: is missing; add it"),
        ("- {name: cumulant, order: [1, 2], kind: basic}", "- a", "a\n", "estimators[0]: must be"),
        ("figures", "jobs: 1\nfigures", "jobs", "jobs: is called workers now; write workers"),
        ("[mse_vs_flops]", "3", "3\n", "figures: must be a list, got 3"),
        ("mse_vs_flops", "mse", "mse]", "figures[0]: unknown figure 'mse'; the known ones are"),
        ("truth:", "# truth:", "network", "truth: is missing; add it"),
    ],
)
def test_a_wrong_value_is_one_located_line(write, old, new, at, line):
    text = GOOD.replace(old, new, 1)
    before = text[: text.index(at, GOOD.index(old))] if at != "network" else ""
    place = f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"
    (found,) = problems(write(text))
    assert found.startswith(f"test.yaml:{place} {line}")


def test_all_problems_at_once_in_reading_order(write):
    text = GOOD.replace("width: [16, 32]", "width: 0").replace("4e6", "many")
    text = text.replace("[1, 2]", "[9, x]").replace("kind: basic", "tolerance: -1, knd: a")
    keys = [found.split()[1].rstrip(":") for found in problems(write(text))]
    entry = ("order", "order", "tolerance", "knd")
    assert keys == ["network.width", "truth.n_samples", *(f"estimators[0].{key}" for key in entry)]


def test_missing_file(tmp_path):
    assert problems(tmp_path / "test.yaml") == [
        "test.yaml: cannot be read: No such file or directory"
    ]


SWEEPS = [path for path in sorted(CONFIGS.glob("*.yaml")) if not config.read(path).child("command")]


@pytest.mark.slow
@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_shipped_config_is_valid_at_every_scale(path):
    for scale in (None, *config.scales(path)):
        assert isinstance(config.load(path, scale), Config)


def test_schema_json_is_up_to_date():
    assert json.loads((CONFIGS / "schema.json").read_text()) == config.schema()
