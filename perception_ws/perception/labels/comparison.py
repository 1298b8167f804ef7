"""Whether two label spaces mean the same by a class id."""

from perception.errors import ConfigError
from perception.interfaces import LabelSpace


def check_same_classes(found: LabelSpace, whose: str, expected: LabelSpace, theirs: str) -> None:
    """Check that class ids count alike; colours and areas may differ, since no id depends on them.

    Args:
        found: One label space.
        whose: What has it, for the error.
        expected: The other.
        theirs: What has that.

    Raises:
        ConfigError: If the names or their order differ; lists both.
    """
    if _names(found) != _names(expected):
        raise ConfigError(
            f'{whose} has label space {describe(found)}, but {theirs} has {describe(expected)}; they must have the '
            'same classes in the same order. Take data and checkpoint of one label space.'
        )


def describe(labels: LabelSpace) -> str:
    """Its name and all its classes, for an error."""
    areas, objects = (', '.join(names) or 'none' for names in _names(labels))
    return f'{labels.name!r} (areas {areas}; objects {objects})'


def _names(labels: LabelSpace) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(label.name for label in classes) for classes in (labels.segmentation, labels.detection))
