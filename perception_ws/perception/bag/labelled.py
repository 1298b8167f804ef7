"""Data sets of annotated images as frames with truth: the layouts of CamVid, of Cityscapes, and COCO's boxes.

    CamVid       <root>/<split>/<name>.jpg or .png, <root>/<split>annot/<name>.png; in folders or not
    Cityscapes   <root>/leftImg8bit/<split>/<city>/..., <root>/gtFine/<split>/<city>/...
    COCO         <root>/<split>.json, <root>/annotations/instances_<split>.json (or <split>2017), or the file itself

Truth can also be matched to a recording of the same images: by the name of the image, by the stamp that each
annotation's name ends with, in ns, or by order.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal

from perception.bag.frames import IMAGE_SUFFIXES
from perception.bag.source import counting_order
from perception.errors import ConfigError, DatasetError, list_names
from perception.interfaces import GroundTruth, LabelSpace
from perception.labels import DEFAULT_LABELS
from perception.truth import CamVidAnnotations, CityscapesAnnotations, CocoAnnotations
from perception.truth.camvid import WEAK_BOXES
from perception.truth.cityscapes import INSTANCES_END, LABELS_END
from perception.truth.class_table import read_ids
from perception.truth.index_maps import ImageSize

Match = Literal['name', 'stamp', 'order']
Classes = Mapping[str, str] | str | None
"""Category name to the name of a detection class, the file of a table, or what is usual."""
CITYSCAPES_IMAGE_END = '_leftImg8bit'
_LAYOUTS = 'gtFine (Cityscapes), <split>annot (CamVid), <split>.json or annotations/instances_<split>.json (COCO)'


@dataclass(frozen=True, kw_only=True)
class LabelledFile:
    """The annotation of one image, and that image where it lies beside it.

    Attributes:
        annotation: The file that it is read from, which may hold those of other images, too.
        name: What its image is named by, without ending, in the folder that tells equal names apart.
        images: Its image; several, of other endings, where nobody says which of them it is.
        read: Given the size of its image.
        beside: What else it is read from.
    """

    annotation: Path
    name: PurePosixPath
    images: tuple[Path, ...]
    read: Callable[[ImageSize], GroundTruth]
    beside: Path | None = None

    def __str__(self) -> str:
        return f'{self.annotation} ({self.name})' if self.annotation.suffix.lower() == '.json' else str(self.annotation)

    @property
    def image(self) -> Path | None:
        """Its image; None if there is none, or more than one."""
        return self.images[0] if len(self.images) == 1 else None

    @property
    def stem(self) -> str:
        """The last part of its name."""
        return self.name.name

    @property
    def stamp_ns(self) -> int | None:
        """The number that ends its name, if that has the length of a time in ns."""
        found = re.search(r'(\d{12,19})$', self.stem)
        return int(found.group(1)) if found else None


@dataclass(frozen=True, kw_only=True)
class LabelledFolder:
    """The annotated images of one split, in the order in which a person counts.

    Attributes:
        layout: ``camvid``, ``cityscapes`` or ``coco``.
        remark: What a figure on it must say: that boxes come from components of the mask, or what is not annotated.
        other_images: Where the images of other splits lie.
    """

    path: Path
    layout: Literal['camvid', 'cityscapes', 'coco']
    split: str
    files: tuple[LabelledFile, ...]
    remark: str = ''
    other_images: Mapping[str, Path] = field(default_factory=dict)

    @property
    def contents(self) -> list[Path]:
        """All files that truth is read from, each once."""
        paths = [path for file in self.files for path in (file.annotation, file.beside) if path is not None]
        return list(dict.fromkeys(paths))

    @property
    def stamped(self) -> bool:
        """Whether every annotation's name ends with a stamp."""
        return all(file.stamp_ns is not None for file in self.files)


def open_labelled(
    root: Path | str, split: str = '', classes: Classes = None, labels: LabelSpace = DEFAULT_LABELS
) -> LabelledFolder:
    """Find the annotations in a folder or a file, and their images where there are some.

    Args:
        root: Folder of the data set, or a COCO file.
        split: Empty: the only one there is.
        classes: A CSV or YAML file that says which id, or which category of COCO, is which class; for COCO also
            category name to the name of a detection class. None: the usual table or names.
        labels: The label space that the classes are of.

    Raises:
        ConfigError: If classes of a COCO file are given for masks, there is no table, or they do not fit.
        DatasetError: If the folder has no such layout, or not that split, or what is read from it at once is broken.
    """
    root = Path(root)
    if root.is_file():
        if root.suffix.lower() != '.json':
            raise DatasetError(f'{root} is no data set; expected a folder with {_LAYOUTS}, or a .json file of COCO.')
        if split:
            raise DatasetError(f'{root} is one file, which has no split {split!r}; leave the split out.')
        return _open_coco(root, root, root.stem, classes, labels)
    if not root.is_dir():
        raise DatasetError(
            f'There is no folder {root.absolute()}; give the root of a data set in CamVid, Cityscapes or COCO layout.'
        )
    masks = [(root / 'gtFine').is_dir(), any(folder.is_dir() for folder in root.glob('*annot'))]
    if any(masks):
        if isinstance(classes, Mapping):
            raise ConfigError(
                f'{root} holds masks, and names are for the categories of a COCO file. Say which id is which class by '
                'a CSV or YAML file.'
            )
        opened = _open_cityscapes if masks[0] else _open_camvid
        return opened(root, split, classes, labels)
    files = {file.stem: file for file in sorted(root.glob('*.json'))}
    for file in sorted(root.glob('annotations/instances_*.json')):
        name = file.stem.removeprefix('instances_').removesuffix('2017')
        files[file.stem if name in files else name] = file
    if not files:
        found = list_names(sorted(entry.name for entry in root.iterdir()))
        raise DatasetError(f'{root} holds {found}; expected {_LAYOUTS}.')
    chosen = _choose_split(root, files, split)
    return _open_coco(root, files[chosen], chosen, classes, labels)


