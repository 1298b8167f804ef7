"""CamVid with 11 classes, in the layout of the SegNet tutorial (Badrinarayanan et al., PAMI 2017).

<split>.txt                  one frame a line; the stem of its first word counts
<split>/<stem>.jpg or .png   images, 480x360
<split>annot/<stem>.png      what perception.truth.camvid reads; its boxes are weak ones
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from perception.errors import ConfigError, DatasetError
from perception.labels import CITYSCAPES_11_3
from perception.truth import CamVidAnnotations
from perception.truth.camvid import CAMVID_CLASSES, WEAK_BOX_CLASSES, WEAK_BOXES
from training.data.dataset import SceneDataset, fingerprint_files
from training.data.files import read_image, require_file, require_files, require_folder
from training.data.sample import Sample, annotate


class CamVid(SceneDataset):
    """Driving video frames with masks and, if wanted, weak boxes."""

    labels = CITYSCAPES_11_3

    def __init__(
        self, root: Path, split: str, *, boxes: Literal['weak', 'none'] = 'weak', min_box_area_px: int = 100
    ) -> None:
        """Find the files of a split.

        Args:
            root: Folder that holds the lists and folders of the splits.
            split: ``train``, ``val`` or ``test``.
            boxes: ``none`` leaves the frames without box annotation.
            min_box_area_px: Components with fewer pixels become ignore boxes: fragments and far objects, which are
                neither a good example nor background.

        Raises:
            ConfigError: If an option is out of range.
            DatasetError: If folders or files are missing.
        """
        if boxes not in ('weak', 'none'):
            raise ConfigError(f"CamVid takes boxes 'weak' or 'none'; got {boxes!r}.")
        self.name = f'camvid-{split}'
        self.remark = WEAK_BOXES if boxes == 'weak' else ''
        self._root = Path(root)
        self._annotations = CamVidAnnotations(weak_boxes=boxes == 'weak', min_box_area_px=min_box_area_px)
        images = require_folder(self._root / split, 'CamVid images')
        truth = require_folder(self._root / f'{split}annot', 'CamVid annotations')
        list_path = require_file(self._root / f'{split}.txt', 'CamVid frame list')
        lines = list_path.read_text(encoding='utf-8').splitlines()
        stems = [Path(line.split()[0]).stem for line in lines if line.strip()]
        if not stems:
            raise DatasetError(f'{list_path} lists no frames; expected one stem a line.')
        self._frames = [(_find_image(images, stem), truth / f'{stem}.png') for stem in stems]
        missing = [image for image, _ in self._frames if not image.is_file()]
        if missing:
            raise DatasetError(
                f'{self.name}: neither {missing[0].with_suffix(".jpg")} nor {missing[0].name} exists '
                f'({len(missing)} of {len(stems)} images are missing). Is the download or the copy complete?'
            )
        self._files = [file for frame in self._frames for file in frame]
        require_files(self._files, self.name)

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Sample:
        image_path, truth_path = self._frames[index]
        return annotate(
            read_image(image_path),
            lambda image: self._annotations.read(truth_path, image),
            name=f'{self.name}/{image_path.stem}',
            image_path=image_path,
        )

    def fingerprint(self) -> str:
        settings = {**vars(self._annotations), 'classes': CAMVID_CLASSES, 'box_classes': WEAK_BOX_CLASSES}
        return fingerprint_files(self, self._root, settings, self._files)


def _find_image(folder: Path, stem: str) -> Path:
    """The frame as JPEG, else as PNG, whether that exists or not."""
    jpeg = folder / f'{stem}.jpg'
    return jpeg if jpeg.is_file() else folder / f'{stem}.png'
