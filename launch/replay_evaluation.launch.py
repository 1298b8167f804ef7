"""A recording through the running node, judged: `ros2 launch perception replay_evaluation.launch.py bag:=DRIVE`.

Ends when the recording does, or the node; `ros2 launch` returns 1 where a threshold is missed or the run failed.
Arguments: `ros2 launch perception replay_evaluation.launch.py --show-args`.
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
)
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

ARGUMENTS = {
    'bag': (None, 'The recording: a bag, a video or a folder of images.'),
    'output': ('live_replay', 'Folder for summary.json, report.json and report.html; an earlier report is replaced.'),
    'namespace': ('camera', 'Namespace of the node.'),
    'input_image_topic': ('image', 'Where the node listens and the recording is sent, as of camera_pipeline.'),
    'topic': ('', 'Camera topic of the bag, where it has several.'),
    'truth': (
        '',
        'topics, none, a folder in CamVid, Cityscapes or COCO layout, or a COCO file. Empty: topics if there are some.',
    ),
    'truth_split': ('', 'Split of that folder.'),
    'start_timeout': ('180', 'Seconds that the node may take until it is active.'),
    'speed': ('1.0', '1: at the pace of the recording.'),
    'frames': ('0', 'Stop after so many; 0: all.'),
    'min_mean_iou': ('', 'Threshold, 0 to 1. Empty: none.'),
    'min_ap50': ('', 'Threshold, 0 to 1. Empty: none.'),
    'max_latency_p95_ms': ('', 'Threshold. Empty: none.'),
    'max_lost_share': (
        '',
        'Threshold, 0 to 1, of the frames sent: those without a full answer, dropped by the node or lost on the way. '
        'Empty: none.',
    ),
}
INPUT = 'input_image_topic'
PASSED_ON = (
    *('output', 'topic', 'truth', 'truth_split', 'start_timeout', 'speed', 'frames'),
    *('min_mean_iou', 'min_ap50', 'max_latency_p95_ms', 'max_lost_share'),
)


def evaluator(context: LaunchContext) -> list[Node | RegisterEventHandler]:
    """The evaluator, and the end of the launch with it; a function, because empty arguments are not passed on."""
    values = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    # A gate is run again and again, and must not fail for having run before.
    arguments = [values['bag'], '--node', f'/{values["namespace"].strip("/")}', '--overwrite']
    for name in PASSED_ON:
        if values[name]:
            arguments += [f'--{name.replace("_", "-")}', values[name]]
    node = Node(
        package='perception',
        executable='replay_evaluator',
        output='screen',
        emulate_tty=True,
        arguments=arguments,
        # It sends where the node listens: the same remappings as the node has.
        remappings=[('image', values[INPUT]), ('image/compressed', f'{values[INPUT]}/compressed')],
        # Stopped, it still scores what it has and writes the report.
        sigterm_timeout='20',
        sigkill_timeout='120',
    )
    return [RegisterEventHandler(OnProcessExit(target_action=node, on_exit=end_launch)), node]


def end_launch(event: ProcessExited, context: LaunchContext) -> Shutdown | None:
    """Shut the node down, too; an evaluator that failed, or was stopped, fails the launch."""
    if event.returncode:
        # Shuts down, too, and makes `ros2 launch` return 1; with a Shutdown as well there would be two.
        raise RuntimeError(
            f'replay_evaluator returned {event.returncode} (3: a threshold is missed, 1: the run failed, 130: it was '
            'stopped); see above'
        )
    return None if context.is_shutdown else Shutdown(reason='the replay has ended')


def generate_launch_description() -> LaunchDescription:
    camera = PathJoinSubstitution([FindPackageShare('perception'), 'launch', 'camera_pipeline.launch.py'])
    declared = [
        DeclareLaunchArgument(name, description=text)
        if default is None
        else DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    ]
    # Its other arguments, such as model_path, params_file and device, are taken from the command line.
    # Required: with a node that cannot start, or dies, there is nothing left to judge.
    node = IncludeLaunchDescription(PythonLaunchDescriptionSource(camera), launch_arguments=[('required', 'true')])
    return LaunchDescription([*declared, node, OpaqueFunction(function=evaluator)])
