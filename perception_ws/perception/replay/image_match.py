"""Which annotation each image of a folder has: the one that lies beside it, or the one of its name."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from perception.bag.labelled import CITYSCAPES_IMAGE_END, LabelledFile, LabelledFolder
from perception.errors import DatasetError


def match_images(folder: LabelledFolder, images: Sequence[Path]) -> dict[str, LabelledFile]:
    """Find the annotations of images.

    Where the images of the data set itself are among them, each has the annotation beside it, and no other. Images that
    lie elsewhere go by their names: where folders of the data set are named as theirs, by those in them; else by all.

    Returns:
        The annotation of each image that has one, by the path as it was given.

    Raises:
        DatasetError: If an image may have either of two annotations, or two images have one; names them.
    """
    beside = {os.path.realpath(image): file for file in folder.files for image in file.images}
    found = {str(image): beside.get(os.path.realpath(image)) for image in images}
    matched = {image: file for image, file in found.items() if file is not None} or _match_names(folder, images)
    _require_one_image_each(matched)
    return matched


def split_of_images(folder: LabelledFolder, images: Sequence[Path]) -> str:
    """The name of another split of the data set that the images are of; empty: of none."""
    places = {Path(os.path.realpath(path)): split for split, path in folder.other_images.items()}
    return next((places[above] for image in images for above in _real(image).parents if above in places), '')


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _match_names(folder: LabelledFolder, images: Sequence[Path]) -> dict[str, LabelledFile]:
    by_stem: dict[str, list[LabelledFile]] = defaultdict(list)
    for file in folder.files:
        by_stem[file.stem].append(file)
    folders = {file.name.parent.parts for file in folder.files}
    nearness = {
        place: max(_common_end(place.parts, parts) for parts in folders) for place in {i.parent for i in images}
    }
    matched = {}
    for image in images:
        candidates = [
            file
            for file in by_stem[image.stem.removesuffix(CITYSCAPES_IMAGE_END)]
            if _common_end(image.parent.parts, file.name.parent.parts) == nearness[image.parent]
        ]
        if len(candidates) > 1:
            raise DatasetError(
                f'{image} may belong to {candidates[0]} or to {candidates[1]}, which have one name. Replay the images '
                'where they lie in the data set, or in a folder of the name of theirs.'
            )
        if candidates:
            matched[str(image)] = candidates[0]
    return matched


def _common_end(one: Sequence[str], other: Sequence[str]) -> int:
    """How many of the last parts of two paths agree."""
    length = 0
    for part, counterpart in zip(reversed(one), reversed(other), strict=False):
        if part != counterpart:
            break
        length += 1
    return length


def _require_one_image_each(matched: Mapping[str, LabelledFile]) -> None:
    image_of: dict[int, str] = {}
    for image, file in matched.items():
        first = image_of.setdefault(id(file), image)
        if first != image:
            raise DatasetError(f'{first} and {image} have one annotation, {file}; remove the one that it is not of.')
