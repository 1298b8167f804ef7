"""camera_node: a lifecycle node that shows camera frames to one joint network and publishes what it sees.

configure = load the network and warm it up, activate = subscribe, deactivate = unsubscribe, cleanup = free the memory.
Topics, parameters and services: docs/ros_interface.md.
"""

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Lock
from time import monotonic
from typing import Any, NoReturn

import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool

from perception.checkpoint import resolve_checkpoint
from perception.pipeline import Perceiver
from perception.ros.camera import Camera
from perception.ros.diagnostics import camera_status
from perception.ros.fast_dds import room_warnings
from perception.ros.findings import Situation
from perception.ros.gpu import GpuLostError, free_gpu_memory
from perception.ros.health import HealthReports
from perception.ros.image_input import image_topic
from perception.ros.input_watch import clock_fault
from perception.ros.lifecycle import AnsweringLifecycleNode, reported
from perception.ros.outputs import UNTRAINED_BANNER, CameraOutputs
from perception.ros.parameters import camera_settings, declare_parameters, health_limits, postprocess_config, refusal
from perception.ros.startup_checks import startup_warnings
from perception.ros.statistics import CameraStatistics, Snapshot

INFERENCE_TIMEOUT_S = 20.0
"""For the frame in hand when inference is to stop."""
SILENCE_S = 1.0
"""Without a frame for so long, the diagnostics say what the graph tells about the topic."""


class CameraNode(AnsweringLifecycleNode):
    """The node. It holds the network, one camera and, from configure to cleanup, one inference thread.

    Args:
        arguments: The command line that it was started with, to warn of what is written for other nodes.

    Raises:
        ParameterException: If a parameter has a wrong type or value; the message names it.
    """

    def __init__(self, node_name: str = 'camera_node', *, arguments: Sequence[str] = (), **options: Any) -> None:
        super().__init__(node_name, **options)
        self._perceiver: Perceiver | None = None
        self._camera: Camera | None = None
        self._inference: ThreadPoolExecutor | None = None
        self._serving: Future[None] | None = None
        self._model_version = 0
        self._active_since: float | None = None
        self._enabled = True
        self._reporting = Lock()
        self.add_on_set_parameters_callback(self._check_parameters)
        declare_parameters(self)
        self.add_post_set_parameters_callback(self._apply_parameters)
        topic = self.resolve_topic_name(image_topic(self, self._value('image_transport')))
        for warning in startup_warnings(self, topic, arguments):
            self.get_logger().warning(warning)
        if self._value('label_info_period_s'):
            steady = Clock(clock_type=ClockType.STEADY_TIME)
            self.create_timer(self._value('label_info_period_s'), self._repeat_labels, clock=steady)
        self.create_service(SetBool, '~/enable', self._on_enable)
        backwards = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=False)
        self._jump_handle = self.get_clock().create_jump_callback(backwards, post_callback=self._on_clock_jump)
        self._health = HealthReports(self, self._status)

    def start(self) -> bool:
        """Configure and activate; whether both succeeded. What failed has been logged."""
        success = TransitionCallbackReturn.SUCCESS
        return self.trigger_configure() == success and self.trigger_activate() == success

    @reported
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        checkpoint = resolve_checkpoint(self._value('model_path'))
        self.get_logger().info(f'Loading {checkpoint.title} ...')
        perceiver = Perceiver(
            checkpoint,
            backend=self._value('backend'),
            device=self._value('device'),
            precision=self._value('precision'),
            config=postprocess_config(self),
        )
        started = monotonic()
        self._inference = ThreadPoolExecutor(1, thread_name_prefix='inference')
        for _ in range(self._value('warmup_iterations')):
            if not self.context.ok():
                break
            self._inference.submit(perceiver.warm_up, 1).result()
        self._model_version += 1
        self._perceiver = perceiver
        outputs = CameraOutputs(
            self, perceiver, output_qos=self._value('output_qos'), model_version=self._model_version
        )
        self._camera = Camera(self, perceiver, outputs, camera_settings(self), enabled=self._enabled)
        self.get_logger().info(
            f'{checkpoint.title} is ready on {perceiver.device} (warm-up {monotonic() - started:.1f} s).'
        )
        if not checkpoint.trained:
            self.get_logger().warning(
                f'{UNTRAINED_BANNER}: {checkpoint.network.name} runs with random weights, its results mean nothing. '
                'Set model_path to a trained checkpoint.'
            )
        return TransitionCallbackReturn.SUCCESS

    @reported
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        assert self._camera is not None
        assert self._inference is not None
        super().on_activate(state)
        self._camera.outputs.publish_labels()
        self._camera.subscribe(image_transport=self._value('image_transport'), input_qos=self._value('input_qos'))
        self._serving = self._inference.submit(self._serve, self._camera)
        self._active_since = monotonic()
        return TransitionCallbackReturn.SUCCESS

    @reported
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop_inference()
        return super().on_deactivate(state)

    @reported
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        return TransitionCallbackReturn.SUCCESS

    @reported
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        return TransitionCallbackReturn.SUCCESS

    @reported
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        # Back to unconfigured, so that the next configure can try again.
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def destroy_node(self) -> None:
        self._release()
        self._health.stop()
        super().destroy_node()

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
        with self._reporting:
            self._camera = self._perceiver = self._inference = None
        free_gpu_memory()

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def _check_parameters(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        reason = refusal(parameters)
        return SetParametersResult(successful=not reason, reason=reason)

    def _apply_parameters(self, parameters: Sequence[Parameter]) -> None:
        if self._perceiver is None or self._camera is None:
            return
        self._perceiver.config = postprocess_config(self)
        self._camera.settings = camera_settings(self)
        if self._active_since is not None:
            self._camera.outputs.publish_labels()

    def _status(self) -> DiagnosticStatus:
        """How the node is; called from the thread of the reports, which must not hold what is given back meanwhile."""
        with self._reporting:
            return self._status_now()

    def _status_now(self) -> DiagnosticStatus:
        camera = self._camera
        snapshot = (CameraStatistics() if camera is None else camera.statistics).snapshot()
        name = f'{self.get_fully_qualified_name()}: camera pipeline'
        return camera_status(name, snapshot, self._situation(camera, snapshot), health_limits(self))

    def _situation(self, camera: Camera | None, snapshot: Snapshot) -> Situation:
        perceiver, active_since = self._perceiver, self._active_since
        image_input = None if camera is None else camera.input
        silent = snapshot.since_last_frame_s is None or snapshot.since_last_frame_s > SILENCE_S
        return Situation(
            lifecycle=self.lifecycle_state,
            enabled=self._enabled,
            active_for_s=0.0 if active_since is None else monotonic() - active_since,
            model='' if perceiver is None else perceiver.checkpoint.title,
            trained=perceiver is None or perceiver.checkpoint.trained,
            clock=clock_fault(self),
            incompatible_qos='' if image_input is None else image_input.incompatible_qos,
            last_bad_image='' if camera is None else camera.last_bad_image,
            silence=image_input.why_silent() if image_input is not None and silent else '',
        )

    def _repeat_labels(self) -> None:
        if self._camera is not None and self._active_since is not None:
            self._camera.outputs.publish_labels(again=True)

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = bool(request.data)
        if self._camera is not None:
            self._camera.enabled = self._enabled
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
        warnings = room_warnings()  # before the node takes its share
        node = CameraNode(arguments=sys.argv if args is None else args)
        for warning in warnings:
            node.get_logger().warning(warning)
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
