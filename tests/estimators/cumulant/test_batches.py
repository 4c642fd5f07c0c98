"""Arrays under a batch of inputs."""

import numpy as np
import pytest

from cumprop.estimators.cumulant.batches import PADDING, WIDE, turned


@pytest.mark.parametrize(
    "shape",
    [(3, 5), (WIDE - 1, 200), (WIDE, WIDE), (2 * WIDE + 1, 70), (70, 2 * WIDE), (2, WIDE + 9, 80)],
)
def test_transposes_are_read_from_strips_of_rows(shape):
    """Whole strips and a part of one, of columns of a wider matrix too."""
    wider = np.random.default_rng(0).normal(size=(*shape[:-1], shape[-1] + PADDING))
    for matrix in (wider, wider[..., 3:-4]):
        np.testing.assert_array_equal(turned(matrix), np.swapaxes(matrix, -1, -2))
