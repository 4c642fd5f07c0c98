"""Truths sampled in this process, as a sweep samples them."""

from cumprop.sampling import gaps, load, put_together, sample


def load_or_extend(directory, spec, n_samples):
    """The truth of `spec` or a deeper one with at least `n_samples`, from `directory` if there."""
    put_together(directory, spec)  # sets aside what is damaged
    for gap in gaps(directory, spec, n_samples):
        sample(directory, gap)
    return load(directory, spec.key)
