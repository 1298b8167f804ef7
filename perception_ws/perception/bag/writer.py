"""Writing MCAP bags without ROS, which ``ros2 bag play`` and Foxglove open.

Message definitions and type hashes are those of ROS 2 Jazzy and of vision_msgs; other types are registered from their
definition text.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from perception.bag.vision_messages import VISION_MESSAGES
from perception.errors import RecordingError, nearest
from perception.image_messages import encode_image_fields, encode_jpeg_fields, encode_png_fields
from perception.interfaces import StampedImage

_TOPIC = re.compile(r'(/[A-Za-z_][A-Za-z0-9_]*)+')
_UNLIMITED = QosTime(9223372036, 854775807)  # how ROS 2 spells an infinite duration


class BagWriter:
    """A new bag; use it as a context manager. The bag is whole or absent: an exception inside removes it.

    Args:
        output: The folder to create.
        definitions: Text of the .msg files of further types, by name: ``{'vision_msgs/msg/LabelInfo': '...'}``.
    """

    def __init__(self, output: Path | str, *, definitions: Mapping[str, str] | None = None) -> None:
        self.path = Path(output)
        self._typestore = get_typestore(Stores.ROS2_JAZZY)
        for name, text in {**VISION_MESSAGES, **(definitions or {})}.items():
            self._typestore.register(get_types_from_msg(text, name))
        self._connections: dict[str, Connection] = {}
        self._writer: Writer | None = None

    def __enter__(self) -> BagWriter:
        """Create the folder.

        Raises:
            RecordingError: If something is there already; nothing is ever overwritten.
        """
        try:
            writer = Writer(self.path, version=Writer.VERSION_LATEST, storage_plugin=StoragePlugin.MCAP)
            writer.open()
        except (WriterError, OSError) as error:
            raise RecordingError(
                f'Cannot create the bag {self.path} ({str(error).rstrip(".")}). Choose another name or delete it first.'
            ) from error
        self._writer = writer
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._writer is not None
        writer, self._writer = self._writer, None
        try:
            writer.__exit__(kind, error, traceback)
        except BaseException:
            shutil.rmtree(self.path, ignore_errors=True)
            raise
        if error is not None:
            shutil.rmtree(self.path, ignore_errors=True)

    def create(self, msgtype: str, **fields: Any) -> Any:
        """Build a message of a type for ``write``; numeric arrays must be numpy arrays."""
        return self._message_type(msgtype)(**fields)

    def create_header(self, stamp_ns: int, frame_id: str = '') -> Any:
        """Build a std_msgs/Header."""
        sec, nanosec = divmod(stamp_ns, 1_000_000_000)
        stamp = self.create('builtin_interfaces/msg/Time', sec=sec, nanosec=nanosec)
        return self.create('std_msgs/msg/Header', stamp=stamp, frame_id=frame_id)

    def add_topic(self, topic: str, msgtype: str, *, latched: bool = False) -> None:
        """Announce a topic; ``write`` does it by itself for topics that are not latched.

        Args:
            topic: Absolute name.
            msgtype: Such as ``sensor_msgs/msg/Image``.
            latched: Record it as transient local, so that a player offers it to late subscribers.

        Raises:
            RecordingError: If the name is none that ROS takes, the topic exists with another type, or nobody
                registered the type.
        """
        if not _TOPIC.fullmatch(topic):
            raise RecordingError(
                f'{topic!r} is no topic name. Give words of letters, digits and _, each after a slash and no digit '
                'in front, such as /camera/image/compressed.'
            )
        known = self._connections.get(topic)
        if known is not None:
            if known.msgtype != msgtype:
                raise RecordingError(f'Topic {topic} of {self.path} holds {known.msgtype}, not {msgtype}.')
            return
        self._message_type(msgtype)
        self._connections[topic] = self._open_writer().add_connection(
            topic, msgtype, typestore=self._typestore, offered_qos_profiles=[_offered_qos(latched)]
        )

    def write(self, topic: str, msgtype: str, message: Any, stamp_ns: int) -> None:
        """Append a message (made by ``create``); ``stamp_ns`` is the time at which a player sends it.

        Raises:
            RecordingError: As ``add_topic``.
        """
        self.add_topic(topic, msgtype)
        data = self._typestore.serialize_cdr(message, msgtype)
        self._open_writer().write(self._connections[topic], stamp_ns, data)

    def write_image(self, topic: str, frame: StampedImage) -> None:
        """Append a frame as an uncompressed rgb8 sensor_msgs/Image."""
        self._write_frame(topic, 'sensor_msgs/msg/Image', frame, encode_image_fields(frame.image_rgb))

    def write_jpeg(self, topic: str, frame: StampedImage, quality: int = 90) -> None:
        """Append a frame as a JPEG sensor_msgs/CompressedImage."""
        self._write_frame(topic, 'sensor_msgs/msg/CompressedImage', frame, encode_jpeg_fields(frame.image_rgb, quality))

    def write_png(self, topic: str, frame: StampedImage) -> None:
        """Append a frame as a lossless PNG sensor_msgs/CompressedImage."""
        self._write_frame(topic, 'sensor_msgs/msg/CompressedImage', frame, encode_png_fields(frame.image_rgb))

    def write_mask(self, topic: str, mask_png: bytes, stamp_ns: int, frame_id: str = '') -> None:
        """Append a mask of class ids, a one-channel PNG, as sensor_msgs/CompressedImage."""
        frame = StampedImage(image_rgb=np.empty(0), stamp_ns=stamp_ns, frame_id=frame_id)
        fields = {'format': 'mono8; png compressed ', 'data': mask_png}
        self._write_frame(topic, 'sensor_msgs/msg/CompressedImage', frame, fields)

    def _write_frame(self, topic: str, msgtype: str, frame: StampedImage, fields: Mapping[str, Any]) -> None:
        header = self.create_header(frame.stamp_ns, frame.frame_id)
        data = np.frombuffer(fields['data'], np.uint8)
        self.write(topic, msgtype, self.create(msgtype, header=header, **{**fields, 'data': data}), frame.stamp_ns)

    def _message_type(self, msgtype: str) -> Any:
        if msgtype not in self._typestore.types:
            package = msgtype.split('/')[0]
            hint = nearest(msgtype, [name for name in self._typestore.types if name.startswith(f'{package}/')])
            raise RecordingError(f'Message type {msgtype!r} is not registered: pass its definition; {hint}')
        return self._typestore.types[msgtype]

    def _open_writer(self) -> Writer:
        if self._writer is None:
            raise RecordingError(f'The bag {self.path} is not open. Write inside `with BagWriter(...) as writer:`.')
        return self._writer


def _offered_qos(latched: bool) -> Qos:
    return Qos(
        QosHistory.KEEP_LAST,
        1 if latched else 10,
        QosReliability.RELIABLE,
        QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        _UNLIMITED,
        _UNLIMITED,
        QosLiveliness.AUTOMATIC,
        _UNLIMITED,
        False,
    )
