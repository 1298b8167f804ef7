"""Labels of a teacher in the making: a line for each image, so that a run that was stopped goes on where it was.

They lie in the folder UNFINISHED of the output until all images have some; then they take the place of older ones. Also
that may be stopped anywhere: from the moment that TEACHER is in UNFINISHED, the same command takes back what was moved.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from perception.errors import ConfigError, DatasetError
from perception.interfaces import Detections, LabelSpace
from training.data.taught import BOXES, MASKS, TEACHER, UNFINISHED

RECORD, LINES = 'record.json', 'images.jsonl'


class LabelJournal:
    """What is known of the images so far.

    Args:
        output: Existing folder.
        record: Says how labels are made; those of another record are not gone on with.
        overwrite: Whether labels that are there, finished or not, are replaced.

    Raises:
        ConfigError: If there are some, and they are not to be replaced.
    """

    def __init__(self, output: Path, record: Mapping[str, Any], *, overwrite: bool) -> None:
        self._output, self._folder = output, output / UNFINISHED
        self._record = json.loads(json.dumps(record))
        before = _read_json(self._folder / RECORD)
        if before == self._record and (self._folder / TEACHER).is_file():
            self._take_back()
        there = [name for name in (BOXES, MASKS, TEACHER) if (output / name).exists()]
        if there and not overwrite:
            raise ConfigError(
                f'{output} holds {" and ".join(there)} already; name another folder, or replace them with --overwrite.'
            )
        if before is not None and before != self._record:
            if not overwrite:
                raise ConfigError(
                    f'{output} holds unfinished labels that were made otherwise, by {before.get("teacher")} with '
                    f'{before.get("views")}; go on with the same command, or begin anew with --overwrite.'
                )
            shutil.rmtree(self._folder)
        self._folder.mkdir(exist_ok=True)
        _write_json(self._folder / RECORD, self._record)
        self._entries = {entry['file_name']: entry for entry in self._read_lines()}
        self._lines = (self._folder / LINES).open('a')

    def _read_lines(self) -> Iterator[dict[str, Any]]:
        path = self._folder / LINES
        if not path.is_file():
            return
        whole = []
        for line in path.read_text().splitlines():
            try:
                whole.append((line, json.loads(line)))
            except ValueError:
                break  # the run was killed while it wrote this line
        path.write_text(''.join(f'{line}\n' for line, _ in whole))
        yield from (entry for _, entry in whole)

    def has(self, name: str, digest: str) -> bool:
        """Whether the image of that name and content has its labels."""
        entry = self._entries.get(name)
        return entry is not None and entry['sha256'] == digest

    def add(
        self, name: str, digest: str, image_hw: tuple[int, int], detections: Detections, mask: np.ndarray | None
    ) -> None:
        """Keep the labels of an image.

        Raises:
            DatasetError: If the mask cannot be written.
        """
        if mask is not None:
            path = (self._folder / MASKS / name).with_suffix('.png')
            path.parent.mkdir(parents=True, exist_ok=True)
            if not cv2.imwrite(str(path), mask):
                raise DatasetError(f'{path} could not be written. Is the disk full?')
        entry = {
            'file_name': name,
            'sha256': digest,
            'image_hw': image_hw,
            'boxes': detections.boxes_xyxy.astype(float).round(2).tolist(),
            'scores': detections.scores.astype(float).round(4).tolist(),
            'labels': detections.labels.tolist(),
        }
        self._entries[name] = entry
        self._lines.write(f'{json.dumps(entry)}\n')
        self._lines.flush()

    def finish(self, labels: LabelSpace, names: Collection[str]) -> None:
        """Put the labels of the images of these names where they are read; TEACHER last, by which they are whole."""
        self._lines.close()
        entries = [self._entries[name] for name in sorted(names) if name in self._entries]
        digests = {entry['file_name']: entry['sha256'] for entry in entries}
        _write_json(self._folder / BOXES, {'info': self._record, **_coco(entries, labels)})
        for name in (TEACHER, BOXES):
            (self._output / name).unlink(missing_ok=True)
        shutil.rmtree(self._output / MASKS, ignore_errors=True)
        # Nothing older is left: whatever lies in the output from here on was moved there.
        _write_json(self._folder / TEACHER, {**self._record, 'images': digests})
        for name in (MASKS, BOXES):
            if (self._folder / name).exists():
                (self._folder / name).rename(self._output / name)
        (self._folder / LINES).unlink()
        (self._folder / TEACHER).rename(self._output / TEACHER)
        shutil.rmtree(self._folder)

    def _take_back(self) -> None:
        for name in (MASKS, BOXES):
            if (self._output / name).exists():
                (self._output / name).rename(self._folder / name)
        (self._folder / TEACHER).unlink()

    def close(self) -> None:
        """Leave what there is for a run that goes on."""
        self._lines.close()


def _coco(entries: list[dict[str, Any]], labels: LabelSpace) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, entry in enumerate(entries, start=1):
        height, width = entry['image_hw']
        images.append({'id': number, 'file_name': entry['file_name'], 'height': height, 'width': width})
        for box, score, label in zip(entry['boxes'], entry['scores'], entry['labels'], strict=True):
            left, top, right, bottom = box
            sides = [left, top, round(right - left, 2), round(bottom - top, 2)]
            annotations.append(
                {
                    'id': len(annotations) + 1,
                    'image_id': number,
                    'category_id': label + 1,
                    'bbox': sides,
                    'area': round(sides[2] * sides[3], 2),
                    'iscrowd': 0,
                    'score': score,
                }
            )
    categories = [{'id': index + 1, 'name': label.name} for index, label in enumerate(labels.detection)]
    return {'images': images, 'categories': categories, 'annotations': annotations}


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        return {}


def _write_json(path: Path, content: Any) -> None:
    partial = path.with_name(f'{path.name}.partial')
    partial.write_text(json.dumps(content))
    os.replace(partial, path)
