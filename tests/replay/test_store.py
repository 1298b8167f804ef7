"""Results on disk: equal to the bit, refused for another run, and an error that names the file when it cannot be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from perception.errors import RecordingError
from perception.interfaces import Detections, SceneResult
from perception.replay.store import ResultStore, StoredResult


def draw_result(seed: int, detections: int = 3) -> SceneResult:
    rng = np.random.default_rng(seed)
    return SceneResult(
        detections=Detections(
            boxes_xyxy=rng.random((detections, 4), np.float32) * 100,
            scores=rng.random(detections, np.float32),
            labels=rng.integers(0, 3, detections),
        ),
        mask=rng.integers(0, 11, (30, 41)).astype(np.uint8),
        times_ms={'inference': 0.1 + seed},
    )


@pytest.mark.parametrize('detections', [0, 1, 200])
def test_a_result_comes_back_to_the_bit(tmp_path: Path, detections: int) -> None:
    result = draw_result(1, detections)
    with ResultStore(tmp_path / 'r.sqlite', {'run': 1}) as store:
        store.put(0, 7, StoredResult.of(result, 'here'))
    with ResultStore(tmp_path / 'r.sqlite', {'run': 1}) as store:
        kept = store.get(0, 7)
        assert (store.get(0, 6), store.get(1, 7), len(store)) == (None, None, 1)
    assert kept is not None
    found = kept.result()
    np.testing.assert_array_equal(found.mask, result.mask)
    for name in ('boxes_xyxy', 'scores', 'labels'):
        np.testing.assert_array_equal(getattr(found.detections, name), getattr(result.detections, name))
        assert getattr(found.detections, name).dtype == getattr(result.detections, name).dtype
    assert found.times_ms == result.times_ms
    assert kept.machine == 'here'


def test_another_run_is_refused_with_what_differs(tmp_path: Path) -> None:
    ResultStore(tmp_path / 'r.sqlite', {'network': 'a@1', 'device': 'cpu'}).close()
    with pytest.raises(RecordingError, match=r'differs in network \(a@1, now a@2\)'):
        ResultStore(tmp_path / 'r.sqlite', {'network': 'a@2', 'device': 'cpu'})


def test_a_file_that_is_none_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / 'r.sqlite').write_bytes(b'a letter to a friend' * 100)
    with pytest.raises(RecordingError, match=r'r\.sqlite: file is not a database'):
        ResultStore(tmp_path / 'r.sqlite', {})


def test_a_full_disk_is_said_and_what_was_kept_stays(tmp_path: Path) -> None:
    with ResultStore(tmp_path / 'r.sqlite', {}) as store:
        store.put(0, 0, StoredResult.of(draw_result(0), 'here'))
        store._database.execute('PRAGMA max_page_count = 1')
        large = StoredResult.of(draw_result(1, detections=20_000), 'here')
        with pytest.raises(RecordingError, match=r'full.*free some space.*--resume'):
            store.put(0, 1, large)
        assert store.get(0, 0) is not None
