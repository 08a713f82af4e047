"""The one error that this package shows to a person."""


class LocalKubeError(Exception):
    """Something a person must know; the message says what to do about it."""
