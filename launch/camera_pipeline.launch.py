"""One camera through the joint network: `ros2 launch perception camera_pipeline.launch.py`.

Arguments: `ros2 launch perception camera_pipeline.launch.py --show-args`.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

SHARE = FindPackageShare('perception')
ARGUMENTS = {
    'namespace': ('camera', 'Namespace of the camera; all topics stand in it.'),
    'params_file': (
        PathJoinSubstitution([SHARE, 'config', 'camera_pipeline.yaml']),
        'Parameters of the node; docs/ros_interface.md explains each.',
    ),
    'input_image_topic': ('image', "The camera driver's image topic, relative to the namespace or absolute."),
    'model_path': ('', 'Checkpoint file; empty: the weights that ship with the package.'),
    'backend': ('eager', 'How the network is run.'),
    'device': ('auto', 'auto, cpu, cuda or cuda:N.'),
    'use_sim_time': ('false', 'Take the time from /clock.'),
    'autostart': ('true', 'Configure and activate the node at once.'),
    'use_respawn': ('false', 'Start the node again when it ends.'),
    'log_level': ('info', 'Log level of the node.'),
}


def generate_launch_description() -> LaunchDescription:
    argument = {name: LaunchConfiguration(name) for name in ARGUMENTS}
    camera_node = LifecycleNode(
        package='perception',
        executable='camera_node',
        name='camera_node',
        namespace=argument['namespace'],
        output='screen',
        emulate_tty=True,
        respawn=argument['use_respawn'],
        respawn_delay=2.0,
        parameters=[
            argument['params_file'],
            {
                # Text that looks like a number or a boolean must stay text.
                'model_path': ParameterValue(argument['model_path'], value_type=str),
                'backend': ParameterValue(argument['backend'], value_type=str),
                'device': ParameterValue(argument['device'], value_type=str),
                'autostart': ParameterValue(argument['autostart'], value_type=bool),
                'use_sim_time': ParameterValue(argument['use_sim_time'], value_type=bool),
            },
        ],
        remappings=[
            ('image', argument['input_image_topic']),
            ('image/compressed', [argument['input_image_topic'], '/compressed']),
        ],
        # For all loggers: the node's own one is named after its namespace too.
        ros_arguments=['--log-level', argument['log_level']],
    )
    # Without it Fast DDS loses best-effort images of a megabyte and more. A profile of the user's own is kept.
    profile = SetEnvironmentVariable(
        'FASTRTPS_DEFAULT_PROFILES_FILE',
        EnvironmentVariable(
            'FASTRTPS_DEFAULT_PROFILES_FILE',
            default_value=PathJoinSubstitution([SHARE, 'config', 'fastdds_large_images.xml']),
        ),
    )
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, profile, camera_node])
