"""What a camera publishes: results first, pictures for people only when somebody looks, and what the ids mean."""

from time import monotonic
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray, LabelInfo, VisionInfo

from perception.drawing import color_mask, draw_overlay
from perception.image_messages import DecodedImage
from perception.interfaces import SceneResult
from perception.pipeline import Perceiver
from perception.ros.conversions import detections_message, image_message, label_info_message, vision_info_message
from perception.ros.parameters import CameraSettings
from perception.ros.qos import qos_profile

UNTRAINED_BANNER = 'UNTRAINED WEIGHTS'


class CameraOutputs:
    """The result topics of one camera on a lifecycle node, with relative names.

    Args:
        node: Whose topics they are.
        perceiver: Whose results they hold.
        output_qos: Reliability of the results, ``reliable`` or ``best_effort``.
        model_version: Published in VisionInfo; rises with each model.
    """

    def __init__(self, node: LifecycleNode, perceiver: Perceiver, *, output_qos: str, model_version: int) -> None:
        self._node = node
        self._perceiver = perceiver
        self._model_version = model_version
        self._last_drawing = float('-inf')
        self._published_threshold: float | None = None
        self._publishers: list[Any] = []

        def publisher(message_type: type, topic: str, qos: QoSProfile) -> Any:
            self._publishers.append(node.create_lifecycle_publisher(message_type, topic, qos))
            return self._publishers[-1]

        latched = qos_profile('reliable', 1, latched=True)
        self._detections = publisher(Detection2DArray, 'detections', qos_profile(output_qos, 5))
        self._mask = publisher(Image, 'segmentation/mask', qos_profile(output_qos, 2))
        self._confidence = publisher(Image, 'segmentation/confidence', qos_profile(output_qos, 2))
        self._color_mask = publisher(Image, 'segmentation/color_mask', qos_profile(output_qos, 1))
        self._overlay = publisher(Image, 'overlay', qos_profile(output_qos, 1))
        self._detection_labels = publisher(LabelInfo, 'detections/label_info', latched)
        self._mask_labels = publisher(LabelInfo, 'segmentation/label_info', latched)
        self._vision_info = publisher(VisionInfo, 'vision_info', latched)

    def destroy(self) -> None:
        """Take all topics back."""
        for publisher in self._publishers:
            self._node.destroy_lifecycle_publisher(publisher)

    def confidence_is_wanted(self) -> bool:
        return bool(self._confidence.get_subscription_count())

    def publish(self, image: DecodedImage, result: SceneResult, header: Header, settings: CameraSettings) -> None:
        """Publish what was seen in one image, under its header."""
        labels = self._perceiver.labels
        self._detections.publish(
            detections_message(result.detections, header, labels.detection, settings.class_id_format)
        )
        self._mask.publish(image_message(result.mask, header))
        if result.confidence is not None:
            self._confidence.publish(image_message(result.confidence, header))
        watched = self._color_mask.get_subscription_count(), self._overlay.get_subscription_count()
        if not any(watched) or not self._may_draw(settings.overlay_max_rate_hz):
            return
        if watched[0]:
            self._color_mask.publish(image_message(color_mask(result.mask, labels.segmentation), header))
        if watched[1]:
            banner = '' if self._perceiver.checkpoint.trained else UNTRAINED_BANNER
            overlay = draw_overlay(image.to_rgb(), result, labels, alpha=settings.overlay_alpha, banner=banner)
            self._overlay.publish(image_message(overlay, header))

    def publish_labels(self, *, again: bool = False) -> None:
        """Publish what the ids mean and which model is at work; latched, so only what has changed unless ``again``.

        Nav2's semantic layer, for one, begins its map anew with every LabelInfo.
        """
        labels, threshold = self._perceiver.labels, self._perceiver.config.score_threshold
        if threshold == self._published_threshold and not again:
            return
        self._published_threshold = threshold
        now = self._node.get_clock().now().to_msg()
        self._detection_labels.publish(label_info_message(labels.detection, now, threshold))
        self._mask_labels.publish(label_info_message(labels.segmentation, now, threshold, unlabelled=True))
        self._vision_info.publish(vision_info_message(self._perceiver.checkpoint, now, self._model_version))

    def _may_draw(self, max_rate_hz: float) -> bool:
        now = monotonic()
        if max_rate_hz and now - self._last_drawing < 1 / max_rate_hz:
            return False
        self._last_drawing = now
        return True
