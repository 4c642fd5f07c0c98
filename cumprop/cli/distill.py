"""The command distill: `train` by the name that it had for one experiment."""

from __future__ import annotations

from typing import Any

import click

from cumprop.cli.train import train


@click.command(params=train.params)
def distill(**options: Any) -> int:
    """Distil networks without samples: `cumprop train` by another name.

    The loss and its gradient are computed from the weights of teacher and student; SGD with the
    same FLOPs per step is run for comparison. Finished runs are not computed again. The command
    needs PyTorch. It exits with 3 if runs failed.

    \b
    Example:
      cumprop distill configs/distill.yaml --scale smoke
    """
    assert train.callback is not None
    code: int = train.callback(**options)
    return code
