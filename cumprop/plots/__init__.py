"""Figures: one module per figure, each drawing scores and nothing else."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cumprop import files
from cumprop.errors import CumpropError

_NOT_FIGURES = {"caption", "sampled_check", "scaling", "style", "tradeoff"}


def available() -> list[str]:
    """Names of all figures: the modules of this package but its helpers.

    >>> "mse_vs_flops" in available()
    True
    """
    return sorted({module.name for module in pkgutil.iter_modules(__path__)} - _NOT_FIGURES)


def plot(results: Path, out: Path, figures: list[str] | None = None) -> list[Path]:
    """Draw `figures` of every configuration below `results` into `out`.

    The default is the figures of the configuration's YAML, or all where it is not known. The rows
    are scored anew, so that figures are never older than truths; nothing below `results` is
    written. The files are `<config>_<figure>.{pdf,svg,png}`, and their paths are returned;
    `results/reference` is drawn only where `results` names it. Raises CumpropError for an unknown
    figure, where there are no results, or where a figure in `figures` cannot be drawn from them;
    for other figures stderr says why.
    """
    for name in figures or []:
        if name not in available():
            raise CumpropError(
                f"unknown figure {name!r}; the known ones are {', '.join(available())}"
            )
    from cumprop.plots import style

    written: list[Path] = []
    for config, rows, names in tables(Path(results), figures):
        for name in names:
            draw = importlib.import_module(f"cumprop.plots.{name}").draw
            try:
                with style.context():
                    written += style.save(
                        draw(rows), Path(out) / f"{files.shortened(config)}_{name}"
                    )
            except CumpropError as error:
                if figures:
                    raise
                print(f"{config}: no {name}: {error}", file=sys.stderr)
    if figures and not written:
        raise CumpropError(f"{results}: holds nothing that {', '.join(figures)} could show")
    return written


def tables(results: Path, figures: list[str] | None = None) -> Iterator[tuple[str, Any, list[str]]]:
    """Every configuration with its runs or scores, and the names of the figures to draw of them.

    The names are `figures`, those of its YAML, or all, without figures that cannot draw such rows.
    Raises CumpropError where there are no results.
    """
    from cumprop.results import scores, store
    from cumprop.training import runs

    def fitting(config: str, drawing: set[str]) -> list[str]:
        asked = figures or store.planned_figures(results, config) or available()
        return [name for name in asked if name in drawing]

    trained = runs.folders(results)
    for folder in trained:
        name = folder.resolve().name
        yield name, runs.read(folder), fitting(name, {*runs.kind_of(folder).figures})
    if scores.config_folders(results) or not trained:
        of_scores = {*available()}.difference(*(kind.figures for kind in runs.KINDS.values()))
        for config, rows in scores.score(results).groupby("config", sort=False):
            yield str(config), rows, fitting(str(config), of_scores)
