"""MCAP files as every writer may write them, and what is left of damaged ones."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from mcap.writer import CompressionType, IndexType, Writer

from perception.bag.recording import open_recording
from perception.bag.storage import CutShortError, Message, Topic
from perception.bag.storage.mcap_file import McapFile
from perception.errors import RecordingError

COUNT = 12


def write_mcap(path: Path, order: Sequence[int] = range(COUNT), prepare: Any = None, **options: Any) -> None:
    """Two topics in turn, each message a millisecond and a number; ``order`` is that in which they are written."""
    with path.open('wb') as file:
        writer = Writer(file, chunk_size=200, **options)
        writer.start(profile='ros2')
        channels = [add_channel(writer, f'/{name}', f'pkg/msg/{name.title()}') for name in ('odd', 'even')]
        if prepare is not None:
            prepare(writer)
        for number in order:
            writer.add_message(channels[number % 2], number * 10**6, bytes([number]) * 40, number * 10**6)
        writer.finish()


def add_channel(writer: Writer, topic: str, type_name: str, encoding: str = 'ros2msg', messages: str = 'cdr') -> int:
    schema = writer.register_schema(type_name, encoding, b'')
    return writer.register_channel(topic, messages, schema)


def read(path: Path, *names: str) -> list[Message]:
    storage = McapFile(path)
    try:
        return list(storage.messages([topic for topic in storage.topics if topic.name in names]))
    finally:
        storage.close()


def numbers(messages: Sequence[Message]) -> list[int]:
    for message in messages:
        assert message.received_ns == message.data[0] * 10**6
        assert len(message.data) == 40
    return [message.data[0] for message in messages]


def writer_options() -> Iterator[dict[str, Any]]:
    """All combinations of what the library's writer can be told."""
    indexes = [IndexType.NONE, IndexType.CHUNK, IndexType.MESSAGE, IndexType.CHUNK | IndexType.MESSAGE]
    switches = ('repeat_channels', 'repeat_schemas', 'use_statistics', 'use_summary_offsets')
    for values in itertools.product((True, False), repeat=len(switches)):
        how = dict(zip(switches, values, strict=True))
        for index in indexes:
            for compression in CompressionType:
                yield {**how, 'index_types': index, 'compression': compression, 'use_chunking': True}
        for index in (IndexType.NONE, IndexType.ALL):
            yield {**how, 'index_types': index, 'use_chunking': False}


def test_every_combination_of_a_writers_options_is_read(tmp_path: Path) -> None:
    topics = (Topic(name='/odd', type='pkg/msg/Odd'), Topic(name='/even', type='pkg/msg/Even'))
    tried = 0
    for tried, options in enumerate(writer_options(), 1):
        for order in (range(COUNT), (1, 0, 5, 2, 11, 3, 4, 10, 7, 6, 9, 8)):
            path = tmp_path / f'{tried}_{order[0]}.mcap'
            write_mcap(path, order, **options)
            storage = McapFile(path)
            assert (storage.topics, [topic.count for topic in storage.topics]) == (topics, [6, 6]), options
            assert numbers(list(storage.messages(topics))) == list(range(COUNT)), options
            assert numbers(list(storage.messages(topics[:1]))) == list(range(0, COUNT, 2)), options
            assert not list(storage.messages(())), options
            storage.close()
    assert tried == 224


def test_an_encoding_that_only_the_schema_names_is_taken_from_it(tmp_path: Path) -> None:
    def more(writer: Writer) -> None:
        add_channel(writer, '/old', 'sensor_msgs/Image', 'ros1msg', '')
        add_channel(writer, '/new', 'sensor_msgs/msg/Image', 'ros2idl', '')
        add_channel(writer, '/page', 'foxglove.RawImage', 'protobuf', 'protobuf')
        writer.register_channel('/bare', 'json', 0)

    write_mcap(tmp_path / 'drive.mcap', prepare=more)
    found = {topic.name: (topic.type, topic.encoding) for topic in McapFile(tmp_path / 'drive.mcap').topics}
    assert {name: found[name] for name in ('/old', '/new', '/page', '/bare')} == {
        '/old': ('sensor_msgs/msg/Image', 'ros1'),
        '/new': ('sensor_msgs/msg/Image', 'cdr'),
        '/page': ('foxglove.RawImage', 'protobuf'),
        '/bare': ('', 'json'),
    }