def _choose_split(root: Path, splits: Mapping[str, Path], split: str) -> str:
    if split in splits:
        return split
    if not split and len(splits) == 1:
        return next(iter(splits))
    problem = f'no split {split!r}' if split else f'{len(splits)} splits; name one'
    raise DatasetError(f'{root} has {problem}. There are: {", ".join(splits) or "none"}.')


def _open_camvid(root: Path, split: str, classes: str | None, labels: LabelSpace) -> LabelledFolder:
    splits = {folder.name.removesuffix('annot'): folder for folder in sorted(root.glob('*annot')) if folder.is_dir()}
    chosen = _choose_split(root, splits, split)
    reader, folder = CamVidAnnotations(classes=read_ids('camvid', labels, classes)), splits[chosen]
    images = defaultdict(list)
    for image in sorted((root / chosen).rglob('*')):
        if image.suffix.lower() in IMAGE_SUFFIXES and image.is_file():
            images[_name(image, root / chosen)].append(image)
    files = [
        LabelledFile(
            annotation=path,
            name=_name(path, folder),
            images=tuple(images.get(_name(path, folder), ())),
            read=partial(reader.read, path),
        )
        for path in folder.rglob('*')
        if path.suffix.lower() == '.png' and path.is_file()
    ]
    return LabelledFolder(
        path=root,
        layout='camvid',
        split=chosen,
        files=_in_order(files, f'{folder}/<name>.png', chosen),
        remark=WEAK_BOXES,
        other_images={name: root / name for name in splits if name != chosen},
    )


def _open_cityscapes(root: Path, split: str, classes: str | None, labels: LabelSpace) -> LabelledFolder:
    splits = {folder.name: folder for folder in sorted((root / 'gtFine').iterdir()) if folder.is_dir()}
    chosen = _choose_split(root, splits, split)
    folder, images = splits[chosen], root / 'leftImg8bit'
    # Without any, the masks are all that was annotated; where only some are missing, their reader says so.
    has_boxes = any(folder.glob(f'*/*{INSTANCES_END}'))
    reader = CityscapesAnnotations(classes=read_ids('cityscapes', labels, classes), boxes=has_boxes)
    files = []
    for path in folder.glob(f'*/*{LABELS_END}'):
        name = PurePosixPath(path.parent.name, path.name.removesuffix(LABELS_END))
        candidates = [images / chosen / f'{name}{CITYSCAPES_IMAGE_END}{suffix}' for suffix in ('.png', *IMAGE_SUFFIXES)]
        objects = path.with_name(f'{name.name}{INSTANCES_END}')
        files.append(
            LabelledFile(
                annotation=path,
                name=name,
                images=tuple(image for image in candidates if image.is_file())[:1],  # PNG is the layout's own
                read=partial(reader.read, path),
                beside=objects if objects.is_file() else None,
            )
        )
    return LabelledFolder(
        path=root,
        layout='cityscapes',
        split=chosen,
        files=_in_order(files, f'{folder}/<city>/<stem>{LABELS_END}', chosen),
        remark='' if reader.boxes else 'masks only',
        other_images={name: images / name for name in splits if name != chosen},
    )


def _open_coco(root: Path, file: Path, split: str, classes: Classes, labels: LabelSpace) -> LabelledFolder:
    annotations = CocoAnnotations(file, classes=classes, labels=labels)
    names = [image.file_name for image in annotations.images.values()]
    folder = next((place for place in _image_folders(file) if any((place / name).is_file() for name in names)), None)
    files = [
        LabelledFile(
            annotation=file,
            name=_name(Path(image.file_name)),
            images=(folder / image.file_name,) if folder and (folder / image.file_name).is_file() else (),
            read=image.read,
        )
        for image in annotations.images.values()
    ]
    used = '; '.join(f'{category} as {label}' for category, label in annotations.classes.items())
    rest = f'; not scored: {list_names(annotations.left_out)}' if annotations.left_out else ''
    return LabelledFolder(
        path=root,
        layout='coco',
        split=split,
        files=_in_order(files, f'images in {file}', split),
        remark=f'boxes only ({used}{rest})',
    )


def _image_folders(file: Path) -> list[Path]:
    """Where tools put the images that a COCO file names: beside it, or beside its folder."""
    name = file.stem.removeprefix('instances_')
    return [
        place
        for base in (file.parent, file.parent.parent)
        for place in (base, base / name, base / 'images', base / 'images' / name)
    ]


def _name(file: Path, folder: Path = Path()) -> PurePosixPath:
    """The path of a picture in a folder, without its ending; other dots are part of its name."""
    ending = file.suffix if file.suffix.lower() in IMAGE_SUFFIXES else ''
    return PurePosixPath(file.relative_to(folder) if folder.parts else file).with_name(file.name.removesuffix(ending))


def _in_order(files: Sequence[LabelledFile], expected: str, split: str) -> tuple[LabelledFile, ...]:
    """The files in the order in which a person counts.

    Raises:
        DatasetError: If there are none.
    """
    if not files:
        raise DatasetError(f'Split {split!r} holds no annotation: expected {expected}. Is the copy complete?')
    return tuple(sorted(files, key=lambda file: [counting_order(part) for part in file.name.parts]))
