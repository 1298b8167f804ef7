"""Labels of a teacher for what nobody annotated: the folder that ``training.pseudo_label`` writes, and its reader.

boxes.json       COCO JSON whose annotations have a score
masks/<name>.png class of each pixel in our label space, 255 where the teacher was not sure
teacher.json     which teacher, its label space, how it looked, and the SHA-256 of every image that it saw

What is annotated stays as it is: a photo with boxes gets a mask, a frame with a mask gets boxes.

Shape letters: H W rows and columns.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import torch
from torch import Tensor

from perception.errors import ConfigError, DatasetError, list_names
from perception.interfaces import UNLABELLED, LabelSpace
from perception.labels import DEFAULT_LABELS, check_same_classes, parse_label_space
from perception.truth import CocoAnnotations
from perception.truth.coco import ScoreRange
from perception.truth.index_maps import ImageSize, check_same_size, read_index_map
from training.data.dataset import SceneDataset
from training.data.files import require_file
from training.data.sample import Sample

BOXES, MASKS, TEACHER, UNFINISHED = 'boxes.json', 'masks', 'teacher.json', 'unfinished'
LOG = logging.getLogger(__name__)
_T = TypeVar('_T')


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """Whose labels fill what a data set leaves open.

    Attributes:
        labels: Folder that ``training.pseudo_label`` wrote, or a COCO JSON file with scores; ``~`` is the home folder.
        positive_from, ignore_from: Boxes with a score from the first on are objects, those between are ignored.
        classes: Category name to the name of a detection class, for a JSON file with other categories than ours.
    """

    labels: str
    positive_from: float = 0.4
    ignore_from: float = 0.1
    classes: dict[str, str] | None = None

    @property
    def scores(self) -> ScoreRange:
        return ScoreRange(self.positive_from, self.ignore_from)


class TaughtDataset(SceneDataset):
    """A data set with the labels of a teacher where it has none of its own.

    Args:
        base: The data set; its pictures lie in files.
        config: The labels.

    Raises:
        ConfigError: If the data set has no files, or the labels' classes are none of ours.
        DatasetError: If labels are missing or broken, or an image was changed after they were made.
    """

    def __init__(self, base: SceneDataset, config: TeacherConfig) -> None:
        self._base, self._config = base, config
        self.labels: LabelSpace = base.labels
        self.name, self.image_paths = base.name, base.image_paths
        if len(base.image_paths) != len(base):
            raise ConfigError(f'{base.name} has no picture files that labels of a teacher could be of.')
        path = Path(config.labels).expanduser()
        folder = path if path.is_dir() else path.parent
        boxes = folder / BOXES if path.is_dir() else require_file(path, f'teacher of {base.name}', 'teacher.labels')
        if path.is_dir() and not (path / TEACHER).is_file():
            raise DatasetError(_without_record(path))
        self._provenance = _read_provenance(folder / TEACHER)
        self._check_labels()
        self._boxes = self._read_boxes(boxes) if boxes.is_file() else None
        self._masks = folder / MASKS if path.is_dir() and (folder / MASKS).is_dir() else None
        if self._boxes is None and self._masks is None:
            raise DatasetError(f'{path} holds neither {BOXES} nor {MASKS}/. Write them with training.pseudo_label.')
        self._images = self._match(
            {image.file_name: image for image in self._boxes.images.values()} if self._boxes else {}
        )
        self._mask_files = self._match(
            {
                file.relative_to(self._masks).with_suffix('').as_posix(): file
                for file in sorted(self._masks.rglob('*.png'))
            }
            if self._masks
            else {},
            suffix=False,
        )
        self._check_age()
        said = f'what is not annotated is from {teacher_title(config.labels)}'
        self.remark = '; '.join(filter(None, (base.remark, said)))
        self._tell_if_idle()

    def _read_boxes(self, path: Path) -> CocoAnnotations:
        config = self._config
        boxes = CocoAnnotations(path, classes=config.classes, labels=self.labels, scores=config.scores)
        if boxes.left_out:
            LOG.warning(
                '%s: the categories %s are none of our classes, and their objects count as background. If they '
                'are, say so with classes in teacher.',
                path,
                list_names(boxes.left_out),
            )
        return boxes

    def _tell_if_idle(self) -> None:
        """A teacher of a data set that has its labels already may be a mistake; the first image speaks for all."""
        if not len(self):
            return
        first = self._base[0]
        if (first.boxes is not None or self._boxes is None) and (first.mask is not None or self._masks is None):
            LOG.warning(
                '%s is annotated with what its teacher %s gives, and keeps its own. Leave teacher out, or its own '
                'annotation, such as the weak boxes of CamVid with the option boxes: none.',
                self.name,
                self._config.labels,
            )

    def _match(self, labels: Mapping[str, _T], *, suffix: bool = True) -> list[_T | None]:
        """The labels of each image: those whose path ends the image's path.

        Raises:
            DatasetError: If an image has none, or shares them with another one.
        """
        if not labels:
            return [None] * len(self.image_paths)
        paths = [file.absolute() if suffix else file.absolute().with_suffix('') for file in self.image_paths]
        names = [next((end for end in _ends(path) if end in labels), None) for path in paths]
        missing = [path for path, name in zip(paths, names, strict=True) if name is None]
        if missing:
            raise DatasetError(
                f'{self._config.labels} has no labels for {missing[0]} ({len(missing)} of {len(paths)} images of '
                f'{self.name}); it has them for {len(labels)}, such as {next(iter(labels))}. Are they of these images?'
            )
        owner: dict[str, Path] = {}
        for path, name in zip(paths, names, strict=True):
            assert name is not None
            first = owner.setdefault(name, path)
            if first != path:
                raise DatasetError(
                    f'{self._config.labels} has one entry {name} for {first} and {path}; make labels with a folder '
                    'above both, whose file names tell them apart.'
                )
        return [labels[name] for name in names if name is not None]

    def _check_labels(self) -> None:
        """Earlier versions did not say what they counted in; it was the default label space."""
        if not self._provenance:
            return
        said = self._provenance.get('labels')
        try:
            theirs = DEFAULT_LABELS if said is None else parse_label_space(said)
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(f'{self._config.labels}: {TEACHER} has no usable label space ({error!r}).') from error
        check_same_classes(theirs, f'The teacher of {self._config.labels}', self.labels, self.name)

    def _check_age(self) -> None:
        digests: Mapping[str, str] = self._provenance.get('images', {})
        for path in self.image_paths if digests else ():
            name = next((end for end in _ends(path.absolute()) if end in digests), None)
            if name is not None and hashlib.sha256(path.read_bytes()).hexdigest() != digests[name]:
                raise DatasetError(
                    f'{path} was changed after its labels in {self._config.labels} were made; they may be of what is '
                    'no longer there. Make them again with training.pseudo_label.'
                )

    def __len__(self) -> int:
        return len(self._base)

    def __getitem__(self, index: int) -> Sample:
        sample = self._base[index]
        size = ImageSize(str(self.image_paths[index]), (sample.image.shape[1], sample.image.shape[2]))
        image, mask = self._images[index], self._mask_files[index]
        if sample.boxes is None and image is not None:
            truth = image.read(size)
            assert truth.boxes_xyxy is not None
            assert truth.labels is not None
            assert truth.ignore_boxes_xyxy is not None
            ignored = torch.cat((sample.ignore_boxes, torch.from_numpy(truth.ignore_boxes_xyxy)))
            boxes, labels = torch.from_numpy(truth.boxes_xyxy), torch.from_numpy(truth.labels)
            sample = replace(sample, boxes=boxes, labels=labels, ignore_boxes=ignored, ignore_labels=None)
        if sample.mask is None and mask is not None:
            sample = replace(sample, mask=self._read_mask(mask, size))
        return sample

    def _read_mask(self, path: Path, size: ImageSize) -> Tensor:
        mask = read_index_map(path)
        check_same_size(path, mask.shape, size)
        classes = len(self.labels.segmentation)
        unknown = mask[(mask >= classes) & (mask != UNLABELLED)]
        if len(unknown):
            raise DatasetError(
                f'{path} holds class {unknown[0]}; expected 0 to {classes - 1}, or {UNLABELLED} for none.'
            )
        return torch.from_numpy(mask)

    def fingerprint(self) -> str:
        digest = hashlib.sha256(self._base.fingerprint().encode())
        digest.update(Path(__file__).read_bytes())
        config = self._config
        settings = [self._boxes.sha256 if self._boxes else '', config.scores, config.classes]
        digest.update(json.dumps(settings).encode())
        for file in self._mask_files:
            digest.update(b'' if file is None else hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()


def teacher_title(labels: str) -> str:
    """Who made labels, as ``TeacherConfig`` names them: ``model@digest``, or the name of their file."""
    path = Path(labels).expanduser()
    folder = path if path.is_dir() else path.parent
    return str(_read_provenance(folder / TEACHER).get('teacher', path.name))


def _ends(path: Path) -> Sequence[str]:
    """The path, then without its first folder and so on: what labels may call an image, the most telling first."""
    parts = PurePosixPath(path.as_posix()).parts[1:]
    return ['/'.join(parts[place:]) for place in range(len(parts))]


def _without_record(folder: Path) -> str:
    """Why a folder without TEACHER is refused."""
    if (folder / UNFINISHED).is_dir():
        return f'The labelling in {folder} was not finished; go on with the same command of training.pseudo_label.'
    return (
        f'{folder} has no {TEACHER}, so these are no labels of training.pseudo_label. Boxes from elsewhere are named '
        'by their JSON file.'
    )


def _read_provenance(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise DatasetError(f'{path} is not valid JSON ({error}). Make the labels again.') from error
    if not isinstance(content, dict) or not all(isinstance(content.get(key, {}), dict) for key in ('images', 'labels')):
        raise DatasetError(f'{path} is not what training.pseudo_label writes. Make the labels again.')
    return content
