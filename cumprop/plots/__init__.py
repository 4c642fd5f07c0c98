"""Figures: one module per figure, each drawing scores and nothing else."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

from cumprop.errors import CumpropError

_NOT_FIGURES = {"caption", "scaling", "style", "tradeoff"}


def available() -> list[str]:
    """Names of all figures: the modules of this package but its helpers.

    >>> "mse_vs_flops" in available()
    True
    """
    return sorted({module.name for module in pkgutil.iter_modules(__path__)} - _NOT_FIGURES)


def plot(results: Path, out: Path, figures: list[str] | None = None) -> list[Path]:
    """Draw `figures` of every configuration below `results` into `out`.

    By default those that its YAML asks for, all where that is not known. Scores the rows first, so
    pictures are never older than truths. Writes `<config>_<figure>.{pdf,svg,png}` and returns the
    paths; `results/reference` is drawn only where `results` names it. Raises CumpropError for an
    unknown figure, where there are no results, or where a figure asked for by name cannot be drawn
    from them; otherwise stderr says why.
    """
    for name in figures or []:
        if name not in available():
            raise CumpropError(
                f"unknown figure {name!r}; the known ones are {', '.join(available())}"
            )
    from cumprop import store
    from cumprop.plots import style
    from cumprop.scores import score

    scores = score(Path(results))
    written: list[Path] = []
    for config, rows in scores.groupby("config", sort=False):
        for name in figures or store.planned_figures(results, str(config)) or available():
            draw = importlib.import_module(f"cumprop.plots.{name}").draw
            try:
                with style.context():
                    written += style.save(draw(rows), Path(out) / f"{config}_{name}")
            except CumpropError as error:
                if figures:
                    raise
                print(f"{config}: no {name}: {error}", file=sys.stderr)
    return written
