"""ResultStore: what was predicted so far, frame by frame, on disk, so that nothing computed is ever computed again.

One SQLite file: a row is there or not, whatever kills the process. Scores are not kept, since they follow from it.

Shape letters: H W rows and columns, N detections.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from perception.errors import RecordingError
from perception.interfaces import Detections, SceneResult
from perception.replay.provenance import difference


@dataclass(frozen=True, kw_only=True)
class StoredResult:
    """A result with its mask as PNG, in which form it is kept and written."""

    boxes_xyxy: bytes
    scores: bytes
    labels: bytes
    mask_png: bytes
    times_ms: str
    machine: str

    @classmethod
    def of(cls, result: SceneResult, machine: str) -> StoredResult:
        """Pack a result, with the machine that its times are of."""
        found = result.detections
        _, png = cv2.imencode('.png', result.mask, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        return cls(
            boxes_xyxy=found.boxes_xyxy.astype(np.float32).tobytes(),
            scores=found.scores.astype(np.float32).tobytes(),
            labels=found.labels.astype(np.int64).tobytes(),
            mask_png=png.tobytes(),
            times_ms=json.dumps(result.times_ms),
            machine=machine,
        )

    def result(self) -> SceneResult:
        """Unpack it; equal to what was packed, to the bit."""
        return SceneResult(
            detections=Detections(
                boxes_xyxy=np.frombuffer(self.boxes_xyxy, np.float32).reshape(-1, 4),
                scores=np.frombuffer(self.scores, np.float32),
                labels=np.frombuffer(self.labels, np.int64),
            ),
            mask=np.asarray(cv2.imdecode(np.frombuffer(self.mask_png, np.uint8), cv2.IMREAD_UNCHANGED)),
            times_ms=json.loads(self.times_ms),
        )


class ResultStore:
    """The results of one run; a context manager. One thread may read while another one writes.

    Args:
        path: The file; made if it is missing.
        identity: What the results follow from: recording, checkpoint, settings. Results of another one are refused.

    Raises:
        RecordingError: If the file belongs to another run, or is none of ours.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = path
        text = json.dumps(identity, sort_keys=True)
        with self._errors():
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            # With write-ahead, a row costs no wait for the disk and outlives the process, though not a power cut; with
            # one process at a time, that works on storage that machines share, too.
            self._database.execute('PRAGMA locking_mode = EXCLUSIVE')
            self._database.execute('PRAGMA journal_mode = WAL')
            self._database.execute('PRAGMA synchronous = NORMAL')
            self._database.execute('CREATE TABLE IF NOT EXISTS run (identity TEXT)')
            self._database.execute(
                'CREATE TABLE IF NOT EXISTS result (stream INTEGER, position INTEGER, boxes BLOB, scores BLOB, '
                'labels BLOB, mask BLOB, times TEXT, machine TEXT, PRIMARY KEY (stream, position))'
            )
            row = self._database.execute('SELECT identity FROM run').fetchone()
            if row is None:
                self._database.execute('INSERT INTO run VALUES (?)', (text,))
        if row is not None and row[0] != text:
            self.close()
            raise RecordingError(
                f'{path} holds results of another run, which differs in {difference(json.loads(row[0]), identity)}.'
            )

    def __len__(self) -> int:
        """Results that are here."""
        with self._errors():
            return int(self._database.execute('SELECT COUNT(*) FROM result').fetchone()[0])

    def get(self, stream: int, position: int) -> StoredResult | None:
        """The result of a frame; None if it is not here yet."""
        with self._errors():
            row = self._database.execute(
                'SELECT boxes, scores, labels, mask, times, machine FROM result WHERE stream = ? AND position = ?',
                (stream, position),
            ).fetchone()
        if row is None:
            return None
        names = ('boxes_xyxy', 'scores', 'labels', 'mask_png', 'times_ms', 'machine')
        return StoredResult(**dict(zip(names, row, strict=True)))

    def put(self, stream: int, position: int, result: StoredResult) -> None:
        """Keep the result of a frame.

        Raises:
            RecordingError: If the disk is full; what was kept before is intact.
        """
        row = (result.boxes_xyxy, result.scores, result.labels, result.mask_png, result.times_ms, result.machine)
        with self._errors():
            self._database.execute(
                'INSERT OR REPLACE INTO result VALUES (?, ?, ?, ?, ?, ?, ?, ?)', (stream, position, *row)
            )

    def close(self) -> None:
        self._database.close()

    @staticmethod
    def remove(path: Path) -> None:
        """Remove the file of a store, if there is one."""
        for end in ('', '-wal', '-shm'):
            path.with_name(path.name + end).unlink(missing_ok=True)

    def __enter__(self) -> ResultStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise RecordingError(
                f'Cannot keep results in {self.path}: {error}. What is in it stays; free some space, or name another '
                '--output, and go on with --resume.'
            ) from error
