"""Room for large images in Fast DDS: which profile is in force, and whether /dev/shm can hold what it asks for.

By its defaults a shared-memory segment is smaller than a camera frame, and best-effort images are lost without a word.
config/fastdds_large_images.xml makes room; where the segment cannot be had, Fast DDS says so in a line of its own and
goes on without shared memory.
"""

import os
import shutil
from pathlib import Path
from xml.etree import ElementTree

import rclpy

PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
"""Where Fast DDS finds its profile: the name up to Jazzy, and the one since."""
DEFAULT_PROFILES = ('DEFAULT_FASTRTPS_PROFILES.xml', 'DEFAULT_FASTDDS_PROFILES.xml')
"""What it reads in the working directory, by version."""
SHARED_MEMORY = Path('/dev/shm')
DEFAULT_SEGMENT = 512 * 1024
OVERHEAD = 2 * 1024 * 1024
"""Beside its segment, a process has buffers for its ports there, and so have other processes."""
SHARED_MEMORY_ADVICE = 'in Docker by --shm-size=1g or --ipc=host'


def is_fast_dds() -> bool:
    return 'fastrtps' in rclpy.get_rmw_implementation_identifier()


def loss_advice() -> str:
    """What to do where the middleware loses images."""
    if not is_fast_dds():
        return 'give the middleware larger buffers, or send compressed images (image_transport)'
    return (
        f"start the camera driver's process, too, with {PROFILE_VARIABLES[_version()]} at this package's "
        f'config/fastdds_large_images.xml, and give /dev/shm room, {SHARED_MEMORY_ADVICE}; or send compressed images '
        '(image_transport)'
    )


def room_warnings() -> list[str]:
    """Whether large images will arrive, to be asked before this process takes its own segment: at most one warning."""
    if not is_fast_dds() or os.environ.get('FASTDDS_BUILTIN_TRANSPORTS', '').startswith('LARGE_DATA'):
        return []
    version = _version()
    variable, set_to = PROFILE_VARIABLES[version], os.environ.get(PROFILE_VARIABLES[version], '')
    remedy = (
        "by Fast DDS's defaults images over half a megabyte get lost. Point it at this package's "
        'config/fastdds_large_images.xml, here and for the camera driver.'
    )
    profile = Path(set_to or DEFAULT_PROFILES[version])
    if not set_to and not profile.is_file():
        return [f'{variable} is not set: {remedy}']
    if not profile.is_file():
        return [f'{variable} names {set_to}, and there is no such file: {remedy}']
    try:
        segment = segment_bytes(profile)
    except (OSError, ElementTree.ParseError, ValueError) as error:
        return [f'{profile}, the profile of Fast DDS, cannot be read ({error}): {remedy}']
    if segment is None:
        return []
    if segment <= DEFAULT_SEGMENT:
        return [
            f'{profile} makes no room for images: its shared-memory segment has {segment // 1024} KiB, and {remedy}'
        ]
    return _too_small_for(segment, profile)


def segment_bytes(profile: Path) -> int | None:
    """The shared-memory segment that a profile asks for in each process; None if it does without shared memory.

    Raises:
        OSError: If the file cannot be read.
        ElementTree.ParseError: If it is no XML.
        ValueError: If a size is no number.
    """
    texts: dict[str, list[ElementTree.Element]] = {}
    for element in ElementTree.parse(profile).iter():
        texts.setdefault(element.tag.rpartition('}')[2], []).append(element)
    sizes = [
        next((int(child.text or '') for child in descriptor if child.tag.endswith('segment_size')), DEFAULT_SEGMENT)
        for descriptor in texts.get('transport_descriptor', [])
        if any(child.tag.endswith('type') and (child.text or '').strip() == 'SHM' for child in descriptor)
    ]
    if sizes:
        return max(sizes)
    builtin = [(element.text or '').strip() for element in texts.get('useBuiltinTransports', [])]
    return None if 'false' in builtin else DEFAULT_SEGMENT


def _too_small_for(segment: int, profile: Path) -> list[str]:
    try:
        free = shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        free = 0
    if free >= segment + OVERHEAD:
        return []
    return [
        f'{SHARED_MEMORY} has {free / 2**20:.0f} MiB free, and {profile} asks for a segment of '
        f'{segment / 2**20:.0f} MiB in each process: Fast DDS goes on without shared memory and loses large images. '
        f'Give it room, {SHARED_MEMORY_ADVICE}, or a smaller segment_size that still holds a few frames.'
    ]


def _version() -> int:
    """Which of two names this process's Fast DDS reads: 0 up to Jazzy, 1 since."""
    try:
        loaded = Path('/proc/self/maps').read_text()
    except OSError:
        loaded = ''
    return 1 if 'libfastdds.so' in loaded else 0
