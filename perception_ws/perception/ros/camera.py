"""One camera: the way of a frame from its image subscription to its result topics.

The executor's thread only stores the newest message. The inference thread decodes it, lets the Perceiver look and
publishes. A frame that cannot be served is dropped, counted by reason and logged once; it never stops the node.
"""

import traceback
from collections.abc import Callable
from time import perf_counter
from typing import Any

from rclpy.lifecycle import LifecycleNode

from perception.errors import ImageError, NotFiniteError
from perception.image_messages import DecodedImage, decode_compressed_image, decode_image
from perception.pipeline import Perceiver
from perception.ros.frame_slot import FrameSlot
from perception.ros.gpu import check_gpu
from perception.ros.image_input import ImageInput, ImageMessage
from perception.ros.outputs import CameraOutputs
from perception.ros.parameters import CameraSettings
from perception.ros.stamps import image_age_ms
from perception.ros.statistics import CameraStatistics, Failure


class Camera:
    """One camera on a lifecycle node.

    Args:
        node: Whose topics they are.
        perceiver: Looks at the frames.
        outputs: Where the results go.
        enabled: Whether frames are looked at, or counted only.
    """

    def __init__(
        self,
        node: LifecycleNode,
        perceiver: Perceiver,
        outputs: CameraOutputs,
        settings: CameraSettings,
        *,
        enabled: bool = True,
    ) -> None:
        self.settings = settings
        self.statistics = CameraStatistics()
        self.enabled = enabled
        self.last_bad_image = ''
        self.input: ImageInput | None = None
        self.outputs = outputs
        self._node = node
        self._perceiver = perceiver
        self._frames: FrameSlot[ImageMessage] = FrameSlot()
        self._decode: Callable[[Any], DecodedImage] = decode_image
        self._assumptions_said: set[str] = set()

    def subscribe(self, *, image_transport: str, input_qos: str) -> None:
        """Start to receive frames; statistics begin anew."""
        self.statistics = CameraStatistics()
        self.last_bad_image = ''
        self._frames = FrameSlot()
        self._decode = decode_compressed_image if image_transport == 'compressed' else decode_image
        self.input = ImageInput(
            self._node, self._on_image, self.statistics, image_transport=image_transport, input_qos=input_qos
        )

    def unsubscribe(self) -> None:
        """Stop to receive frames and let serve_frames return."""
        if self.input is not None:
            self.input.destroy()
            self.input = None
        if self._frames.clear():
            self.statistics.count_dropped('deactivated')
        self._frames.close()

    def destroy(self) -> None:
        """Take all topics back."""
        self.unsubscribe()
        self.outputs.destroy()

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

    def forget_waiting_frame(self) -> None:
        """Drop a frame of a time that is no more: the clock jumped back."""
        if self._frames.clear():
            self.statistics.count_dropped('clock_jump')

    def _on_image(self, message: ImageMessage) -> None:
        if not self.enabled:
            self.statistics.count_dropped('paused')
        elif self._frames.put(message):
            self.statistics.count_dropped('superseded')

    def _drop(self, error: ImageError) -> None:
        bad_image = not isinstance(error, NotFiniteError)
        if bad_image:
            self.last_bad_image = str(error)
        if self.statistics.count_failed(Failure(reason=error.reason, detail=str(error), bad_image=bad_image)) == 1:
            self._node.get_logger().warning(f'Dropped an image ({error.reason}): {error} Further ones are counted.')

    def _answer(self, message: ImageMessage) -> None:
        age_ms = image_age_ms(self._node.get_clock(), message.header)
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
        result = self._perceiver(image.pixels, image.order, with_confidence=self.outputs.confidence_is_wanted())
        perceived_at = perf_counter()
        self.outputs.publish(image, result, message.header, self.settings)
        end = perf_counter()
        times_ms = {
            'decode': (decoded_at - start) * 1000,
            **result.times_ms,
            'publish': (end - perceived_at) * 1000,
            'processing': (end - start) * 1000,
        }
        delay_ms = image_age_ms(self._node.get_clock(), message.header)
        if delay_ms is not None:
            times_ms['delay'] = delay_ms
        self.statistics.count_published(times_ms, allowed_ms=self.settings.max_allowed_processing_time_ms)
