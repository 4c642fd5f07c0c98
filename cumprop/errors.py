"""Errors a user can act on: one line that names the remedy."""


class CumpropError(Exception):
    """Something the caller can put right; the message is one line and says how."""


class ConfigError(CumpropError):
    """A configuration, a usage or an input file is wrong (exit code 2)."""
