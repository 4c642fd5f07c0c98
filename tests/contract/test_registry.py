"""Backends by name: those of `estimators/`, also where a file there is none."""

import sys

import pytest

import cumprop
from cumprop import estimators
from cumprop.contract import load_plugin, registry
from cumprop.contract.plugins import temporary_plugins
from cumprop.errors import CumpropError

STRAY = {
    "notes.py": "LIST = [1]\n",
    "broken.py": "import a_package_that_is_not_there\n",
    "crashing.py": "raise ValueError('first line\\nsecond line')\n",
    "folder/__init__.py": "",
    "_private.py": "raise AssertionError('nobody asks for private modules')\n",
    "__pycache__/leftover.py": "raise AssertionError('nor for this')\n",
}
REASONS = {
    "notes": "estimators/notes.py defines no estimator named notes: decorate a class with "
    '@register("notes"), or move the file away',
    "broken": "estimators/broken.py cannot be imported: ModuleNotFoundError: No module named "
    "'a_package_that_is_not_there'",
    "crashing": "estimators/crashing.py cannot be imported: ValueError: first line second line",
    "folder": "estimators/folder defines no estimator named folder: decorate a class with "
    '@register("folder"), or move the file away',
}


@pytest.fixture
def stray(tmp_path, monkeypatch):
    """Files that are no backends, beside those that are."""
    for name, content in STRAY.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(estimators, "__path__", [*estimators.__path__, str(tmp_path)])
    yield tmp_path
    for name in REASONS:
        sys.modules.pop(f"cumprop.estimators.{name}", None)


def test_stray_files_are_not_available(stray):
    names = cumprop.available()
    assert "cumulant" in names
    assert not {"notes", "broken", "crashing", "folder", "_private", "leftover"} & {*names}
    assert registry.unavailable() == REASONS


@pytest.mark.parametrize("name", REASONS)
def test_a_stray_file_that_is_asked_for_says_what_is_wrong_with_it(stray, name):
    for _ in range(2):  # a failed import leaves nothing behind
        with pytest.raises(CumpropError) as caught:
            cumprop.estimate(cumprop.MLP([[[1.0]]]), name)
        assert str(caught.value) == REASONS[name]


@pytest.mark.parametrize("name", ["_private", "__pycache__", "__init__", "nothing"])
def test_other_names_are_unknown(stray, name):
    with pytest.raises(CumpropError, match=f"unknown estimator '{name}'; the known ones are adap"):
        registry.get(name)


def test_list_shows_the_backends_and_what_is_wrong_with_the_rest(run, stray):
    code, out, err = run("list")
    assert (code, err) == (0, "")
    assert "  monte_carlo   n_samples=10000" in out
    for name, reason in REASONS.items():
        assert f"  {name:<14}not available: {reason}\n" in out


def test_a_stray_file_does_not_disturb_a_sweep(run, stray, tmp_path):
    path = tmp_path / "test.yaml"
    path.write_text(
        "network: {width: 4, depth: 1}\ntruth: {n_samples: 100}\nestimators: [{name: notes}]\n"
    )
    code, _, err = run("validate", path)
    assert code == 2 and "test.yaml:3:21 estimators[0].name: estimators/notes.py defines" in err
    path.write_text(path.read_text().replace("notes", "cumulant"))
    assert run("validate", path)[0] == 0


def test_a_decorator_without_a_name_is_refused():
    with pytest.raises(CumpropError, match="name of an estimator must be text, got <class"):
        cumprop.register(int)


def test_a_plugin_is_forgotten_at_the_end_of_its_block(tmp_path):
    from helpers.harness import TOY

    (tmp_path / "toy.py").write_text(TOY)
    for _ in range(2):  # it can be loaded again
        with temporary_plugins():
            load_plugin(tmp_path / "toy.py")
            assert registry.get("toy").__name__ == "Toy"
            registry.get("unscented")
        with pytest.raises(CumpropError, match="unknown estimator 'toy'"):
            registry.get("toy")
        assert registry.get("unscented").__name__ == "Unscented"
