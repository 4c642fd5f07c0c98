"""The commands `truth …`: sample more, and list stored truths."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cumprop import text
from cumprop.cli.options import RunOptions, directory_argument, run_options
from cumprop.errors import ConfigError, CumpropError

if TYPE_CHECKING:
    from cumprop.sampling import TruthSpec


@click.group()
def truth() -> None:
    """Look after the sampled truth that estimates are compared with.

    \b
    Example:
      cumprop truth list results/
    """


@truth.command()
@click.argument("source", type=click.Path(path_type=Path), metavar="CONFIG|DIRECTORY")
@click.option("--n-samples", type=float, required=True, help="Samples a network, as in 1e9.")
@run_options
@click.pass_obj
def extend(debug: bool, source: Path, n_samples: float, options: RunOptions) -> int:
    """Sample truths until they have --n-samples.

    Give a CONFIG to extend the truths of its networks, or a results DIRECTORY to extend all truths
    in it. Stored samples are reused, and the result is the same as that of one run. Run `cumprop
    score` afterwards to update scores.

    \b
    Example:
      cumprop truth extend configs/relu_w256.yaml --n-samples 1e9
      cumprop truth extend results/ --n-samples 1e8 --engine slurm --workers 64
    """
    from cumprop.sweep.sweep import sample

    if not 2 <= n_samples < 1e18:
        raise ConfigError(f"--n-samples {n_samples:g}: give at least 2, as in 1e9")
    if source.is_dir():
        if options.sets:
            raise ConfigError("--set goes with a CONFIG, not with a folder")
        results, specs = source, _stored(source)
    else:
        from cumprop.experiments.grid import truth_specs

        found = truth_specs(options.config(source)).values()
        results, specs = options.results, [*{spec.key: spec for spec in found}.values()]
    failed = sample(specs, round(n_samples), results, options.place(), debug)
    for outcome in failed:
        print(outcome, file=sys.stderr)
    print(f"scores: cumprop score {results}", file=sys.stderr)
    return 3 if failed else 0


@truth.command("list")
@directory_argument
def list_(directory: Path) -> None:
    """Show the truths in DIRECTORY, a results root, and how many samples they have.

    \b
    Example:
      cumprop truth list results/
    """
    from cumprop.sampling import samples_stored

    rows = [
        {
            "key": spec.key,
            "activation": spec.activation,
            "width": spec.width,
            "depth": spec.depth,
            "seed": spec.seed,
            "design": spec.design,
            "dtype": spec.dtype,
            "n_samples": f"{samples_stored(directory / 'truth', spec):,}",
        }
        for spec in _stored(directory)
    ]
    print(text.table(rows))


def _stored(results: Path) -> list[TruthSpec]:
    """The truths stored below a results root, sorted by shape."""
    from cumprop.sampling import stored_specs

    found = stored_specs(results / "truth")
    if not found:
        raise CumpropError(f"{results}: holds no truths; run `cumprop sweep CONFIG` first")
    return sorted(found, key=lambda s: (s.activation, s.width, s.depth, s.seed, s.key))
