"""Where a row comes from."""

from pathlib import Path

from cumprop.results.provenance import provenance

ROOT = Path(__file__).parents[2]


def test_rows_of_a_checkout_carry_its_revision():
    revision = provenance(threads=1, workers=1)["git_revision"]
    assert (revision is not None) == (ROOT / ".git").exists()
    assert revision is None or len(revision.removesuffix("+")) == 40
