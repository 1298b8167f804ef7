"""SceneDataset: the door of every data set, and the fingerprint that its prepared cache is kept under."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

import perception.image_messages
import perception.truth
from perception.interfaces import LabelSpace
from training.data.sample import Sample
from training.data.survey import Survey, take_survey

_READING = (
    Path(__file__).with_name('files.py'),
    *sorted(Path(perception.truth.__file__).parent.glob('*.py')),
    *sorted(Path(perception.image_messages.__file__).parent.glob('*.py')),
)
"""The code that makes pixels and annotations of files."""


class SceneDataset(Dataset[Sample], ABC):
    """A map-style data set of samples.

    Attributes:
        name: Its name in DATASETS and its split, for example ``camvid-train``.
        labels: The label space that its class ids count in.
        remark: What figures on it must say; empty: nothing.
        image_paths: The picture of each sample; empty where they lie in no files of their own.
    """

    name: str
    labels: LabelSpace
    remark: str = ''
    image_paths: Sequence[Path] = ()

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Sample: ...

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    @cached_property
    def survey(self) -> Survey:
        """What all samples are annotated with; they are read at the first asking."""
        return take_survey(self, len(self.labels.segmentation))

    @abstractmethod
    def fingerprint(self) -> str:
        """A hexadecimal digest that changes whenever the samples may have changed."""


def sum_pixels(datasets: Sequence[SceneDataset]) -> Tensor:
    """Pixels of each class in the masks of all data sets (C,) int64, for balanced class weights."""
    return torch.stack([dataset.survey.pixels for dataset in datasets]).sum(dim=0)


def fingerprint_files(reader: SceneDataset, root: Path, settings: Mapping[str, object], files: Iterable[Path]) -> str:
    """Digest of what decides a reader's samples: its code, its settings, and name, size and time of every file.

    Its code is that of its classes and of what reads pictures and annotations: changed, it may give others.

    Args:
        reader: The data set; the source files of its classes count.
        root: Folder that the files lie in; moving it as a whole changes nothing.
        settings: Options and class tables, all of them JSON values.
        files: Every file that samples are read from, but for those whose content is among the settings.
    """
    digest = hashlib.sha256()
    for ancestor in type(reader).__mro__:
        if ancestor.__module__.startswith(__name__.partition('.')[0]):
            digest.update(Path(inspect.getfile(ancestor)).read_bytes())
    for source in _READING:
        digest.update(source.read_bytes())
    classes = [label.name for label in (*reader.labels.segmentation, *reader.labels.detection)]
    digest.update(json.dumps([reader.name, reader.labels.name, classes, settings], sort_keys=True).encode())
    for file in files:
        state = file.stat()
        # To the nanosecond, though a copy to a file system that rounds is then cached anew: two files of one size that
        # were written within the same second would share a cache, and nobody would notice.
        digest.update(f'{os.path.relpath(file, root)} {state.st_size} {state.st_mtime_ns}\n'.encode())
    return digest.hexdigest()