def test_several_writers_on_one_topic_are_one_topic(tmp_path: Path) -> None:
    with (tmp_path / 'drive.mcap').open('wb') as file:
        writer = Writer(file)
        writer.start()
        schema = writer.register_schema('pkg/msg/Odd', 'ros2msg', b'')
        for number in range(4):
            channel = writer.register_channel('/odd', 'cdr', schema, {'callerid': f'/node_{number}'})
            writer.add_message(channel, number * 10**6, bytes([number]) * 40, 0)
        writer.finish()
    (topic,) = McapFile(tmp_path / 'drive.mcap').topics
    assert topic.count == 4
    assert numbers(read(tmp_path / 'drive.mcap', '/odd')) == [0, 1, 2, 3]


def record(opcode: int, content: bytes) -> bytes:
    return struct.pack('<BQ', opcode, len(content)) + content


def split_records(path: Path) -> list[bytes]:
    """The records of a file, its magic at both ends left out."""
    content, position, records = path.read_bytes(), 8, []
    while position < len(content) - 8:
        length = struct.unpack_from('<Q', content, position + 1)[0] + 9
        records.append(content[position : position + length])
        position += length
    return records


def put_together(path: Path, records: Sequence[bytes], end: bytes = b'\x89MCAP0\r\n') -> None:
    path.write_bytes(b'\x89MCAP0\r\n' + b''.join(records) + end)


DATA_END, CHUNK = 0x0F, 0x06


def test_records_of_others_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / 'drive.mcap'
    write_mcap(path, use_chunking=False)
    records = split_records(path)
    put_together(path, [part for each in records for part in (each, record(0x90, b'private'))])
    assert numbers(read(path, '/odd', '/even')) == list(range(COUNT))


def test_all_in_front_of_damage_is_read_and_the_damage_said(tmp_path: Path) -> None:
    path = tmp_path / 'drive.mcap'
    write_mcap(path, index_types=IndexType.NONE, use_statistics=False, compression=CompressionType.ZSTD)
    records = split_records(path)
    third = [place for place, each in enumerate(records) if each[0] == CHUNK][2]
    records[third] = records[third][:-20] + bytes(20)
    put_together(path, records)
    storage = McapFile(path)
    found = []
    with pytest.raises(RecordingError, match=r'near byte .* messages that are whole in front of it were read'):
        found.extend(storage.messages(storage.topics))
    assert numbers(found) == list(range(len(found)))
    assert 4 <= len(found) < COUNT


def test_packing_of_a_kind_that_nobody_knows_is_named(tmp_path: Path) -> None:
    path = tmp_path / 'drive.mcap'
    write_mcap(path, compression=CompressionType.ZSTD)
    path.write_bytes(path.read_bytes().replace(b'zstd', b'brot'))
    with (
        open_recording(path) as recording,
        pytest.raises(RecordingError, match=r"packed by 'brot'; expected zstd, lz4 or none"),
    ):
        list(recording.messages(recording.topics))


@pytest.mark.parametrize('change', [lambda at: at[:-30], lambda at: at[:-8] + bytes(8)], ids=['cut', 'zeros'])
def test_a_lost_index_loses_no_message(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    path = tmp_path / 'drive.mcap'
    write_mcap(path)
    path.write_bytes(change(path.read_bytes()))
    assert numbers(read(path, '/odd', '/even')) == list(range(COUNT))


def test_an_index_that_makes_no_sense_is_done_without(tmp_path: Path) -> None:
    path = tmp_path / 'drive.mcap'
    write_mcap(path)
    records = split_records(path)
    end = [each[0] for each in records].index(DATA_END)
    put_together(
        path, [*records[: end + 1], *(record(each[0], b'\xff' * (len(each) - 9)) for each in records[end + 1 :])]
    )
    assert numbers(read(path, '/odd', '/even')) == list(range(COUNT))


def test_without_its_last_chunk_a_file_was_cut_short(tmp_path: Path) -> None:
    path = tmp_path / 'drive.mcap'
    write_mcap(path)
    records = split_records(path)
    last = [place for place, each in enumerate(records) if each[0] == CHUNK][-1]
    put_together(path, records[:last], end=b'')
    storage = McapFile(path)
    found = []
    with pytest.raises(CutShortError, match='was cut short'):
        found.extend(storage.messages(storage.topics))
    assert numbers(found) == list(range(len(found)))
    assert found
