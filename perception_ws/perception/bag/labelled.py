"""Folders of annotated images as frames with truth: the layouts of CamVid and of Cityscapes.

    CamVid       <root>/<split>/<stem>.jpg or .png, <root>/<split>annot/<stem>.png
    Cityscapes   <root>/leftImg8bit/<split>/<city>/..., <root>/gtFine/<split>/<city>/...

Truth can also be matched to a recording of the same images: by the name of the image, by the stamp that each
annotation's name ends with, in ns, or by order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from perception.bag.frames import IMAGE_SUFFIXES, list_images
from perception.bag.source import counting_order
from perception.errors import DatasetError, RecordingError
from perception.interfaces import GroundTruth
from perception.truth import CamVidAnnotations, CityscapesAnnotations
from perception.truth.cityscapes import INSTANCES_END, LABELS_END
from perception.truth.index_maps import ImageSize

Match = Literal['name', 'stamp', 'order']
_CITYSCAPES_IMAGE_END = '_leftImg8bit'
_SPLITS = ('test', 'val', 'train')


@dataclass(frozen=True, kw_only=True)
class LabelledFile:
    """One annotation, and its image where that lies beside it."""

    annotation: Path
    image: Path | None
    read: Callable[[ImageSize], GroundTruth]
    beside: Path | None = None
    """What else it is read from."""

    @property
    def stem(self) -> str:
        """Its name without the ending: what its image is named by."""
        return self.annotation.name.removesuffix(LABELS_END).removesuffix('.png')

    @property
    def stamp_ns(self) -> int | None:
        """The number that ends its name, if that has the length of a time in ns."""
        found = re.search(r'(\d{12,19})$', self.stem)
        return int(found.group(1)) if found else None


@dataclass(frozen=True, kw_only=True)
class LabelledFolder:
    """The annotated images of one split, in the order in which a person counts.

    Attributes:
        layout: ``camvid`` or ``cityscapes``.
        boxes: Whether there are boxes, too: not in Cityscapes layout without a single instanceIds.
        weak_boxes: Whether boxes come from connected components of the mask: a figure on them must say so.
    """

    path: Path
    layout: Literal['camvid', 'cityscapes']
    split: str
    files: tuple[LabelledFile, ...]

    @property
    def boxes(self) -> bool:
        return self.layout == 'camvid' or any(file.beside is not None for file in self.files)

    @property
    def weak_boxes(self) -> bool:
        return self.layout == 'camvid'

    @property
    def contents(self) -> list[Path]:
        """All files that truth is read from."""
        return [path for file in self.files for path in (file.annotation, file.beside) if path is not None]

    @property
    def stamped(self) -> bool:
        """Whether every annotation's name ends with a stamp."""
        return all(file.stamp_ns is not None for file in self.files)


def open_labelled(root: Path | str, split: str = '') -> LabelledFolder:
    """Find the annotations in a folder, and its images where there are some.

    Args:
        split: Empty: the only one there is.

    Raises:
        DatasetError: If the folder has neither layout, or not that split.
    """
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(
            f'There is no folder {root.absolute()}; give the root of a data set in CamVid or Cityscapes layout.'
        )
    if (root / 'gtFine').is_dir():
        splits = {folder.name: folder for folder in sorted((root / 'gtFine').iterdir()) if folder.is_dir()}
        chosen = _choose_split(root, splits, split)
        files = _cityscapes_files(root, chosen, splits[chosen])
        return LabelledFolder(path=root, layout='cityscapes', split=chosen, files=_some(files, root))
    splits = {folder.name.removesuffix('annot'): folder for folder in sorted(root.glob('*annot')) if folder.is_dir()}
    if not splits:
        found = ', '.join(sorted(entry.name for entry in root.iterdir())[:8]) or 'nothing'
        raise DatasetError(f'{root} holds {found}; expected gtFine (Cityscapes) or <split>annot (CamVid).')
    chosen = _choose_split(root, splits, split)
    files = _camvid_files(root / chosen, splits[chosen])
    return LabelledFolder(path=root, layout='camvid', split=chosen, files=_some(files, root))


def _choose_split(root: Path, splits: dict[str, Path], split: str) -> str:
    if split in splits:
        return split
    if not split and len(splits) == 1:
        return next(iter(splits))
    problem = f'no split {split!r}' if split else f'{len(splits)} splits; name one'
    raise DatasetError(f'{root} has {problem}. There are: {", ".join(splits) or "none"}.')


def _camvid_files(images: Path, annotations: Path) -> list[LabelledFile]:
    reader = CamVidAnnotations()
    by_stem = {image.stem: image for image in list_images(images)} if images.is_dir() else {}
    return [
        LabelledFile(annotation=path, image=by_stem.get(path.stem), read=partial(reader.read, path))
        for path in _list_pictures(annotations)
    ]


def _cityscapes_files(root: Path, split: str, annotations: Path) -> list[LabelledFile]:
    # Without any, the masks are all that was annotated; where only some are missing, their reader says so.
    reader = CityscapesAnnotations(boxes=any(annotations.glob(f'*/*{INSTANCES_END}')))
    files = []
    for path in sorted(annotations.glob(f'*/*{LABELS_END}'), key=_counting_order):
        stem = path.name.removesuffix(LABELS_END)
        candidates = [
            root / 'leftImg8bit' / split / path.parent.name / f'{stem}{_CITYSCAPES_IMAGE_END}{suffix}'
            for suffix in IMAGE_SUFFIXES
        ]
        image = next((candidate for candidate in candidates if candidate.is_file()), None)
        objects = path.with_name(f'{stem}{INSTANCES_END}')
        files.append(
            LabelledFile(
                annotation=path,
                image=image,
                read=partial(reader.read, path),
                beside=objects if objects.is_file() else None,
            )
        )
    return files


def _counting_order(path: Path) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    return counting_order(path.parent.name), counting_order(path.name.removesuffix(LABELS_END))


def image_stem(name: str) -> str:
    """What the name of an image and that of its annotation have in common."""
    return Path(name).stem.removesuffix(_CITYSCAPES_IMAGE_END)


def _list_pictures(folder: Path) -> list[Path]:
    try:
        return [path for path in list_images(folder) if path.suffix.lower() == '.png']
    except RecordingError as error:
        raise DatasetError(str(error)) from error


def _some(files: Sequence[LabelledFile], root: Path) -> tuple[LabelledFile, ...]:
    if not files:
        raise DatasetError(f'{root} holds no annotation of that split; is the copy complete?')
    return tuple(files)
