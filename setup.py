"""The perception package: built by colcon (ament_python) on a robot, by pip everywhere else."""

from glob import glob

from setuptools import find_packages, setup

PACKAGE = 'perception'

setup(
    name=PACKAGE,
    version='0.1.0',
    description='One network that detects and segments, in a ROS 2 node.',
    license='Apache-2.0',
    python_requires='>=3.10',
    package_dir={'': 'perception_ws'},
    packages=find_packages('perception_ws', include=[PACKAGE, f'{PACKAGE}.*']),
    package_data={PACKAGE: ['samples/*/*', 'weights/*', 'truth/tables/*/*.csv', 'labels/*.yaml']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{PACKAGE}']),
        (f'share/{PACKAGE}', ['package.xml']),
        (f'share/{PACKAGE}/launch', glob('launch/*.launch.py')),
        (f'share/{PACKAGE}/config', glob('config/*.yaml') + glob('config/*.xml')),
    ],
    # The versions that are known to work together stand in requirements/.
    install_requires=[
        'torch>=2.4',
        'torchvision>=0.19',
        'numpy>=1.24',
        'opencv-python-headless>=4.6',
        'safetensors>=0.4',
        'rosbags>=0.10',
        'mcap>=1.2',
        'zstandard',
        'simplejpeg>=1.7',
        'pillow>=9.0',
        'PyYAML',
        'tqdm',
        'tabulate',
        'av',
    ],
    extras_require={
        'evaluation': ['torchmetrics>=1.4', 'faster-coco-eval>=1.6', 'cityscapesscripts>=2.2'],
        'fleet': ['ray>=2.40'],
        'openvino': ['openvino>=2025.0'],
    },
    entry_points={
        'console_scripts': [
            'perception = perception.cli:main',
            'camera_node = perception.ros.executables:camera_node',
            'replay_evaluation = perception.cli:replay_evaluation',
            'replay_evaluator = perception.cli:replay_evaluator',
        ],
    },
)
