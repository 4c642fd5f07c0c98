"""A run of an experiment of training: its determinants, and the key that they make."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import ClassVar, TypeVar

from cumprop import files
from cumprop.experiments import columns


@dataclass(frozen=True)
class TrainingRun:
    """All that determines the numbers of a run, in the fields of a subclass.

    `config` is the experiment that the run belongs to, which determines none of them.
    """

    version: ClassVar[int]
    config: str

    @cached_property
    def key(self) -> str:
        """A hash of all that determines the numbers, 16 hex digits: the name of the run's file."""
        return self.key_of(self.version)

    def key_of(self, version: int) -> str:
        """The key of this run's numbers in a version of the program."""
        content = {k: v for k, v in asdict(self).items() if k != "config"}
        content |= {"version": version, "schema_version": columns.SCHEMA_VERSION}
        return files.content_hash(json.dumps(content, sort_keys=True))


R = TypeVar("R", bound=TrainingRun)


def once(runs: Iterable[R]) -> list[R]:
    """The runs in their order, each key once; of equal keys the last run."""
    return list({run.key: run for run in runs}.values())
