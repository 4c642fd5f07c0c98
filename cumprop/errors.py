"""Errors a user can act on: one line that names the remedy."""


class CumpropError(Exception):
    """Something the caller can put right; the message is one line and says how.

    >>> import cumprop
    >>> try:
    ...     cumprop.MLP([[[1.0, 2.0]], [[1.0]]], activations="softmax")
    ... except CumpropError as error:
    ...     print(str(error).partition(";")[0])
    unknown activation 'softmax'
    """


class ConfigError(CumpropError):
    """A configuration, a usage or an input file is wrong (exit code 2).

    >>> issubclass(ConfigError, CumpropError)
    True
    """
