"""Errors that a user can act on: one line that names the remedy."""


class CumpropError(Exception):
    """An error that the caller can put right; the message is one line and names the remedy.

    >>> import cumprop
    >>> try:
    ...     cumprop.MLP([[[1.0, 2.0]], [[1.0]]], activations="softmax")
    ... except CumpropError as error:
    ...     print(str(error).partition(";")[0])
    unknown activation 'softmax'
    """


class ConfigError(CumpropError):
    """An error in a configuration, a usage or an input file (exit code 2).

    >>> issubclass(ConfigError, CumpropError)
    True
    """
