"""One camera: its image subscription, its result topics, and the way of a frame from the one to the others.

The executor's thread only stores the newest message. The inference thread decodes it, lets the Perceiver look and
publishes. A frame that cannot be served is dropped, counted by reason and logged once; it never stops the node.
"""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, perf_counter
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy, qos_policy_name_from_kind
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.time import Time
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray, LabelInfo, VisionInfo

from perception.drawing import color_mask, draw_overlay
from perception.errors import ImageError, NotFiniteError
from perception.image_messages import DecodedImage, decode_compressed_image, decode_image
from perception.interfaces import SceneResult
from perception.pipeline import Perceiver
from perception.ros.conversions import detections_message, image_message, label_info_message, vision_info_message
from perception.ros.frame_slot import FrameSlot
from perception.ros.gpu import check_gpu
from perception.ros.statistics import CameraStatistics, Failure

UNTRAINED_BANNER = 'UNTRAINED WEIGHTS'


@dataclass(frozen=True, kw_only=True)
class CameraSettings:
    """The parameters of the same names that may change while the camera runs."""

    class_id_format: str
    overlay_alpha: float
    overlay_max_rate_hz: float
    max_image_age_ms: float
    max_allowed_processing_time_ms: float


def _qos(reliability: str, depth: int, *, latched: bool = False) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliability == 'reliable' else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


