"""Results -> messages, as the ROS contract (docs/ros_interface.md) fixes them.

Setters of Jazzy's messages do not check types, hence the casts: a numpy scalar would go out as garbage, silently.
"""

import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, Detection2DArray, LabelInfo, ObjectHypothesisWithPose, VisionClass, VisionInfo

from perception.checkpoint import Checkpoint
from perception.errors import PerceptionError
from perception.image_messages import encode_image_fields
from perception.interfaces import UNLABELLED, Detections, LabelClass


class DetectionError(PerceptionError):
    """A detection is of a class that its node has not declared."""


def detections_message(
    detections: Detections, header: Header, classes: tuple[LabelClass, ...], class_id_format: str = 'id'
) -> Detection2DArray:
    """All detections of one frame; boxes in pixels of the original image; empty for a frame without objects."""
    message = Detection2DArray(header=header)
    for (left, top, right, bottom), score, label in zip(
        detections.boxes_xyxy.tolist(), detections.scores.tolist(), detections.labels.tolist(), strict=True
    ):
        detection = Detection2D(header=header)
        detection.bbox.center.position.x = (left + right) / 2
        detection.bbox.center.position.y = (top + bottom) / 2
        detection.bbox.size_x = right - left
        detection.bbox.size_y = bottom - top
        guess = ObjectHypothesisWithPose()
        guess.hypothesis.class_id = classes[label].name if class_id_format == 'name' else str(label)
        guess.hypothesis.score = score
        detection.results = [guess]
        message.detections.append(detection)
    return message


def read_detections(message: Detection2DArray, info: LabelInfo) -> Detections:
    """The inverse of ``detections_message``, for class ids that are numbers and for such that are names.

    Args:
        info: What the node says of its ids.

    Raises:
        DetectionError: If that holds no such class.
    """
    ids = {key: entry.class_id for entry in info.class_map for key in (str(entry.class_id), entry.class_name)}
    boxes, scores, labels = [], [], []
    for detection in message.detections:
        centre, half_x, half_y = detection.bbox.center.position, detection.bbox.size_x / 2, detection.bbox.size_y / 2
        boxes.append((centre.x - half_x, centre.y - half_y, centre.x + half_x, centre.y + half_y))
        scores.append(detection.results[0].hypothesis.score)
        class_id = detection.results[0].hypothesis.class_id
        if class_id not in ids:
            raise DetectionError(f'A detection of class {class_id!r} came; LabelInfo says: {", ".join(ids)}.')
        labels.append(ids[class_id])
    return Detections(
        boxes_xyxy=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.array(scores, np.float32),
        labels=np.array(labels, np.int64),
    )


def image_message(pixels: np.ndarray, header: Header) -> Image:
    """An image message from (H, W) uint8 (mono8) or (H, W, 3) uint8 RGB (rgb8)."""
    message = Image(header=header)
    # Field by field: the constructor copies data element by element, 350 ms for 6 MB instead of 1.
    for name, value in encode_image_fields(pixels).items():
        setattr(message, name, value)
    return message


def label_info_message(
    classes: tuple[LabelClass, ...], stamp: Time, threshold: float, *, unlabelled: bool = False
) -> LabelInfo:
    """The id map of masks (with the id of pixels without a class) or of detections."""
    message = LabelInfo(threshold=float(threshold))
    message.header.stamp = stamp
    message.class_map = [VisionClass(class_id=index, class_name=label.name) for index, label in enumerate(classes)]
    if unlabelled:
        message.class_map.append(VisionClass(class_id=UNLABELLED, class_name='unlabelled'))
    return message


def vision_info_message(checkpoint: Checkpoint, stamp: Time, version: int) -> VisionInfo:
    """Which network with which weights is at work."""
    message = VisionInfo(method=checkpoint.title, database_version=int(version))
    message.header.stamp = stamp
    message.database_location = str(checkpoint.path or '')
    return message
