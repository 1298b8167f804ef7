"""Pascal VOC (Everingham et al., IJCV 2010) in the layout of its devkit, and everything that tools write in its form.

ImageSets/<image_set>/<split>.txt    one image a line
JPEGImages/<name>.jpg
Annotations/<name>.xml               what perception.truth.pascal_voc reads; the test splits of some years have none
SegmentationClass/<name>.png         masks of some images

All of it lies in the root, or in VOC<year> of the devkit, of which several count as one. The masks that Hariharan et
al. (ICCV 2011) added, as pictures of ids, lie in a folder beside, mostly SegmentationClassAug.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from perception.errors import ConfigError, DatasetError, list_names
from perception.interfaces import LabelSpace
from perception.labels import DEFAULT_LABELS
from perception.truth import VocAnnotations
from perception.truth.class_table import read_ids
from perception.truth.pascal_voc import read_names
from training.data.dataset import SceneDataset, fingerprint_files
from training.data.files import (
    LISTED_SUFFIXES,
    find_picture,
    name_images,
    read_image,
    read_lines,
    require_file,
    require_files,
    require_folder,
    require_pictures,
)
from training.data.sample import Sample, annotate

_MASKS = 'SegmentationClass'
_DETECTION_SETS = 'Main'
"""Its lists name all images, few of which have masks; other lists name images that all have them."""


class _Frame(NamedTuple):
    """The files of one image; None: not annotated."""

    image: Path
    boxes: Path | None
    mask: Path | None


class PascalVoc(SceneDataset):
    """Photos with boxes, and some of them with masks."""

    def __init__(
        self,
        root: Path,
        split: str,
        *,
        labels: LabelSpace = DEFAULT_LABELS,
        classes: str | None = None,
        years: tuple[int, ...] = (),
        image_set: str = _DETECTION_SETS,
        boxes: bool = True,
        masks: str | None = _MASKS,
        first_pixel: Literal[0, 1] = 1,
    ) -> None:
        """Find the files of a split.

        Args:
            root: The devkit's folder VOCdevkit or one above; without years what holds JPEGImages.
            split: The name of a list: ``train``, ``val``, ``trainval``, ``test`` or one of your own.
            labels: The label space that the classes are of.
            classes: CSV or YAML file that says which name and id is which class; None: the usual table of the label
                space.
            years: Those that count, together: [2007, 2012] are VOC2007 and VOC2012.
            image_set: The folder of lists: ``Main``, or ``Segmentation``, whose images all have masks.
            boxes: Whether boxes are read; without them the images count as not annotated for that task.
            masks: The folder of masks; None: none are read.
            first_pixel: What boxes count from: 1 as VOC does, or 0, with edges in place of pixels, as labelme does.

        Raises:
            ConfigError: If there is no such table, or it does not fit, or years have to be said.
            DatasetError: If folders, lists or files are missing, or an image is listed twice.
        """
        self.name, self.labels = f'voc-{split}', labels
        self._root = Path(root)
        folders = _find_folders(self._root, years)
        self.remark = ' and '.join([*(f'VOC{year}' for year in years), *{image_set} - {_DETECTION_SETS}])
        self._frames = [
            frame
            for folder in folders
            for frame in self._list_frames(folder, split, image_set, masks=masks, boxes=boxes)
        ]
        self._annotations = VocAnnotations(
            names=read_names(labels, classes) if any(frame.boxes for frame in self._frames) else None,
            ids=read_ids('voc', labels, classes) if any(frame.mask for frame in self._frames) else None,
            first_pixel=first_pixel,
        )
        self.image_paths = [frame.image for frame in self._frames]
        self._names = name_images(self.image_paths)

    def _list_frames(self, folder: Path, split: str, image_set: str, *, masks: str | None, boxes: bool) -> list[_Frame]:
        """The images of a list with the files that are there.

        Boxes are annotated in all images, or in none: a test split that is withheld.
        """
        require_folder(folder, 'Pascal VOC')
        path = require_file(
            folder / 'ImageSets' / image_set / f'{split}.txt', self.name, 'root, split and the option image_set'
        )
        images = [find_picture(folder / 'JPEGImages', name) for name in _read_names(path, folder / 'JPEGImages')]
        require_pictures(images, self.name)
        box_files = [folder / 'Annotations' / f'{image.stem}.xml' for image in images]
        has_boxes = boxes and any(file.is_file() for file in box_files)
        if has_boxes:
            require_files(box_files, self.name)
        mask_files = [folder / (masks or _MASKS) / f'{image.stem}.png' for image in images]
        if masks is not None and image_set != _DETECTION_SETS:
            require_files(mask_files, self.name)
        elif masks is not None and masks != _MASKS:
            require_folder(folder / masks, self.name, 'root and the option masks')
        return [
            _Frame(
                image=image,
                boxes=box_file if has_boxes else None,
                mask=mask_file if masks is not None and mask_file.is_file() else None,
            )
            for image, box_file, mask_file in zip(images, box_files, mask_files, strict=True)
        ]

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Sample:
        frame = self._frames[index]
        return annotate(
            read_image(frame.image),
            lambda image: self._annotations.read(frame.boxes, frame.mask, image),
            name=f'{self.name}/{self._names[index]}',
            image_path=frame.image,
        )

    def fingerprint(self) -> str:
        annotations = self._annotations
        settings = {
            'names': None if annotations.names is None else sorted(annotations.names.labels.items()),
            'ids': None if annotations.ids is None else annotations.ids.settings(),
            'first_pixel': annotations.first_pixel,
        }
        files = [file for frame in self._frames for file in frame if file is not None]
        return fingerprint_files(self, self._root, settings, files)


def _find_folders(root: Path, years: tuple[int, ...]) -> list[Path]:
    """What holds the images, lists and annotations: the root, or a folder for each year."""
    home = root / 'VOCdevkit' if (root / 'VOCdevkit').is_dir() else root
    if len(set(years)) < len(years):
        raise ConfigError(f'years {list(years)} names one twice; expected each once.')
    if years:
        return [require_folder(home / f'VOC{year}', 'Pascal VOC', 'root and the option years') for year in years]
    found = sorted(folder.name for folder in home.glob('VOC[0-9]*') if folder.is_dir())
    if found and not (root / 'JPEGImages').is_dir():
        raise ConfigError(
            f'{home} holds {list_names(found)}; say which of them count with the option years, for example '
            f'{{"years": [{", ".join(name.removeprefix("VOC") for name in found)}]}}.'
        )
    return [root]


def _read_names(path: Path, images: Path) -> list[str]:
    """The names in a list of images, which may be paths, with that of a mask behind each."""
    names: dict[str, str] = {}
    for line in read_lines(path):
        name, *rest = (_name(word) for word in line.split())
        if find_picture(images, _name(line)).is_file():  # it has spaces
            name, rest = _name(line), []
        if rest and set(rest) != {name}:
            raise DatasetError(
                f'{path} has the line {line!r}; expected one image a line. Lists of one class, such as dog_train.txt, '
                'say of all images whether it is in them: take train.txt.'
            )
        if name in names:
            raise DatasetError(f'{path} lists {name} twice; expected each image once.')
        names[name] = line
    return list(names)


def _name(listed: str) -> str:
    path = PurePosixPath(listed)
    return path.stem if path.suffix.lower() in LISTED_SUFFIXES else path.name
