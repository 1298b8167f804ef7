"""The node's parameters: one table from which they are declared, checked and documented.

``python -m perception.ros.parameters`` prints the table of docs/ros_interface.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from perception.backends import BACKENDS
from perception.backends.devices import PRECISIONS
from perception.interfaces import Suppression
from perception.postprocess import PostprocessConfig
from perception.ros.findings import Limits
from perception.ros.qos import QOS_CHOICES


@dataclass(frozen=True, kw_only=True)
class ParameterSpec:
    """One parameter: what it means and which values it takes. A fixed one can be set at start only."""

    name: str
    default: str | int | float | bool
    description: str
    fixed: bool = False
    value_range: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()

    def descriptor(self) -> ParameterDescriptor:
        """The same in ROS's own words, for ``ros2 param describe`` and graphical tools."""
        descriptor = ParameterDescriptor(description=self.description, read_only=self.fixed)
        if self.choices:
            descriptor.additional_constraints = f'One of: {", ".join(self.choices)}'
        if self.value_range and isinstance(self.default, float):
            low, high = self.value_range
            descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
        elif self.value_range:
            low, high = self.value_range
            descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
        return descriptor


@dataclass(frozen=True, kw_only=True)
class CameraSettings:
    """The parameters of the same names that may change while the camera runs."""

    class_id_format: str
    overlay_alpha: float
    overlay_max_rate_hz: float
    max_image_age_ms: float
    max_allowed_processing_time_ms: float


PARAMETERS = (
    ParameterSpec(
        name='model_path',
        default='',
        fixed=True,
        description='Checkpoint file. Empty: the weights that ship with the package. '
        "A network's name: its weights that ship, else random ones; NAME@untrained: random ones.",
    ),
    ParameterSpec(
        name='backend', default='eager', fixed=True, choices=tuple(BACKENDS), description='How the network is run.'
    ),
    ParameterSpec(name='device', default='auto', fixed=True, description='auto, cpu, cuda or cuda:N.'),
    ParameterSpec(
        name='precision',
        default='fp32',
        fixed=True,
        choices=tuple(PRECISIONS),
        description='Arithmetic of the network.',
    ),
    ParameterSpec(
        name='image_transport',
        default='raw',
        fixed=True,
        choices=('raw', 'compressed'),
        description='Subscribe to image (raw) or to image/compressed, which follows a remap of image.',
    ),
    ParameterSpec(
        name='input_qos',
        default='best_effort',
        fixed=True,
        choices=QOS_CHOICES,
        description='Reliability of the image subscription; best_effort hears every publisher.',
    ),
    ParameterSpec(
        name='output_qos',
        default='reliable',
        fixed=True,
        choices=QOS_CHOICES,
        description='Reliability of the published results.',
    ),
    ParameterSpec(
        name='label_info_period_s',
        default=0.0,
        fixed=True,
        value_range=(0, 3600),
        description='Repeat label infos and vision_info, for recorders that start late and miss what is latched; '
        "0: on change only, as Nav2's semantic layer starts its map anew with each.",
    ),
    ParameterSpec(
        name='warmup_iterations',
        default=3,
        fixed=True,
        value_range=(0, 100),
        description='Runs on a blank image while configuring, so that the first frame is not slow.',
    ),
    ParameterSpec(
        name='autostart', default=True, fixed=True, description='Configure and activate without waiting to be told.'
    ),
    ParameterSpec(
        name='score_threshold', default=0.3, value_range=(0, 1), description='Lowest score of a reported detection.'
    ),
    ParameterSpec(
        name='nms_threshold',
        default=-1.0,
        value_range=(-1, 1),
        description='Boxes of one class that overlap more (IoU) are one object; below 0: as the network has it, '
        f'{Suppression.nms_threshold} unless its paper says otherwise.',
    ),
    ParameterSpec(
        name='max_detections',
        default=0,
        value_range=(0, 1000),
        description=f'At most so many detections per frame; 0: as the network has it, {Suppression.max_detections}.',
    ),
    ParameterSpec(
        name='max_image_age_ms',
        default=0.0,
        value_range=(0, 60_000),
        description='Frames older than this when their turn comes are dropped; 0 keeps all.',
    ),
    ParameterSpec(
        name='class_id_format',
        default='id',
        choices=('id', 'name'),
        description='What class_id of a detection holds: the decimal id of LabelInfo, or the name.',
    ),
    ParameterSpec(
        name='overlay_alpha', default=0.45, value_range=(0, 1), description="Weight of the mask's colours in overlay."
    ),
    ParameterSpec(
        name='overlay_max_rate_hz',
        default=0.0,
        value_range=(0, 1000),
        description='At most so many overlay and colour-mask pictures a second; 0 draws all.',
    ),
    ParameterSpec(
        name='diagnostics.expected_frequency',
        default=0.0,
        value_range=(0, 1000),
        description='Frames a second that the camera should send; fewer than 90 % is a warning; 0: not judged.',
    ),
    ParameterSpec(
        name='diagnostics.timeout_ms',
        default=2000.0,
        value_range=(0, 600_000),
        description='No frame for this long is an error, and so are frames that come but get no answer; 0: not judged.',
    ),
    ParameterSpec(
        name='diagnostics.max_allowed_processing_time_ms',
        default=0.0,
        value_range=(0, 60_000),
        description='Longer processing of a frame is a warning; 0: not judged.',
    ),
    ParameterSpec(
        name='diagnostics.max_acceptable_consecutive_delay_ms',
        default=5000.0,
        value_range=(0, 600_000),
        description='Too long processing that lasts this long is an error.',
    ),
    ParameterSpec(
        name='diagnostics.max_lost_share',
        default=0.1,
        value_range=(0, 1),
        description='Share of the frames that may be lost on their way to the node; more is a warning; 0: not judged.',
    ),
    ParameterSpec(
        name='diagnostics.max_unanswered_share',
        default=0.5,
        value_range=(0, 1),
        description='Share of the frames that reach the node and may stay without an answer, as when newer ones come '
        'before their turn; more is a warning; 0: not judged.',
    ),
    ParameterSpec(
        name='diagnostics.max_delay_ms',
        default=1000.0,
        value_range=(0, 600_000),
        description="Answers that go out later than this after their image's stamp (median) are a warning; "
        '0: not judged.',
    ),
    ParameterSpec(
        name='diagnostics.max_stamp_ahead_ms',
        default=100.0,
        value_range=(0, 600_000),
        description='Stamps farther in the future than this are a warning; 0: not judged. A simulated clock moves in '
        'steps, so do not go below these.',
    ),
)


