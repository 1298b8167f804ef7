"""What a report rests on: the bytes of recording and checkpoint, the settings, the versions; and times: the machine."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import perception
from perception.bag.frames import is_bag, list_images
from perception.bag.recording import content_files

LIBRARIES = (
    *('torch', 'torchvision', 'numpy', 'opencv-python-headless', 'opencv-python', 'simplejpeg', 'rosbags', 'mcap'),
    *('torchmetrics', 'openvino'),
)
_CHUNK_BYTES = 1 << 22


def hash_recording(path: Path, *, progress: bool = True) -> str:
    """SHA-256 over the names and the contents of a recording's files, in the order of their names.

    Of a folder, those count that frames come from: what else lies there, such as notes, changes no result.
    """
    files = content_files(path) if is_bag(path) else list_images(path) if path.is_dir() else [path]
    return hash_files(sorted(files), progress=progress)


def hash_files(files: Iterable[Path], *, progress: bool = True) -> str:
    """SHA-256 over the names and the contents of files."""
    files = list(files)
    digest = hashlib.sha256()
    total = sum(file.stat().st_size for file in files)
    with tqdm(
        total=total, unit='B', unit_scale=True, desc='hashing', leave=False, delay=1.0, disable=not progress
    ) as bar:
        for file in files:
            digest.update(file.name.encode())
            with file.open('rb') as content:
                while chunk := content.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    bar.update(len(chunk))
    return digest.hexdigest()


def versions(libraries: Sequence[str] = LIBRARIES) -> dict[str, str]:
    """Versions of this package and of the libraries that results depend on, where they are installed."""
    found = {'perception': perception.__version__}
    for name in libraries:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def describe_machine(device: str) -> str:
    """What times hang on, whatever the model: the processor, how many cores we may use, and the GPU if it is one.

    Args:
        device: Where the network runs.
    """
    parts = [_processor(), f'{len(os.sched_getaffinity(0))} cores']
    if device.startswith('cuda'):
        parts.append(torch.cuda.get_device_name(device))
    return ', '.join(parts)


def _processor() -> str:
    """The name of the board, where Linux knows one, as of a Jetson; else that of the processor."""
    with suppress(OSError):
        return Path('/proc/device-tree/model').read_text(encoding='utf-8').strip('\0\n ')
    with suppress(OSError):
        named = re.search(r'^model name\s*: (.+)$', Path('/proc/cpuinfo').read_text(encoding='utf-8'), re.MULTILINE)
        if named:
            return named.group(1)
    return platform.processor() or platform.machine()


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What changed, for people: each entry with both its values."""
    first, second = _flat(before), _flat(now)
    changed = [key for key in sorted({*first, *second}) if first.get(key) != second.get(key)]
    return ', '.join(f'{key} ({first.get(key)}, now {second.get(key)})' for key in changed)


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= {f'{key} {name}': part for name, part in value.items()} if isinstance(value, Mapping) else {key: value}
    return flat
