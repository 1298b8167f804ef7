"""The error that bad training data raises; the message names the file."""

from perception.errors import PerceptionError


class DatasetError(PerceptionError):
    """A data set or its prepared cache is incomplete, broken, or not what its layout promises."""
