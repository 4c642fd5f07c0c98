"""Sets of inputs by design, group means of forward passes, and the stored truth."""

from cumprop.sampling.absorbed_input import standardised
from cumprop.sampling.designs import SCRAMBLINGS, Batch, Inputs, block_size, rounded
from cumprop.sampling.group_means import FEWEST, MOST_GROUPS, UNSEEN, Replicates, replicates
from cumprop.sampling.passes import (
    Around,
    Base,
    Centring,
    Passes,
    check_finite,
    keeping_digits,
    pulled_back,
)
from cumprop.sampling.roots import covariance_root, input_root
from cumprop.sampling.tails import (
    BUCKET_COLUMNS,
    WORST,
    TailSpec,
    TailTruth,
    tail_network,
    threshold,
)
from cumprop.sampling.truth import MeanSpec, MeanTruth, Truth, TruthSpec
from cumprop.sampling.truth_store import (
    TruthBlock,
    chunks_stored,
    gaps,
    load,
    missing_chunks,
    put_together,
    sample,
    samples_stored,
    stored_specs,
)

__all__ = [
    "BUCKET_COLUMNS",
    "FEWEST",
    "MOST_GROUPS",
    "SCRAMBLINGS",
    "UNSEEN",
    "WORST",
    "Around",
    "Base",
    "Batch",
    "Centring",
    "Inputs",
    "MeanSpec",
    "MeanTruth",
    "Passes",
    "Replicates",
    "TailSpec",
    "TailTruth",
    "Truth",
    "TruthBlock",
    "TruthSpec",
    "block_size",
    "check_finite",
    "chunks_stored",
    "covariance_root",
    "gaps",
    "input_root",
    "keeping_digits",
    "load",
    "missing_chunks",
    "pulled_back",
    "put_together",
    "replicates",
    "rounded",
    "sample",
    "samples_stored",
    "standardised",
    "stored_specs",
    "tail_network",
    "threshold",
]