class Camera:
    """The topics of one camera on a lifecycle node, with relative names.

    Args:
        node: Whose topics they are.
        perceiver: Looks at the frames.
        output_qos: Reliability of the results, ``reliable`` or ``best_effort``.
        model_version: Published in VisionInfo; rises with each model.
    """

    def __init__(
        self,
        node: LifecycleNode,
        perceiver: Perceiver,
        settings: CameraSettings,
        *,
        output_qos: str,
        model_version: int,
    ) -> None:
        self.settings = settings
        self.statistics = CameraStatistics()
        self.enabled = True
        self.incompatible_qos = ''
        self.last_bad_image = ''
        self._node = node
        self._perceiver = perceiver
        self._model_version = model_version
        self._frames: FrameSlot[Image | CompressedImage] = FrameSlot()
        self._decode: Callable[[Any], DecodedImage] = decode_image
        self._subscription: Any = None
        self._last_drawing = float('-inf')
        self._assumptions_said: set[str] = set()

        def publisher(message_type: type, topic: str, qos: QoSProfile) -> Any:
            return node.create_lifecycle_publisher(message_type, topic, qos)

        latched = _qos('reliable', 1, latched=True)
        self._detections = publisher(Detection2DArray, 'detections', _qos(output_qos, 5))
        self._mask = publisher(Image, 'segmentation/mask', _qos(output_qos, 2))
        self._confidence = publisher(Image, 'segmentation/confidence', _qos(output_qos, 2))
        self._color_mask = publisher(Image, 'segmentation/color_mask', _qos(output_qos, 1))
        self._overlay = publisher(Image, 'overlay', _qos(output_qos, 1))
        self._detection_labels = publisher(LabelInfo, 'detections/label_info', latched)
        self._mask_labels = publisher(LabelInfo, 'segmentation/label_info', latched)
        self._vision_info = publisher(VisionInfo, 'vision_info', latched)
        self._publishers = (
            self._detections,
            self._mask,
            self._confidence,
            self._color_mask,
            self._overlay,
            self._detection_labels,
            self._mask_labels,
            self._vision_info,
        )

    def subscribe(self, *, image_transport: str, input_qos: str) -> None:
        """Start to receive frames; statistics begin anew."""
        compressed = image_transport == 'compressed'
        self.statistics = CameraStatistics()
        self.incompatible_qos = self.last_bad_image = ''
        self._frames = FrameSlot()
        self._decode = decode_compressed_image if compressed else decode_image
        self._subscription = self._node.create_subscription(
            CompressedImage if compressed else Image,
            'image/compressed' if compressed else 'image',
            self._on_image,
            _qos(input_qos, 1),
            event_callbacks=SubscriptionEventCallbacks(
                incompatible_qos=self._on_incompatible_qos, message_lost=self._on_message_lost
            ),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def unsubscribe(self) -> None:
        """Stop to receive frames and let serve_frames return."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None
        self._frames.close()

    def destroy(self) -> None:
        """Take all topics back."""
        self.unsubscribe()
        for publisher in self._publishers:
            self._node.destroy_lifecycle_publisher(publisher)

    def serve_frames(self) -> None:
        """Answer frame after frame until unsubscribe, or the shutdown; the body of the inference thread.

        Raises:
            GpuLostError: If no further frame can be answered by this process.
        """
        while (message := self._frames.take()) is not None:
            try:
                self._answer(message)
            except ImageError as error:
                self._drop(error)
            except Exception as error:
                if not self._node.context.ok():  # nothing can be published any more, and nobody waits for it
                    return
                check_gpu(self._perceiver.device)
                if self.statistics.count_failed(Failure(reason='internal_error', detail=str(error))) == 1:
                    self._node.get_logger().error(
                        f'A frame failed; further ones are counted:\n{traceback.format_exc()}'
                    )

    def publish_labels(self) -> None:
        """Publish what the ids mean and which model is at work; latched, and repeated for recorders that start late."""
        now = self._node.get_clock().now().to_msg()
        labels, threshold = self._perceiver.labels, self._perceiver.config.score_threshold
        self._detection_labels.publish(label_info_message(labels.detection, now, threshold))
        self._mask_labels.publish(label_info_message(labels.segmentation, now, threshold, unlabelled=True))
        self._vision_info.publish(vision_info_message(self._perceiver.checkpoint, now, self._model_version))

    def forget_waiting_frame(self) -> None:
        """Drop a frame of a time that is no more: the clock jumped back."""
        if self._frames.clear():
            self.statistics.count_dropped('clock_jump')

    def _on_image(self, message: Image | CompressedImage) -> None:
        self.statistics.count_received()
        if not self.enabled:
            self.statistics.count_dropped('paused')
        elif self._frames.put(message):
            self.statistics.count_dropped('superseded')

    def _on_message_lost(self, event: Any) -> None:
        self.statistics.count_dropped('lost_by_middleware', event.total_count_change)

    def _on_incompatible_qos(self, event: Any) -> None:
        self.incompatible_qos = qos_policy_name_from_kind(event.last_policy_kind)
        self._node.get_logger().error(
            f'A publisher on {self._subscription.topic_name} offers a QoS that this subscription cannot take '
            f'({self.incompatible_qos}): nothing will arrive from it. Set input_qos to best_effort.'
        )

    def _drop(self, error: ImageError) -> None:
        bad_image = not isinstance(error, NotFiniteError)
        if bad_image:
            self.last_bad_image = str(error)
        if self.statistics.count_failed(Failure(reason=error.reason, detail=str(error), bad_image=bad_image)) == 1:
            self._node.get_logger().warning(f'Dropped an image ({error.reason}): {error} Further ones are counted.')

    def _answer(self, message: Image | CompressedImage) -> None:
        age_ms = self._age_ms(message.header)
        if self.settings.max_image_age_ms and age_ms is not None and age_ms > self.settings.max_image_age_ms:
            detail = f'{age_ms:.0f} ms old, max_image_age_ms is {self.settings.max_image_age_ms:.0f}'
            if self.statistics.count_failed(Failure(reason='too_old', detail=detail)) == 1:
                self._node.get_logger().warning(f'Dropped an image ({detail}). Further ones are counted.')
            return
        start = perf_counter()
        image = self._decode(message)
        decoded_at = perf_counter()
        if image.assumed and image.assumed not in self._assumptions_said:
            self._assumptions_said.add(image.assumed)
            self._node.get_logger().warning(image.assumed)
        result = self._perceiver(
            image.pixels, image.order, with_confidence=self._confidence.get_subscription_count() > 0
        )
        perceived_at = perf_counter()
        self._publish(image, result, message.header)
        end = perf_counter()
        times_ms = {
            'decode': (decoded_at - start) * 1000,
            **result.times_ms,
            'publish': (end - perceived_at) * 1000,
            'processing': (end - start) * 1000,
        }
        delay_ms = self._age_ms(message.header)
        if delay_ms is not None:
            times_ms['delay'] = delay_ms
        self.statistics.count_published(times_ms, allowed_ms=self.settings.max_allowed_processing_time_ms)

    def _publish(self, image: DecodedImage, result: SceneResult, header: Header) -> None:
        """Results first; pictures for people only when somebody looks."""
        labels, settings = self._perceiver.labels, self.settings
        self._detections.publish(
            detections_message(result.detections, header, labels.detection, settings.class_id_format)
        )
        self._mask.publish(image_message(result.mask, header))
        if result.confidence is not None:
            self._confidence.publish(image_message(result.confidence, header))
        watched = self._color_mask.get_subscription_count(), self._overlay.get_subscription_count()
        if not any(watched) or not self._may_draw():
            return
        if watched[0]:
            self._color_mask.publish(image_message(color_mask(result.mask, labels.segmentation), header))
        if watched[1]:
            banner = '' if self._perceiver.checkpoint.trained else UNTRAINED_BANNER
            overlay = draw_overlay(image.to_rgb(), result, labels, alpha=settings.overlay_alpha, banner=banner)
            self._overlay.publish(image_message(overlay, header))

    def _may_draw(self) -> bool:
        now = monotonic()
        rate = self.settings.overlay_max_rate_hz
        if rate and now - self._last_drawing < 1 / rate:
            return False
        self._last_drawing = now
        return True

    def _age_ms(self, header: Header) -> float | None:
        """Time since the image's stamp; None while there is no clock, or for an image without a stamp."""
        now = self._node.get_clock().now()
        stamp = Time.from_msg(header.stamp, clock_type=now.clock_type)
        if now.nanoseconds == 0 or stamp.nanoseconds == 0:
            return None
        return (now - stamp).nanoseconds / 1e6
