"""The errors that this package raises for its callers' mistakes and for bad files. Importable from every room.

Each message says what came, what was expected and what to do.
"""

from collections.abc import Sequence

_LISTED = 60
"""Known words that an error about an unknown one lists; of more it names the nearest."""
_SHOWN = 8
"""Names that an error lists before it only counts."""


class PerceptionError(Exception):
    """Base of all errors that a user of this package may want to catch."""


class ConfigError(PerceptionError):
    """A setting, parameter or command-line value is unknown or out of range."""


class ShapeError(PerceptionError):
    """An array or tensor has sizes that the operation cannot serve."""


class ImageError(PerceptionError):
    """An image or image message cannot be decoded, or looked at.

    Attributes:
        reason: A short fixed word (for example ``wrong_step``) under which the drop is counted.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class NotFiniteError(ImageError):
    """What a network says of an image is no number; the image is not at fault."""

    def __init__(self, message: str) -> None:
        super().__init__('not_finite', message)


class CheckpointError(PerceptionError):
    """A checkpoint file is missing, truncated, of another kind, or does not match its network."""


class RecordingError(PerceptionError):
    """A bag, folder of images or video cannot be read, or holds no usable frames."""


class DatasetError(PerceptionError):
    """An annotation, a data set or its prepared cache is incomplete, broken, or not what its layout promises."""


class MissingDependencyError(PerceptionError):
    """An optional library is not installed; the message names the command that installs it."""


def nearest(word: str, known: list[str]) -> str:
    """Text for an error about an unknown word, to go on after a colon: the nearest known ones, then all, if few."""
    from difflib import get_close_matches

    close = get_close_matches(word, known, n=1)
    begin = f'did you mean {close[0]!r}? Known' if close else 'known'
    if len(known) > _LISTED:
        return f'did you mean {" or ".join(get_close_matches(word, known, cutoff=0))}? It knows {len(known):,} names.'
    return f'{begin} are {", ".join(sorted(known))}.' if known else 'none is known.'


def list_names(names: Sequence[str]) -> str:
    """Text for an error: the first names, and how many more there are."""
    more = f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''
    return (', '.join(names[:_SHOWN]) or 'nothing') + more
