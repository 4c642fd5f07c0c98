"""Options that several commands have, and what becomes of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cumprop.errors import ConfigError
from cumprop.files import write_atomically
from cumprop.sweep.engines import ENGINES

if TYPE_CHECKING:
    from cumprop.experiments.models import Config
    from cumprop.sweep.engines import Place

DIRECTORY = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)


def _shard(value: str) -> tuple[int, int]:
    """The part that an option names: (2, 8) of `2/8`, the second of eight."""
    match = re.fullmatch(r"(\d+)/(\d+)", value)
    number, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= count:
        raise click.BadParameter(f"{value!r}: write I/N with I from 1 to N, as in 2/8")
    return number, count


directory_argument = click.argument("directory", type=DIRECTORY, default=Path("results"))
results_option = click.option(
    "--results", type=DIRECTORY, default=Path("results"), show_default=True
)
workers_option = click.option(
    "-j", "--workers", "--jobs", "workers", type=click.IntRange(min=1),
    help="Processes side by side; all cores by default.",
)  # fmt: skip
engine_option = click.option(
    "--engine", type=click.Choice(ENGINES), default="local", show_default=True,
    help="Processes of this machine, a dask cluster, or Slurm job arrays.",
)  # fmt: skip
scheduler_option = click.option(
    "--scheduler", metavar="ADDRESS",
    help="Of dask, as in tcp://head:8786; without it --engine dask starts workers here.",
)  # fmt: skip
plugin_option = click.option(
    "--plugin", "plugins", multiple=True, type=FILE, help="Python file with further estimators."
)
scale_option = click.option(
    "--scale", envvar="SCALE", help="One of the config's scales (smoke, laptop, paper)."
)
format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv", "parquet"]),
    default="table",
    show_default=True,
)
shard_option = click.option(
    "--shard", type=_shard, metavar="I/N", help="Only part I of N, one for each of N machines."
)
out_option = click.option("--out", type=FILE, help="Write there, not to the screen.")
set_option = click.option(
    "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Override a key of the config."
)


@dataclass(frozen=True)
class RunOptions:
    """The options of a command that computes what a config asks for, on any engine."""

    results: Path
    workers: int | None
    engine: str
    scheduler: str | None
    scale: str | None
    sets: tuple[str, ...]

    def place(self) -> Place:
        """Where tasks run."""
        from cumprop.results.provenance import cores
        from cumprop.sweep.engines import Place

        if self.scheduler is not None and self.engine != "dask":
            raise ConfigError(f"--scheduler goes with --engine dask, not {self.engine}")
        return Place(self.engine, self.workers or cores(), self.scheduler)

    def config(self, path: Path) -> Config:
        """The configuration in a file, with the scale and the settings asked for."""
        return checked(path, self.scale, self.sets)


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command all `RunOptions`, as its argument `options`."""

    @wraps(command)
    def collected(*args: Any, **given: Any) -> Any:
        own = {f.name: given.pop(f.name) for f in fields(RunOptions)}
        return command(*args, options=RunOptions(**own), **given)

    for option in (
        set_option, scale_option, scheduler_option, engine_option, workers_option, results_option,
    ):  # fmt: skip
        collected = option(collected)
    return collected


def load_plugins(plugins: tuple[Path, ...]) -> None:
    """Register the estimators of plugin files."""
    from cumprop.contract import load_plugin

    for path in plugins:
        load_plugin(path)


def checked(path: Path, scale: str | None, sets: tuple[str, ...]) -> Config:
    """The configuration of a sweep; raises ConfigError with every problem."""
    from cumprop import plots
    from cumprop.experiments import config

    return config.load(path, scale, sets, figures=plots.available())


def deliver(content: bytes, out: Path | None) -> None:
    """Print text, or write it and anything else to the file `out`."""
    if out is None:
        print(content.decode(), end="")
    else:
        write_atomically(out, lambda file: file.write(content))
