"""camera_node: a lifecycle node that shows camera frames to one joint network and publishes what it sees.

configure = load the network and warm it up, activate = subscribe, deactivate = unsubscribe, cleanup = free the memory.
Topics, parameters and services: docs/ros_interface.md.
"""

import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import wraps
from time import monotonic
from typing import Any, NoReturn

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool

from perception.checkpoint import resolve_checkpoint
from perception.errors import PerceptionError
from perception.pipeline import Perceiver
from perception.postprocess import PostprocessConfig
from perception.ros.camera import UNTRAINED_BANNER, Camera, CameraSettings
from perception.ros.diagnostics import Limits, Situation, camera_status
from perception.ros.gpu import GpuLostError, free_gpu_memory
from perception.ros.parameters import declare_parameters, refusal
from perception.ros.startup_checks import startup_warnings
from perception.ros.statistics import CameraStatistics

Transition = Callable[[Any, LifecycleState], TransitionCallbackReturn]
LABELS_PERIOD_S = 5.0
DIAGNOSTICS_PERIOD_S = 1.0
INFERENCE_TIMEOUT_S = 20.0
"""For the frame in hand when inference is to stop."""


def _reported(transition: Transition) -> Transition:
    """rclpy swallows exceptions of transition callbacks; log what happened instead."""

    @wraps(transition)
    def guarded(node: LifecycleNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except PerceptionError as error:
            node.get_logger().error(f'{transition.__name__} failed: {error}')
            return TransitionCallbackReturn.FAILURE
        except Exception:
            if not node.context.ok():  # it is only the shutdown that came in between
                return TransitionCallbackReturn.FAILURE
            node.get_logger().error(f'{transition.__name__} failed:\n{traceback.format_exc()}')
            return TransitionCallbackReturn.ERROR

    return guarded


class CameraNode(LifecycleNode):
    """The node. It holds the network, one camera and, from configure to cleanup, one inference thread.

    Raises:
        ParameterException: If a parameter has a wrong type or value; the message names it.
    """

    def __init__(self, node_name: str = 'camera_node', **options: Any) -> None:
        super().__init__(node_name, **options)
        self._perceiver: Perceiver | None = None
        self._camera: Camera | None = None
        self._inference: ThreadPoolExecutor | None = None
        self._serving: Future[None] | None = None
        self._model_version = 0
        self._active_since: float | None = None
        self.add_on_set_parameters_callback(self._check_parameters)
        declare_parameters(self)
        self.add_post_set_parameters_callback(self._apply_parameters)
        for warning in startup_warnings(self):
            self.get_logger().warning(warning)
        # Both go on when /clock stops: a node that is silent then looks dead.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._publish_diagnostics, clock=steady)
        self.create_timer(LABELS_PERIOD_S, self._repeat_labels, clock=steady)
        self.create_service(SetBool, '~/enable', self._on_enable)
        backwards = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=False)
        self._jump_handle = self.get_clock().create_jump_callback(backwards, post_callback=self._on_clock_jump)

    def start(self) -> bool:
        """Configure and activate; whether both succeeded. What failed has been logged."""
        success = TransitionCallbackReturn.SUCCESS
        return self.trigger_configure() == success and self.trigger_activate() == success

    @_reported
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        checkpoint = resolve_checkpoint(self._value('model_path'))
        self.get_logger().info(f'Loading {checkpoint.title} ...')
        perceiver = Perceiver(
            checkpoint,
            backend=self._value('backend'),
            device=self._value('device'),
            precision=self._value('precision'),
            config=self._postprocess_config(),
        )
        started = monotonic()
        self._inference = ThreadPoolExecutor(1, thread_name_prefix='inference')
        for _ in range(self._value('warmup_iterations')):
            if not self.context.ok():
                break
            self._inference.submit(perceiver.warm_up, 1).result()
        self._model_version += 1
        self._perceiver = perceiver
        self._camera = Camera(
            self,
            perceiver,
            self._camera_settings(),
            output_qos=self._value('output_qos'),
            model_version=self._model_version,
        )
        self.get_logger().info(
            f'{checkpoint.title} is ready on {perceiver.device} (warm-up {monotonic() - started:.1f} s).'
        )
        if not checkpoint.trained:
            self.get_logger().warning(
                f'{UNTRAINED_BANNER}: {checkpoint.network.name} runs with random weights, its results mean nothing. '
                'Set model_path to a trained checkpoint.'
            )
        return TransitionCallbackReturn.SUCCESS

    @_reported
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        assert self._camera is not None
        assert self._inference is not None
        super().on_activate(state)
        self._camera.publish_labels()
        self._camera.subscribe(image_transport=self._value('image_transport'), input_qos=self._value('input_qos'))
        self._serving = self._inference.submit(self._serve, self._camera)
        self._active_since = monotonic()
        return TransitionCallbackReturn.SUCCESS

    @_reported
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop_inference()
        return super().on_deactivate(state)

    @_reported
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        return TransitionCallbackReturn.SUCCESS

    @_reported
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        return TransitionCallbackReturn.SUCCESS

    @_reported
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        # Back to unconfigured, so that the next configure can try again.
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def destroy_node(self) -> None:
        self._release()
        super().destroy_node()

    def _LifecycleNodeMixin__on_change_state(self, request: Any, response: Any) -> Any:
        """Answer ~/change_state. rclpy's own callback, of this mangled name, raises on a transition that the current
        state does not have, and the caller waits for ever."""
        try:
            return super()._LifecycleNodeMixin__on_change_state(request, response)  # type: ignore[misc]
        except RuntimeError as error:
            self.get_logger().warning(f'Transition {request.transition.id} is not possible now: {error}')
            response.success = False
            return response

    def _serve(self, camera: Camera) -> None:
        try:
            camera.serve_frames()
        except GpuLostError as error:
            self._give_up(str(error))

    def _give_up(self, why: str) -> NoReturn:
        """End the process, for a new one to take its place; tidying up first might wait for the GPU for ever."""
        self.get_logger().fatal(why)
        os._exit(1)

    def _stop_inference(self) -> None:
        self._active_since = None
        if self._camera is not None:
            self._camera.unsubscribe()
        if self._serving is not None:
            if wait([self._serving], INFERENCE_TIMEOUT_S).not_done:
                self._give_up(
                    f'Inference was to stop, and its last frame is not finished after {INFERENCE_TIMEOUT_S:g} s: the '
                    'GPU hangs, or the machine is far too slow. Ending the process; start it anew.'
                )
            self._serving = None

    def _release(self) -> None:
        self._stop_inference()
        if self._camera is not None:
            self._camera.destroy()
        if self._inference is not None:
            self._inference.shutdown(wait=False)
        self._camera = self._perceiver = self._inference = None
        free_gpu_memory()

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def _postprocess_config(self) -> PostprocessConfig:
        return PostprocessConfig(
            score_threshold=self._value('score_threshold'),
            nms_threshold=self._value('nms_threshold'),
            max_detections=self._value('max_detections'),
        )

    def _camera_settings(self) -> CameraSettings:
        return CameraSettings(
            class_id_format=self._value('class_id_format'),
            overlay_alpha=self._value('overlay_alpha'),
            overlay_max_rate_hz=self._value('overlay_max_rate_hz'),
            max_image_age_ms=self._value('max_image_age_ms'),
            max_allowed_processing_time_ms=self._value('diagnostics.max_allowed_processing_time_ms'),
        )

    def _check_parameters(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        reason = refusal(parameters)
        return SetParametersResult(successful=not reason, reason=reason)

    def _apply_parameters(self, parameters: Sequence[Parameter]) -> None:
        if self._perceiver is None or self._camera is None:
            return
        before = self._perceiver.config
        self._perceiver.config = self._postprocess_config()
        self._camera.settings = self._camera_settings()
        if self._active_since is not None and before.score_threshold != self._perceiver.config.score_threshold:
            self._camera.publish_labels()

    def _publish_diagnostics(self) -> None:
        statistics, situation = CameraStatistics(), Situation(lifecycle='unconfigured')
        if self._camera is not None and self._perceiver is not None:
            checkpoint, active_since = self._perceiver.checkpoint, self._active_since
            statistics = self._camera.statistics
            situation = Situation(
                lifecycle='inactive' if active_since is None else 'active',
                enabled=self._camera.enabled,
                active_for_s=0.0 if active_since is None else monotonic() - active_since,
                model=checkpoint.title,
                trained=checkpoint.trained,
                incompatible_qos=self._camera.incompatible_qos,
                last_bad_image=self._camera.last_bad_image,
            )
        limits = Limits(**{name: self._value(f'diagnostics.{name}') for name in Limits.__dataclass_fields__})
        name = f'{self.get_fully_qualified_name()}: camera pipeline'
        message = DiagnosticArray()
        message.header.stamp = self.get_clock().now().to_msg()
        message.status = [camera_status(name, statistics.snapshot(), situation, limits)]
        self._diagnostics.publish(message)

    def _repeat_labels(self) -> None:
        if self._camera is not None and self._active_since is not None:
            self._camera.publish_labels()

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        if self._camera is None:
            response.success, response.message = False, 'The node is not configured.'
            return response
        self._camera.enabled = bool(request.data)
        response.success, response.message = True, 'inference runs' if request.data else 'inference is paused'
        return response

    def _on_clock_jump(self, jump: Any) -> None:
        if self._camera is not None:
            self._camera.forget_waiting_frame()


def main(args: list[str] | None = None) -> int:
    """Run the node until it is told to stop. Returns the exit code: 1 when it could not start."""
    logger = rclpy.logging.get_logger('camera_node')
    node = None
    initialised = False
    try:
        rclpy.init(args=args)
        initialised = True
        node = CameraNode()
        if node.get_parameter('autostart').value and not node.start():
            logger.fatal('Could not start; the reason stands above.')
            return 1
        _spin(node)
    except (ParameterException, RuntimeError) as error:
        # Told to stop in between, what is left to do fails: no fault.
        if rclpy.ok() or not initialised:
            logger.fatal(f'Refused to start: {error}')
            return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        # Launch and terminal may both send SIGINT; a second one must not interrupt the cleaning up.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _spin(node: CameraNode) -> None:
    """Serve callbacks until the shutdown. One failing callback must not end the node."""
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while rclpy.ok():
        try:
            executor.spin_once()
        except (KeyboardInterrupt, ExternalShutdownException):
            return
        except Exception:
            if rclpy.ok():  # otherwise it is only the shutdown that came in between
                node.get_logger().error(f'A callback failed:\n{traceback.format_exc()}')


if __name__ == '__main__':
    sys.exit(main())
