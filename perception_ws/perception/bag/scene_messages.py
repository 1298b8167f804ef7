"""What is seen or true in an image as messages of a bag: boxes as Detection2DArray, class lists as LabelInfo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from perception.bag.truth_topics import IGNORED_CLASS
from perception.bag.writer import BagWriter
from perception.interfaces import ANY_CLASS, UNLABELLED, Detections, GroundTruth, LabelClass

_Row = tuple[np.ndarray, Sequence[str], float]
"""A box, its class_id and more of them, and its score."""
DETECTIONS_TYPE, LABELS_TYPE = 'vision_msgs/msg/Detection2DArray', 'vision_msgs/msg/LabelInfo'


def write_detections(writer: BagWriter, topic: str, detections: Detections, stamp_ns: int, frame_id: str = '') -> None:
    """Append what was found in one image; the message of an image without objects is empty."""
    rows = zip(detections.boxes_xyxy, detections.labels.tolist(), detections.scores.tolist(), strict=True)
    _write_boxes(writer, topic, [(box, (str(label),), score) for box, label, score in rows], stamp_ns, frame_id)


def write_true_boxes(writer: BagWriter, topic: str, truth: GroundTruth, stamp_ns: int, frame_id: str = '') -> None:
    """Append the true boxes of one image and its ignored regions."""
    assert truth.boxes_xyxy is not None
    assert truth.labels is not None
    rows: list[_Row] = [
        (box, (str(label),), 1.0) for box, label in zip(truth.boxes_xyxy, truth.labels.tolist(), strict=True)
    ]
    if truth.ignore_boxes_xyxy is not None:
        labels = [ANY_CLASS] * len(truth.ignore_boxes_xyxy) if truth.ignore_labels is None else truth.ignore_labels
        for box, label in zip(truth.ignore_boxes_xyxy, labels, strict=True):
            rows.append((box, (IGNORED_CLASS, *([] if label == ANY_CLASS else [str(label)])), 1.0))
    _write_boxes(writer, topic, rows, stamp_ns, frame_id)


def write_label_info(
    writer: BagWriter, topic: str, classes: Sequence[LabelClass], stamp_ns: int, *, threshold: float, masks: bool
) -> None:
    """Append the class list behind ids, latched; that of masks also names the pixels without a class."""
    named = list(enumerate(label.name for label in classes))
    if masks:
        named.append((UNLABELLED, 'unlabelled'))
    entries = [writer.create('vision_msgs/msg/VisionClass', class_id=number, class_name=name) for number, name in named]
    message = writer.create(
        LABELS_TYPE, header=writer.create_header(stamp_ns), class_map=entries, threshold=float(threshold)
    )
    writer.add_topic(topic, LABELS_TYPE, latched=True)
    writer.write(topic, LABELS_TYPE, message, stamp_ns)


def _write_boxes(writer: BagWriter, topic: str, rows: Sequence[_Row], stamp_ns: int, frame_id: str) -> None:
    header, pose = writer.create_header(stamp_ns, frame_id), _no_pose(writer)
    found = [_detection(writer, header, pose, *row) for row in rows]
    writer.write(topic, DETECTIONS_TYPE, writer.create(DETECTIONS_TYPE, header=header, detections=found), stamp_ns)


def _detection(
    writer: BagWriter, header: Any, pose: Any, box_xyxy: np.ndarray, class_ids: Sequence[str], score: float
) -> Any:
    create = writer.create
    left, top, right, bottom = box_xyxy.astype(np.float64).tolist()
    point = create('vision_msgs/msg/Point2D', x=(left + right) / 2, y=(top + bottom) / 2)
    box = create(
        'vision_msgs/msg/BoundingBox2D',
        center=create('vision_msgs/msg/Pose2D', position=point, theta=0.0),
        size_x=right - left,
        size_y=bottom - top,
    )
    guesses = [
        create(
            'vision_msgs/msg/ObjectHypothesisWithPose',
            hypothesis=create('vision_msgs/msg/ObjectHypothesis', class_id=class_id, score=float(score)),
            pose=pose,
        )
        for class_id in class_ids
    ]
    return create('vision_msgs/msg/Detection2D', header=header, results=guesses, bbox=box, id='')


def _no_pose(writer: BagWriter) -> Any:
    create = writer.create
    pose = create(
        'geometry_msgs/msg/Pose',
        position=create('geometry_msgs/msg/Point', x=0.0, y=0.0, z=0.0),
        orientation=create('geometry_msgs/msg/Quaternion', x=0.0, y=0.0, z=0.0, w=1.0),
    )
    return create('geometry_msgs/msg/PoseWithCovariance', pose=pose, covariance=np.zeros(36))
