"""predictions.mcap: what was seen in every frame, as a bag that Foxglove, RViz and ``ros2 bag play`` open.

    <camera>/detections                    vision_msgs/Detection2DArray, from the reporting threshold on
    <camera>/segmentation/mask/compressed  class ids as PNG
    <camera>/overlay/compressed            JPEG for people
    <camera>/.../label_info                vision_msgs/LabelInfo, latched

The same run writes the same bytes: stamps are those of the recording, never those of the clock.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from perception.bag.scene_messages import write_detections, write_label_info
from perception.bag.truth_topics import LABEL_INFO
from perception.bag.writer import BagWriter
from perception.drawing import draw_overlay
from perception.errors import RecordingError
from perception.interfaces import Detections, LabelSpace, SceneResult, StampedImage
from perception.postprocess import PostprocessConfig
from perception.video import VideoWriter

PREDICTIONS_FILE, FILM_FILE = 'predictions.mcap', 'overlay.mp4'


class PredictionWriter:
    """Writes predictions.mcap and, if wanted, overlay.mp4; a context manager. A failed run leaves no file.

    Args:
        folder: Where to; what stands there under these names is replaced.
        labels: Classes of the network.
        score_threshold: Detections below it, which average precision looks at, are left out.
        overlay: Whether to draw.
        film_rate_hz: Frames a second of overlay.mp4; 0: no film.
        banner: A warning written across every overlay.
    """

    def __init__(
        self,
        folder: Path,
        labels: LabelSpace,
        *,
        score_threshold: float = PostprocessConfig.score_threshold,
        overlay: bool = True,
        film_rate_hz: float = 0.0,
        banner: str = '',
    ) -> None:
        self.path = folder / PREDICTIONS_FILE
        self._labels, self._score_threshold = labels, score_threshold
        self._overlay, self._banner = overlay or film_rate_hz > 0, banner
        self._unfinished = folder / '.predictions'
        self._writer = BagWriter(self._unfinished)
        self._film = VideoWriter(folder / FILM_FILE, film_rate_hz) if film_rate_hz else None
        self._cameras: set[str] = set()

    def __enter__(self) -> PredictionWriter:
        shutil.rmtree(self._unfinished, ignore_errors=True)  # of a run that was killed
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._film is not None:
            self._film.close()
        self._writer.__exit__(kind, error, traceback)
        if error is None:
            (written,) = self._unfinished.glob('*.mcap')
            written.replace(self.path)
            shutil.rmtree(self._unfinished)

    def add(self, camera: str, frame: StampedImage, result: SceneResult, mask_png: bytes) -> None:
        """Append one frame's result; frames come in the order of the recording.

        Args:
            camera: Namespace of the camera.
            mask_png: The result's mask, encoded.

        Raises:
            RecordingError: If the disk is full.
        """
        try:
            self._add(camera, frame, result, mask_png)
        except OSError as error:
            raise RecordingError(f'Cannot write {self._unfinished}: {error}. Free some space and --resume.') from error

    def _add(self, camera: str, frame: StampedImage, result: SceneResult, mask_png: bytes) -> None:
        writer, stamp_ns = self._writer, frame.stamp_ns
        result = replace(result, detections=self._reported(result.detections))
        if camera not in self._cameras:
            self._cameras.add(camera)
            for name, classes, threshold in (
                ('segmentation', self._labels.segmentation, 0.0),
                ('detections', self._labels.detection, self._score_threshold),
            ):
                topic = f'{camera}/{name}/{LABEL_INFO}'
                write_label_info(writer, topic, classes, stamp_ns, threshold=threshold, masks=name == 'segmentation')
        write_detections(writer, f'{camera}/detections', result.detections, stamp_ns, frame.frame_id)
        writer.write_mask(f'{camera}/segmentation/mask/compressed', mask_png, stamp_ns, frame.frame_id)
        if self._overlay:
            picture = draw_overlay(frame.image_rgb, result, self._labels, banner=self._banner)
            writer.write_jpeg(f'{camera}/overlay/compressed', replace(frame, image_rgb=picture))
            if self._film is not None:
                self._film.write(picture)

    def _reported(self, found: Detections) -> Detections:
        shown = found.scores >= self._score_threshold
        return replace(
            found, boxes_xyxy=found.boxes_xyxy[shown], scores=found.scores[shown], labels=found.labels[shown]
        )
