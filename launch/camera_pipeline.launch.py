"""One camera through the joint network: `ros2 launch perception camera_pipeline.launch.py`.

Arguments: `ros2 launch perception camera_pipeline.launch.py --show-args`.
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution
from launch.utilities.type_utils import perform_typed_substitution
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterFile, ParameterValue
from launch_ros.substitutions import FindPackageShare

SHARE = FindPackageShare('perception')
ARGUMENTS = {
    'namespace': ('camera', 'Namespace of the camera; all topics stand in it.'),
    'params_file': (
        PathJoinSubstitution([SHARE, 'config', 'camera_pipeline.yaml']),
        'Parameters of the node; docs/ros_interface.md explains each.',
    ),
    'input_image_topic': ('image', "The camera driver's image topic, relative to the namespace or absolute."),
    'model_path': (
        '',
        "Checkpoint file, or a network's name: its weights that ship, else random ones. Empty: as in params_file.",
    ),
    'backend': ('', 'How the network is run. Empty: as in params_file.'),
    'device': ('', 'auto, cpu, cuda or cuda:N. Empty: as in params_file.'),
    'use_sim_time': ('', 'true: take the time from /clock. Empty: as in params_file.'),
    'autostart': ('', 'false: wait for lifecycle transitions. Empty: as in params_file.'),
    'use_respawn': ('false', 'Start the node again when it ends.'),
    'required': (
        'false',
        'true: the launch ends when the node does, and fails (exit code 1) when the node did. Instead of use_respawn, '
        'where systemd or a script is to know.',
    ),
    'log_level': ('info', 'debug, info, warn, error or fatal.'),
}
# The type keeps text that looks like a number or a boolean what it is.
PARAMETER_TYPES = {'model_path': str, 'backend': str, 'device': str, 'use_sim_time': bool, 'autostart': bool}


def camera_node(context: LaunchContext) -> list[LifecycleNode | RegisterEventHandler]:
    """The node; a function, because only arguments that were given may overrule params_file."""
    argument = {name: LaunchConfiguration(name) for name in ARGUMENTS}
    required, respawn = (
        perform_typed_substitution(context, [argument[name]], bool) for name in ('required', 'use_respawn')
    )
    if required and respawn:
        raise RuntimeError(
            'use_respawn:=true: not with required:=true (as replay_evaluation has it); a node that comes back ends no '
            'launch'
        )
    given = {
        name: ParameterValue(argument[name], value_type=kind)
        for name, kind in PARAMETER_TYPES.items()
        if argument[name].perform(context)
    }
    node = LifecycleNode(
        package='perception',
        executable='camera_node',
        name='camera_node',
        namespace=argument['namespace'],
        output='screen',
        emulate_tty=True,
        respawn=respawn,
        respawn_delay=2.0,
        # With substitutions allowed, launch reads the file itself: a missing or broken one ends the launch.
        parameters=[ParameterFile(argument['params_file'], allow_substs=True), given],
        remappings=[
            ('image', argument['input_image_topic']),
            ('image/compressed', [argument['input_image_topic'], '/compressed']),
        ],
        # For all loggers: the name of the node's own one holds the namespace.
        ros_arguments=['--log-level', argument['log_level']],
    )
    # Registered first: a node that cannot be started may end before it would be.
    ending = RegisterEventHandler(OnProcessExit(target_action=node, on_exit=end_launch))
    return [ending, node] if required else [node]


def end_launch(event: ProcessExited, context: LaunchContext) -> Shutdown | None:
    """End with the node, as a failure if it failed. What happens to it while all is shut down is no news."""
    if context.is_shutdown:
        return None
    if event.returncode:
        # Shuts down, too, and makes `ros2 launch` return 1; with a Shutdown as well there would be two.
        raise RuntimeError(f'camera_node ended with exit code {event.returncode}; its log above may say why')
    return Shutdown(reason='camera_node has ended')


def generate_launch_description() -> LaunchDescription:
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    ]
    # Without it Fast DDS loses best-effort images of a megabyte and more. A profile of the user's own is kept.
    shipped = PathJoinSubstitution([SHARE, 'config', 'fastdds_large_images.xml'])
    profiles = [
        SetEnvironmentVariable(variable, EnvironmentVariable(variable, default_value=shipped))
        for variable in ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')  # up to Jazzy, and since
    ]
    return LaunchDescription([*declared, *profiles, OpaqueFunction(function=camera_node)])
