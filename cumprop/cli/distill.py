"""The command distill: train students by gradients of the estimated loss, and by SGD."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from cumprop import text
from cumprop.cli.options import FILE, results_option, scale_option, set_option, workers_option


@click.command()
@click.argument("config", type=FILE)
@results_option
@workers_option
@scale_option
@set_option
def distill(
    config: Path, results: Path, workers: int | None, scale: str | None, sets: tuple[str, ...]
) -> int:
    """Distil networks without samples.

    The loss and its gradient are computed from the weights of teacher and student; SGD with the
    same FLOPs per step is run for comparison. Finished runs are not computed again. The command
    needs PyTorch. It exits with 3 if runs failed.

    \b
    Example:
      cumprop distill configs/distill.yaml --scale smoke
    """
    from tqdm import tqdm

    from cumprop.experiments import distillation_config
    from cumprop.results.provenance import cores
    from cumprop.training import runs, wiring

    experiment = distillation_config.load(config, scale, sets)
    wiring.require_torch()
    folder = results / config.stem
    planned = distillation_config.runs(experiment, config.stem)
    kept = sum(runs.is_stored(run, folder / "parts") for run in planned)
    print(
        f"{len(planned)} runs ({kept} already there); results go to {folder / 'parts'}",
        file=sys.stderr,
    )
    failed = []
    with tqdm(total=len(planned) - kept, unit="run", disable=kept == len(planned)) as bar:
        for run, reason in runs.run_all(planned, folder, workers or cores()):
            bar.set_postfix_str(run.label, refresh=False)
            bar.update()
            if reason is not None:
                failed.append(f"{run.label}: failed: {reason}")
    for line in failed:
        print(line, file=sys.stderr)
    print(text.table(runs.summary(runs.read(folder))))
    print(f"\nfigure: cumprop plot {folder}", file=sys.stderr)
    return 3 if failed else 0
