"""The columns of stored tables: cells of a sweep, and runs of `cumprop train`.

They are described in results/README.md, which a test compares with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

SCHEMA_VERSION = 2
"""The version of the columns; rows of another version are not read.

A change of the meaning of a column needs a new version."""

DONE, FAILED = "done", "failed"
"""Values of the column `outcome`; the column `note` of a failed row says why."""

KIND = b"cumprop_table"
"""The key in the metadata of a parquet file whose value names the table, a key of `SCHEMAS`."""

PARAMETERS = ("order", "kind", "algorithm", "metric", "truncation", "n_samples", "design")
"""Parameters of estimators that have a column of their own."""

USUAL = {"kind": "basic", "algorithm": "auto", "metric": "exact", "truncation": "corrected"}
"""Values of these columns where a row has none."""


def interval_of(name: str) -> tuple[str, str, str]:
    """The columns of a number with its 95% interval.

    >>> interval_of("p")
    ('p', 'p_low', 'p_high')
    """
    return name, f"{name}_low", f"{name}_high"


SCHEMA = pa.schema(
    [
        ("schema_version", pa.int32()),
        ("cell_key", pa.string()),
        ("config", pa.string()),
        ("width", pa.int64()),
        ("depth", pa.int64()),
        ("readout", pa.string()),
        ("activation", pa.string()),
        ("init", pa.string()),
        ("dtype", pa.string()),
        ("seed", pa.int64()),
        ("repeat", pa.int64()),
        ("estimator", pa.string()),
        ("order", pa.int64()),
        ("kind", pa.string()),
        ("algorithm", pa.string()),
        ("metric", pa.string()),
        ("truncation", pa.string()),
        ("tolerance", pa.float64()),
        ("n_samples", pa.int64()),
        ("design", pa.string()),
        ("parameters", pa.string()),
        ("estimator_version", pa.int64()),
        ("truth_design", pa.string()),
        ("truth_key", pa.string()),
        ("truth_n_samples", pa.int64()),
        ("mean", pa.list_(pa.float64())),
        ("stderr", pa.list_(pa.float64())),
        ("half_width", pa.list_(pa.float64())),
        ("expected_error", pa.float64()),
        ("expected_std_error", pa.float64()),
        ("flops", pa.int64()),
        ("flops_components", pa.string()),
        ("flops_convention", pa.string()),
        ("seconds", pa.float64()),
        ("peak_bytes", pa.int64()),
        ("outcome", pa.string()),
        ("note", pa.string()),
        ("status", pa.string()),
        ("cumprop_version", pa.string()),
        ("numpy_version", pa.string()),
        ("scipy_version", pa.string()),
        ("python_version", pa.string()),
        ("cpu", pa.string()),
        ("blas", pa.string()),
        ("threads", pa.int64()),
        ("workers", pa.int64()),
        ("git_revision", pa.string()),
        ("created", pa.string()),
    ],
    metadata={KIND: b"cells"},
)

_END_OF_RUN = [
    ("flops_convention", pa.string()),
    ("seconds", pa.float64()),
    ("outcome", pa.string()),
    ("note", pa.string()),
    ("status", pa.string()),
    ("torch_version", pa.string()),
    *((field.name, field.type) for field in [*SCHEMA][SCHEMA.get_field_index("cumprop_version") :]),
]

RUN_SCHEMA = pa.schema(
    [
        ("schema_version", pa.int32()),
        ("cell_key", pa.string()),
        ("config", pa.string()),
        ("width", pa.int64()),
        ("student_width", pa.int64()),
        ("depth", pa.int64()),
        ("activation", pa.string()),
        ("dtype", pa.string()),
        ("seed", pa.int64()),
        ("method", pa.string()),
        ("order", pa.int64()),
        ("lr", pa.float64()),
        ("n_steps", pa.int64()),
        ("n_samples", pa.int64()),
        ("run_version", pa.int64()),
        ("batch", pa.int64()),
        ("step", pa.list_(pa.int64())),
        ("flops", pa.list_(pa.int64())),
        ("loss", pa.list_(pa.float64())),
        ("true_loss", pa.list_(pa.float64())),
        ("true_loss_se", pa.list_(pa.float64())),
        ("teacher_variance", pa.float64()),
        *_END_OF_RUN,
    ],
    metadata={KIND: b"runs"},
)

TRAINING_SCHEMA = pa.schema(
    [
        ("schema_version", pa.int32()),
        ("cell_key", pa.string()),
        ("config", pa.string()),
        ("task", pa.string()),
        ("width", pa.int64()),
        ("depth", pa.int64()),
        ("activation", pa.string()),
        ("dtype", pa.string()),
        ("probability", pa.float64()),
        ("teacher", pa.int64()),
        ("seed", pa.int64()),
        ("method", pa.string()),
        ("way", pa.string()),
        ("order", pa.int64()),
        ("weight", pa.float64()),
        ("directions", pa.int64()),
        ("advice_steps", pa.int64()),
        ("fresh", pa.int64()),
        ("batch", pa.int64()),
        ("lr", pa.float64()),
        ("n_steps", pa.int64()),
        ("n_scores", pa.int64()),
        ("n_samples", pa.int64()),
        ("tolerance", pa.float64()),
        ("shift", pa.float64()),
        ("run_version", pa.int64()),
        ("threshold", pa.float64()),
        ("cost", pa.float64()),
        *((name, pa.float64()) for name in interval_of("teacher_probability")),
        ("step", pa.list_(pa.int64())),
        ("flops", pa.list_(pa.int64())),
        ("events_seen", pa.list_(pa.int64())),
        ("loss", pa.list_(pa.float64())),
        ("penalty", pa.list_(pa.float64())),
        ("penalty_error", pa.list_(pa.float64())),
        ("true_loss", pa.list_(pa.float64())),
        ("true_loss_se", pa.list_(pa.float64())),
        *((name, pa.list_(pa.float64())) for name in interval_of("true_penalty")),
        *((name, pa.list_(pa.float64())) for name in interval_of("true_probability")),
        ("within", pa.list_(pa.bool_())),
        ("exploits", pa.list_(pa.bool_())),
        ("shifted_loss", pa.float64()),
        ("shifted_loss_se", pa.float64()),
        *((name, pa.float64()) for name in interval_of("shifted_penalty")),
        *((name, pa.float64()) for name in interval_of("shifted_probability")),
        *_END_OF_RUN,
    ],
    metadata={KIND: b"training"},
)

SCHEMAS = {schema.metadata[KIND]: schema for schema in (SCHEMA, RUN_SCHEMA, TRAINING_SCHEMA)}
"""The columns of each kind of table."""


def failed(row: Mapping[str, Any]) -> bool:
    """Whether a stored row or a score belongs to a failed computation."""
    return bool(row["outcome"] == FAILED)


def failure(reason: str) -> dict[str, str]:
    """The columns `outcome` and `note` of a failed row, with the reason in one line."""
    return {"outcome": FAILED, "note": " ".join(reason.split())}
