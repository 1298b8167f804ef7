"""CamVid with 11 classes, in the layout of the SegNet tutorial (Badrinarayanan et al., PAMI 2017).

<split>.txt                  one frame a line: the path of its image, in the first word
<split>/<name>.jpg or .png   images, 480x360; in folders or not
<split>annot/<name>.png      what perception.truth.camvid reads; its boxes are weak ones
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Literal

from perception.errors import ConfigError, DatasetError
from perception.interfaces import GroundTruth, LabelSpace
from perception.labels import DEFAULT_LABELS
from perception.truth import CamVidAnnotations
from perception.truth.camvid import WEAK_BOXES
from perception.truth.class_table import read_ids
from perception.truth.index_maps import ImageSize
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


class CamVid(SceneDataset):
    """Driving video frames with masks and, if wanted, weak boxes."""

    def __init__(
        self,
        root: Path,
        split: str,
        *,
        labels: LabelSpace = DEFAULT_LABELS,
        classes: str | None = None,
        boxes: Literal['weak', 'none'] = 'weak',
        masks: bool = True,
        min_box_area_px: int = 100,
    ) -> None:
        """Find the files of a split.

        Args:
            root: Folder that holds the lists and folders of the splits.
            split: ``train``, ``val`` or ``test``.
            labels: The label space that the classes are of.
            classes: CSV or YAML file that says which id is which class; None: the usual table of the label space.
            boxes: ``none`` leaves the frames without box annotation.
            masks: Off leaves them without masks: photos for a teacher, where the masks are too rough.
            min_box_area_px: Components with fewer pixels become ignore boxes: fragments and far objects, which are
                neither a good example nor background.

        Raises:
            ConfigError: If an option is out of range, or there is no such table, or it does not fit.
            DatasetError: If folders or files are missing, or two lines or two images are of one frame.
        """
        if boxes not in ('weak', 'none'):
            raise ConfigError(f"CamVid takes boxes 'weak' or 'none'; got {boxes!r}.")
        self.name = f'camvid-{split}'
        self.remark = WEAK_BOXES if boxes == 'weak' else ''
        self._root, self.labels = Path(root), labels
        self._masks = masks
        self._annotations = CamVidAnnotations(
            classes=read_ids('camvid', labels, classes), weak_boxes=boxes == 'weak', min_box_area_px=min_box_area_px
        )
        images = require_folder(self._root / split, 'CamVid images')
        truth = require_folder(self._root / f'{split}annot', 'CamVid annotations')
        list_path = require_file(self._root / f'{split}.txt', 'CamVid frame list')
        names = _read_list(list_path, images)
        self._frames = [(find_picture(images, name), truth / f'{name}.png') for name in names]
        self._files = [file for frame in self._frames for file in frame]
        self.image_paths = [image for image, _ in self._frames]
        require_pictures(self.image_paths, self.name)
        require_files(self._files, self.name)
        self._names = name_images(self.image_paths)

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Sample:
        image_path, truth_path = self._frames[index]
        return annotate(
            read_image(image_path),
            lambda image: self._read(truth_path, image),
            name=f'{self.name}/{self._names[index]}',
            image_path=image_path,
        )

    def _read(self, path: Path, image: ImageSize) -> GroundTruth:
        truth = self._annotations.read(path, image)
        return truth if self._masks else replace(truth, mask=None)

    def fingerprint(self) -> str:
        settings = {**vars(self._annotations), 'classes': self._annotations.classes.settings()}
        if not self._masks:
            settings['masks'] = False
        return fingerprint_files(self, self._root, settings, self._files)


def _read_list(path: Path, images: Path) -> list[str]:
    """The name of each frame: the path of its image below the folder of images, without its ending."""
    names: dict[str, str] = {}
    for line in read_lines(path):
        name = _find_name(images, PurePosixPath(line.split()[0]))
        if name in names:
            raise DatasetError(
                f'{path} lists {names[name]} and {line.split()[0]}, which are both the frame {name} in {images}; '
                'expected each frame once. Put frames of equal names into folders, and list those with them.'
            )
        names[name] = line.split()[0]
    return list(names)


def _find_name(images: Path, listed: PurePosixPath) -> str:
    """What a listed path is below the folder of images: lists may hold paths of the machine that they were made on."""
    name = listed.with_suffix('') if listed.suffix.lower() in LISTED_SUFFIXES else listed
    names = ['/'.join(name.parts[place:]) for place in range(name.is_absolute(), len(name.parts))] or [str(name)]
    return next((name for name in names if find_picture(images, name).is_file()), names[-1])
