"""The commands sweep and validate: run experiments, or only check them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cumprop import text
from cumprop.cli.options import (
    FILE,
    RunOptions,
    checked,
    load_plugins,
    plugin_option,
    run_options,
    shard_option,
)
from cumprop.cli.show import minutes, score_table
from cumprop.errors import ConfigError, CumpropError

if TYPE_CHECKING:
    from cumprop.sweep.sweep import Plan


@click.command()
@click.argument("configs", type=FILE, nargs=-1, required=True)
@run_options
@shard_option
@click.option(
    "--time-limit", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
    help="A cell that takes longer fails; the others go on.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show what would run and what it takes.")
@plugin_option
@click.pass_obj
def sweep(
    debug: bool,
    configs: tuple[Path, ...],
    options: RunOptions,
    shard: tuple[int, int] | None,
    time_limit: float | None,
    dry_run: bool,
    plugins: tuple[Path, ...],
) -> int:
    """Run the experiments CONFIGS.

    The sweep stores rows, truths and scores below --results. Cells that this or another experiment
    has computed are skipped. The minutes of --dry-run are for --workers free cores, at a speed that
    a benchmark of some seconds measures. The command exits with 3 if cells failed.

    \b
    Example:
      cumprop sweep configs/relu_w256.yaml --scale smoke --set network.width=[32,64]
      cumprop sweep configs/depths.yaml --engine dask --scheduler tcp://head:8786
      cumprop sweep configs/depths.yaml configs/grid.yaml --scale paper --shard 1/8
    """
    from cumprop.sweep.sweep import plan, run_all, shared

    load_plugins(plugins)
    results, where = options.results, options.place()
    plans = []
    for config in configs:
        one = plan(options.config(config), config.stem, None if shard else results)
        plans.append(one if options.workers is None else replace(one, workers=options.workers))
    plans = shared(plans)
    if shard is not None:
        plans = [one.shard(*shard) for one in plans]
    if dry_run:
        _show_forecast(plans, results, where.workers)
        return 0
    summaries = run_all(plans, results, where, plugins, debug, time_limit)
    for one, summary in zip(plans, summaries, strict=True):
        print(
            f"{one.name}: {summary.computed} cells computed, {summary.kept} already there, "
            f"{len(summary.failed)} failed",
            file=sys.stderr,
        )
        for outcome in summary.failed:
            print(outcome, file=sys.stderr)
    failed = any(summary.failed for summary in summaries)
    if shard is not None:
        print(f"when all shards are done: cumprop score {results}", file=sys.stderr)
        return 3 if failed else 0
    scored = [_score(one, results, show=len(plans) == 1) for one in plans]
    if len(plans) > 1:
        print(f"\nfigures: cumprop plot {results}", file=sys.stderr)
    return 3 if failed else 0 if all(scored) else 1


@click.command()
@click.argument("configs", type=FILE, nargs=-1, required=True)
@plugin_option
def validate(configs: tuple[Path, ...], plugins: tuple[Path, ...]) -> None:
    """Check CONFIGS with all their scales; runs nothing.

    \b
    Example:
      cumprop validate configs/*.yaml
    """
    load_plugins(plugins)
    problems = list(dict.fromkeys(line for path in configs for line in _problems(path)))
    if problems:
        raise ConfigError("\n".join(problems))
    print(f"{len(configs)} valid")


def _problems(path: Path) -> Iterator[str]:
    from cumprop.experiments import config

    try:
        for scale in (None, *config.scales(path)):
            try:
                _check(path, scale)
            except ConfigError as error:
                yield from str(error).splitlines()
    except ConfigError as error:
        yield from str(error).splitlines()


def _check(path: Path, scale: str | None) -> None:
    """Raise ConfigError where a configuration, for whichever command, has problems."""
    from cumprop.experiments import catastrophe_config, config, distillation_config

    command = config.read(path, scale).child("command")
    for training in (catastrophe_config, distillation_config):
        if command and command.value == training.COMMAND:
            training.load(path, scale)
            return
    checked(path, scale, ())


def _show_forecast(asked: Sequence[Plan], results: Path, workers: int) -> None:
    from cumprop.sweep.forecast import forecast, overview
    from cumprop.sweep.sweep import remaining

    plans = remaining(asked, results)
    stored = sum(len(one.cells) for one in asked) - sum(len(one.cells) for one in plans)
    if len(plans) == 1:
        rows = forecast(plans[0], plans[0].workers or workers)
        note = "flops and bytes are of one cell; minutes are of all cells of a line"
    else:
        rows = overview(plans, workers)
        note = "bytes are at the worst moment of all workers; what is shared counts once"
    written: dict[str, Callable[[Any], str]] = {
        "flops": "{:.2e}".format,
        "bytes": lambda n: "" if n is None else text.size(n),
        "minutes": minutes,
    }
    shown = [{k: written[k](v) if k in written else v for k, v in row.items()} for row in rows]
    print(text.table(shown) or "nothing to compute")
    total = minutes(sum(row["minutes"] for row in rows))
    left_out = sum(one.left_out for one in plans)
    beside = f" ({left_out} too large and left out)" if left_out else ""
    print(
        f"\n{sum(len(one.cells) for one in plans)} cells{beside}, "
        f"{sum(len(one.truths) for one in plans)} truths, {total} minutes with "
        f"{workers} workers; {stored} cells are stored.\n{note}.\n"
        f"Minutes assume {workers} free cores and the rates of workers side by side, measured on\n"
        "this machine just now; waiting for memory and for other programs comes on top."
    )


def _score(plan: Plan, results: Path, show: bool) -> bool:
    """Store the scores of an experiment, and print them if `show`; return whether any exist."""
    from cumprop.results.scores import score_and_store

    try:
        scored = score_and_store(results / plan.name)
    except CumpropError as error:
        print(error, file=sys.stderr)
        return False
    if show:
        print(score_table(scored))
        figures = "".join(f" --figure {name}" for name in plan.figures)
        print(f"\nfigures: cumprop plot {results / plan.name}{figures}", file=sys.stderr)
    return True