def declare_parameters(node: Node) -> None:
    """Declare all parameters on a node; refused values raise rclpy's exceptions, which name parameter and reason."""
    node.declare_parameters('', [(spec.name, spec.default, spec.descriptor()) for spec in PARAMETERS])


def postprocess_config(node: Node) -> PostprocessConfig:
    """Which detections a node is to report."""
    score_threshold, nms_threshold, max_detections = (
        node.get_parameter(name).value for name in ('score_threshold', 'nms_threshold', 'max_detections')
    )
    return PostprocessConfig(
        score_threshold=score_threshold,
        nms_threshold=None if nms_threshold < 0 else nms_threshold,
        max_detections=max_detections or None,
    )


def camera_settings(node: Node) -> CameraSettings:
    """What of a node's parameters a running camera looks at."""
    names = ('class_id_format', 'overlay_alpha', 'overlay_max_rate_hz', 'max_image_age_ms')
    return CameraSettings(
        **{name: node.get_parameter(name).value for name in names},
        max_allowed_processing_time_ms=node.get_parameter('diagnostics.max_allowed_processing_time_ms').value,
    )


def health_limits(node: Node) -> Limits:
    """How strictly a node's health is judged."""
    return Limits(**{each.name: node.get_parameter(f'diagnostics.{each.name}').value for each in fields(Limits)})


def refusal(parameters: Sequence[Parameter]) -> str:
    """Why a set of new values cannot be taken, beyond types and ranges, which rclpy checks; empty if it can."""
    specs = {spec.name: spec for spec in PARAMETERS}
    for parameter in parameters:
        spec = specs.get(parameter.name)
        if spec and spec.choices and parameter.value not in spec.choices:
            return f'{spec.name} must be one of {", ".join(spec.choices)}; got {parameter.value!r}.'
    return ''


def parameter_table() -> str:
    """The parameters as a Markdown table."""
    rows = ['| parameter | default | values | changes | meaning |', '|---|---|---|---|---|']
    for spec in PARAMETERS:
        default = str(spec.default).lower() if isinstance(spec.default, bool) else repr(spec.default)
        values = ', '.join(spec.choices) or type(spec.default).__name__
        if spec.value_range:
            values += f' {spec.value_range[0]}..{spec.value_range[1]}'
        when = 'at start' if spec.fixed else 'any time'
        rows.append(f'| `{spec.name}` | `{default}` | {values} | {when} | {spec.description} |')
    return '\n'.join(rows) + '\n'


if __name__ == '__main__':
    print(parameter_table(), end='')
