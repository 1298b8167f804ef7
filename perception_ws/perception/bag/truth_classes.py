"""The classes of a truth by the names in its LabelInfo, and what is lost where they are not the network's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import cv2
import numpy as np

from perception.errors import DatasetError
from perception.interfaces import UNLABELLED, LabelClass

_UNKNOWN = 254
_NO_CLASS = {'unlabelled', 'unlabeled', 'void', 'ignore', 'ignored'}
"""Names of what is no class, which nobody misses."""


class TruthClasses:
    """From the ids of one truth topic to the classes of the network.

    Args:
        names: Of its ids; None: they count in the network's own label space.
        classes: Those of the network.
        space: The name of its label space, for errors.

    Attributes:
        lost: Pixels or boxes that were not scored, by the name that the network does not have.
        seen: All that had a class.

    Raises:
        DatasetError: If no name is one of the network's.
    """

    def __init__(self, names: dict[int, str] | None, classes: Sequence[LabelClass], space: str) -> None:
        self._space = space
        ours = {label.name: index for index, label in enumerate(classes)}
        self._names = {index: label.name for index, label in enumerate(classes)} if names is None else names
        self._index = {number: ours.get(name) for number, name in self._names.items() if 0 <= number < 256}
        if all(index is None for index in self._index.values()):
            raise DatasetError(
                f'The truth in the bag has the classes {", ".join(self._names.values())}, and the network '
                f'{", ".join(ours)}: none agree. Use a network of that label space, or rename the classes in the '
                'LabelInfo.'
            )
        self._own = ours
        self.lost: Counter[str] = Counter()
        self.seen = 0

    def mask(self, ids: np.ndarray) -> np.ndarray:
        """(H, W) uint8 of ids as classes: UNLABELLED for those that the network does not have.

        Raises:
            DatasetError: If it holds an id that nobody named.
        """
        table = np.full(256, _UNKNOWN, np.uint8)
        table[UNLABELLED] = UNLABELLED
        for number, index in self._index.items():
            table[number] = UNLABELLED if index is None else index
        mask = cv2.LUT(np.ascontiguousarray(ids), table)
        if (mask == _UNKNOWN).any():
            raise DatasetError(f'Mask id {ids[mask == _UNKNOWN][0]} is none of the label space {self._space!r}.')
        missing = [number for number, index in self._index.items() if index is None and self._is_class(number)]
        self.seen += int(np.count_nonzero(mask != UNLABELLED))
        if missing:
            counts = np.bincount(ids.ravel(), minlength=256)[missing]
            self._lose({self._names[number]: int(count) for number, count in zip(missing, counts, strict=True)})
        return mask

    def _is_class(self, number: int) -> bool:
        return number != UNLABELLED and self._names[number].lower() not in _NO_CLASS

    def label(self, class_id: str) -> int | None:
        """The class of a box by its class_id, a number or a name; None for one that the network does not have.

        Raises:
            DatasetError: If nobody named it.
        """
        index, name = self._find(class_id)
        self.seen += index is not None
        if index is None:
            self._lose({name: 1})
        return index

    def ignored_label(self, class_id: str) -> int | None:
        """As ``label``, of a region to be ignored, whose class nobody misses.

        Raises:
            DatasetError: If nobody named it.
        """
        return self._find(class_id)[0]

    def _find(self, class_id: str) -> tuple[int | None, str]:
        numbers = {str(number): number for number in self._index} | {
            name: number for number, name in self._names.items() if number in self._index
        }
        if class_id in numbers:
            return self._index[numbers[class_id]], self._names[numbers[class_id]]
        if class_id in self._own:
            return self._own[class_id], class_id
        known = ', '.join({**numbers, **self._own})
        raise DatasetError(f'Box class {class_id!r} is none of the label space {self._space!r}; known: {known}.')

    def _lose(self, counts: dict[str, int]) -> None:
        self.lost.update({name: count for name, count in counts.items() if count})
        self.seen += sum(counts.values())

    def remark(self, unit: str) -> str:
        """What was lost, for people; empty: nothing."""
        if not self.lost:
            return ''
        lost = ', '.join(
            f'{name} ({count:,} {unit}, {100 * count / self.seen:.1f} %)' for name, count in self.lost.most_common()
        )
        return (
            f'Classes of the truth that the network does not have, so nothing of them is scored: {lost}. Where it has '
            'them by another name, rename them in the LabelInfo.'
        )
