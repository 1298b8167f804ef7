"""Cityscapes (Cordts et al., CVPR 2016), and everything in its layout, such as the drawn streets.

leftImg8bit/<split>/<city>/<stem>_leftImg8bit.png
gtFine/<split>/<city>/<stem>_gtFine_labelIds.png, ..._instanceIds.png    what perception.truth.cityscapes reads
"""

from __future__ import annotations

from pathlib import Path

from perception.errors import DatasetError
from perception.interfaces import LabelSpace
from perception.labels import DEFAULT_LABELS
from perception.truth import CityscapesAnnotations
from perception.truth.cityscapes import INSTANCES_END, LABELS_END
from perception.truth.class_table import read_ids
from training.data.dataset import SceneDataset, fingerprint_files
from training.data.files import name_images, read_image, require_files, require_folder
from training.data.sample import Sample, annotate

_IMAGE_STEM_END = '_leftImg8bit'
_IMAGE_END = f'{_IMAGE_STEM_END}.png'


class Cityscapes(SceneDataset):
    """Street images with masks and boxes.

    The public test split holds only void annotations (its real ones are withheld); such frames count as not annotated.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        *,
        labels: LabelSpace = DEFAULT_LABELS,
        classes: str | None = None,
        masks: bool = True,
        boxes: bool = True,
    ) -> None:
        """Find the files of a split.

        Args:
            root: Folder that holds leftImg8bit and gtFine.
            split: ``train``, ``val`` or ``test``.
            labels: The label space that the classes are of.
            classes: CSV or YAML file that says which id is which class; None: the usual table of the label space.
            masks, boxes: Which annotation to use; without it the sample counts as not annotated for that task.

        Raises:
            ConfigError: If there is no such table, or it does not fit.
            DatasetError: If folders or files are missing.
        """
        self.name = f'cityscapes-{split}'
        self._root, self.labels = Path(root), labels
        self._annotations = CityscapesAnnotations(
            classes=read_ids('cityscapes', labels, classes), masks=masks, boxes=boxes
        )
        images = require_folder(self._root / 'leftImg8bit' / split, 'Cityscapes images')
        truth = require_folder(self._root / 'gtFine' / split, 'Cityscapes fine annotations')
        # Both sides are listed, so that an annotation without its image is noticed too.
        stems = _stems(images, _IMAGE_END) | _stems(truth, LABELS_END)
        if not stems:
            raise DatasetError(f'{images} holds no <city>/<stem>{_IMAGE_END}; unpack leftImg8bit_trainvaltest there.')
        self._frames = [
            (images / f'{stem}{_IMAGE_END}', truth / f'{stem}{LABELS_END}', truth / f'{stem}{INSTANCES_END}')
            for stem in sorted(stems)
        ]
        if boxes and not any(objects.is_file() for _, _, objects in self._frames):
            raise DatasetError(
                f'{truth} holds no <city>/<stem>{INSTANCES_END}, which boxes are read from. Put them there, or take '
                'the masks alone with the option boxes: false.'
            )
        self._files = [file for frame in self._frames for file in (frame if boxes else frame[:2])]
        require_files(self._files, self.name)
        self.image_paths = [image for image, _, _ in self._frames]
        self._names = name_images(self.image_paths, ending=_IMAGE_STEM_END)

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Sample:
        image_path, labels_path, _ = self._frames[index]
        return annotate(
            read_image(image_path),
            lambda image: self._annotations.read(labels_path, image),
            name=f'{self.name}/{self._names[index]}',
            image_path=image_path,
        )

    def fingerprint(self) -> str:
        settings = {**vars(self._annotations), 'classes': self._annotations.classes.settings()}
        return fingerprint_files(self, self._root, settings, self._files)


def _stems(folder: Path, end: str) -> set[str]:
    """``<city>/<stem>`` of the files with that ending."""
    return {path.relative_to(folder).as_posix().removesuffix(end) for path in folder.glob(f'*/*{end}')}
