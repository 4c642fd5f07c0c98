"""The command train: gradient descent on losses that are read off the weights, and on samples."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cumprop import text
from cumprop.cli.options import FILE, results_option, scale_option, set_option, workers_option
from cumprop.errors import ConfigError

if TYPE_CHECKING:
    from cumprop.training.runs import Run


@click.command()
@click.argument("config", type=FILE)
@results_option
@workers_option
@scale_option
@set_option
@click.option("--dry-run", is_flag=True, help="Print the runs that are left, and compute nothing.")
def train(
    config: Path,
    results: Path,
    workers: int | None,
    scale: str | None,
    sets: tuple[str, ...],
    dry_run: bool,
) -> int:
    """Train networks on estimated losses, and score them by true ones.

    An experiment compares methods over networks and seeds: configs/catastrophe.yaml trains away a
    costly event that no sample shows, configs/distill.yaml imitates networks without samples.
    Finished runs are not computed again. The command needs PyTorch. It exits with 3 if runs failed.

    \b
    Example:
      cumprop train configs/catastrophe.yaml --scale smoke
    """
    from cumprop.experiments import config as any_config
    from cumprop.results.provenance import cores
    from cumprop.training import runs, wiring

    command = any_config.read(config, scale, sets).child("command")
    kind = runs.KINDS.get(command.value if command else "")
    if kind is None:
        raise ConfigError(f"{config}: no experiment of training; run `cumprop sweep {config}`")
    planned = kind.configs.runs(kind.configs.load(config, scale, sets), config.stem)
    folder = results / config.stem
    left = [run for run in planned if not runs.is_stored(run, folder / "parts")]
    if dry_run:
        print("\n".join(f"{run.label}, {run.n_steps:,} steps" for run in left))
    else:
        wiring.require_torch()
    print(
        f"{len(planned)} runs ({len(planned) - len(left)} already there); "
        f"results go to {folder / 'parts'}",
        file=sys.stderr,
    )
    if dry_run:
        return 0
    failed = _run(planned, len(left), folder, workers or cores())
    print(text.table(runs.summary(runs.read(folder))))
    print(f"\nfigure: cumprop plot {folder}", file=sys.stderr)
    return 3 if failed else 0


def _run(planned: list[Run], left: int, folder: Path, workers: int) -> bool:
    """Compute the runs that are left, with a bar; whether some failed, which stderr names."""
    from tqdm import tqdm

    from cumprop.training import runs

    failed = []
    with tqdm(total=left, unit="run", disable=not left) as bar:
        for run, reason in runs.run_all(planned, folder, workers):
            bar.set_postfix_str(run.label, refresh=False)
            bar.update()
            if reason is not None:
                failed.append(f"{run.label}: failed: {reason}")
    for line in failed:
        print(line, file=sys.stderr)
    return bool(failed)
