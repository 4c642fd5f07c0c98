"""The command line `cumprop`: exit codes, errors in one line, and the commands themselves.

Exit codes: 0 done, 1 runtime error, 2 usage or configuration, 3 finished with failed cells,
130 interrupted. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from errno import EROFS

import click

from cumprop.cli import streams
from cumprop.cli.bench import bench
from cumprop.cli.distill import distill
from cumprop.cli.estimate import estimate
from cumprop.cli.results import results
from cumprop.cli.show import plot, report, score, status
from cumprop.cli.sweep import sweep, validate
from cumprop.cli.tools import doctor, list_
from cumprop.cli.train import train
from cumprop.cli.truth import truth
from cumprop.errors import ConfigError, CumpropError
from cumprop.memory import keep_freed_memory

RUNTIME, USAGE, FAILED_CELLS, INTERRUPTED = 1, 2, 3, 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="cumprop", prog_name="cumprop")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Expected outputs of wide random MLPs from their weights, measured against sampling.

    A YAML file declares an experiment, `sweep` runs it, `plot` draws it.

    \b
    Example:
      cumprop sweep configs/relu_w256.yaml --scale smoke
      cumprop plot results/
    """
    context.obj = debug


for command in (
    sweep, score, plot, report, train, distill, estimate, bench, list_, validate, status, results,
    truth, doctor,
):  # fmt: skip
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; `cumprop` and `python cli.py` call this."""
    streams.prepare()
    if arguments is None:  # as a program, which draws files whatever its notebook draws on
        os.environ["MPLBACKEND"] = "agg"
        keep_freed_memory()
    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
        streams.flush(sys.stdout)
        return code
    except OSError as error:  # of what was printed
        return _report(error)
    finally:
        with suppress(OSError):
            streams.flush(sys.stderr)


def _run(words: list[str]) -> int:
    debug = "--debug" in words
    words.sort(key=lambda word: word != "--debug")  # it may stand behind a command, too
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # of a home that cannot be written
    try:
        code = cli.main(words, prog_name="cumprop", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        error.show()
        return USAGE
    except (KeyboardInterrupt, click.Abort):
        print("interrupted; what is finished is kept, the same command resumes", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if debug:
            raise
        return _report(error)


def _report(error: Exception) -> int:
    if isinstance(error, CumpropError):
        print(error, file=sys.stderr)
        return USAGE if isinstance(error, ConfigError) else RUNTIME
    if isinstance(error, BrokenPipeError):  # the reader of a pipe has gone, as in `| head`
        return RUNTIME
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        if isinstance(error, PermissionError) or error.errno == EROFS:
            reason += "" if ";" in reason else "; allow access, or name another place"
        print(f"{error.filename or 'input/output'}: {reason}", file=sys.stderr)
        return RUNTIME
    if isinstance(error, UnicodeEncodeError):  # a name with letters that the locale lacks
        print(f"{error.object}: set PYTHONUTF8=1, or take plain letters", file=sys.stderr)
        return RUNTIME
    if isinstance(error, MemoryError):
        print("out of memory; use a smaller width or a lower order", file=sys.stderr)
        return RUNTIME
    words = " ".join(str(error).split())
    print(f"unexpected {type(error).__name__}: {words}; --debug shows where", file=sys.stderr)
    return RUNTIME
