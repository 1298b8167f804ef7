"""Frames and bags that the tests of this room draw for themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rosbags import rosbag1
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from perception.image_messages import encode_image_fields, encode_jpeg_fields
from perception.interfaces import StampedImage

RAW = 'sensor_msgs/msg/Image'
JPEG = 'sensor_msgs/msg/CompressedImage'
FIRST_NS = 1_700_000_000_000_000_000


def draw_frame(index: int, height: int = 30, width: int = 41) -> StampedImage:
    """A smooth picture (JPEG keeps it) whose mean brightness tells its index; 10 Hz."""
    y, x = np.mgrid[:height, :width]
    image = np.stack((x, y, x + y), axis=-1) + 10 * (index % 16)
    return StampedImage(
        image_rgb=image.astype(np.uint8), stamp_ns=FIRST_NS + index * 100_000_000, frame_id='front', source='drawn'
    )


class DrawnBag:
    """Writes a bag with plain rosbags, so that the reader is not tested against the package's own writer."""

    def __init__(self, path: Path, storage: str) -> None:
        self.is_ros1 = storage == 'ros1'
        self.types = get_typestore(Stores.ROS1_NOETIC if self.is_ros1 else Stores.ROS2_JAZZY)
        self.writer: Any
        if self.is_ros1:
            self.writer = rosbag1.Writer(path)
        else:
            self.writer = Writer(path, version=9, storage_plugin=StoragePlugin[storage.upper()])
        self.connections: dict[str, Any] = {}

    def __enter__(self) -> DrawnBag:
        self.writer.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.close()

    def message(self, frame: StampedImage, msgtype: str, **changes: Any) -> Any:
        stamp_ns = changes.pop('header_stamp_ns', frame.stamp_ns)
        stamp = self.types.types['builtin_interfaces/msg/Time'](*divmod(stamp_ns, 10**9))
        sequence = {'seq': 0} if self.is_ros1 else {}
        header = self.types.types['std_msgs/msg/Header'](stamp=stamp, frame_id=frame.frame_id, **sequence)
        encode = encode_image_fields if msgtype == RAW else encode_jpeg_fields
        fields: dict[str, Any] = {**encode(frame.image_rgb), **changes}
        fields['data'] = np.frombuffer(fields['data'], np.uint8)
        return self.types.types[msgtype](header=header, **fields)

    def add(self, topic: str, msgtype: str, **how: Any) -> None:
        how = how or {'typestore': self.types}
        self.connections[topic] = self.writer.add_connection(topic, msgtype, **how)

    def write_bytes(self, topic: str, msgtype: str, data: bytes, stamp_ns: int) -> None:
        if topic not in self.connections:
            self.add(topic, msgtype)
        self.writer.write(self.connections[topic], stamp_ns, data)

    def write(self, topic: str, msgtype: str, frame: StampedImage, **changes: Any) -> None:
        message = self.message(frame, msgtype, **changes)
        serialize = self.types.serialize_ros1 if self.is_ros1 else self.types.serialize_cdr
        self.write_bytes(topic, msgtype, serialize(message, msgtype), frame.stamp_ns)
