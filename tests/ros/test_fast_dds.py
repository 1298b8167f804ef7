"""Room for large images: the profile that is in force, and what /dev/shm can hold."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from perception.resources import config_file
from perception.ros import fast_dds
from perception.ros.fast_dds import PROFILE_VARIABLES, room_warnings, segment_bytes

pytestmark = pytest.mark.ros

MIB = 2**20


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Fast DDS up to Jazzy with nothing set, and a roomy /dev/shm."""
    for variable in (*PROFILE_VARIABLES, 'FASTDDS_BUILTIN_TRANSPORTS'):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fast_dds, 'is_fast_dds', lambda: True)
    monkeypatch.setattr(fast_dds, '_version', lambda: 0)
    set_free(monkeypatch, 8192)


def set_free(monkeypatch: pytest.MonkeyPatch, mib: float) -> None:
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: SimpleNamespace(free=int(mib * MIB)))


def profile(folder: Path, transports: str, name: str = 'profile.xml', builtin: str = 'false') -> Path:
    path = folder / name
    path.write_text(
        '<profiles xmlns="http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles"><transport_descriptors>'
        f'{transports}</transport_descriptors><participant profile_name="p" is_default_profile="true"><rtps>'
        f'<useBuiltinTransports>{builtin}</useBuiltinTransports></rtps></participant></profiles>'
    )
    return path


def transport(kind: str, segment: str = '') -> str:
    size = f'<segment_size> {segment} </segment_size>' if segment else ''
    return f'<transport_descriptor><transport_id>a</transport_id><type>{kind}</type>{size}</transport_descriptor>'


def test_our_own_profile() -> None:
    assert segment_bytes(config_file('fastdds_large_images.xml')) == 64 * MIB


@pytest.mark.parametrize(
    ('free_mib', 'warned'),
    [(64.0, True), (64.9, True), (3.0, True), (80.0, False), (1024.0, False)],
    ids=['Docker', 'Docker with its files', 'full', 'enough', 'plenty'],
)
def test_free_space_is_held_against_the_segment(monkeypatch: pytest.MonkeyPatch, free_mib: float, warned: bool) -> None:
    monkeypatch.setenv(PROFILE_VARIABLES[0], str(config_file('fastdds_large_images.xml')))
    set_free(monkeypatch, free_mib)
    said = room_warnings()
    assert len(said) == warned
    if said:
        assert said[0].startswith(f'/dev/shm has {free_mib:.0f} MiB free, and ')
        assert 'asks for a segment of 64 MiB in each process' in said[0]
        assert '--shm-size' in said[0]


def test_no_shared_memory_at_all_is_no_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(fast_dds, 'is_fast_dds', lambda: True)
    monkeypatch.setattr(fast_dds, 'SHARED_MEMORY', tmp_path / 'missing')
    monkeypatch.setattr(fast_dds, '_version', lambda: 0)
    monkeypatch.setenv(PROFILE_VARIABLES[0], str(config_file('fastdds_large_images.xml')))
    assert '/missing has 0 MiB free' in room_warnings()[0]


def test_a_variable_that_leads_nowhere_does_not_silence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert room_warnings()[0].startswith('FASTRTPS_DEFAULT_PROFILES_FILE is not set: ')
    monkeypatch.setenv(PROFILE_VARIABLES[0], '')
    assert room_warnings()[0].startswith('FASTRTPS_DEFAULT_PROFILES_FILE is not set: ')
    for nowhere in (tmp_path / 'missing.xml', tmp_path):
        monkeypatch.setenv(PROFILE_VARIABLES[0], str(nowhere))
        (said,) = room_warnings()
        assert said.startswith(f'FASTRTPS_DEFAULT_PROFILES_FILE names {nowhere}, and there is no such file: ')
        assert 'config/fastdds_large_images.xml' in said


def test_only_the_variable_that_this_version_reads_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROFILE_VARIABLES[1], str(config_file('fastdds_large_images.xml')))
    assert room_warnings()[0].startswith('FASTRTPS_DEFAULT_PROFILES_FILE is not set: ')
    monkeypatch.setattr(fast_dds, '_version', lambda: 1)
    assert room_warnings() == []


@pytest.mark.parametrize(
    ('transports', 'builtin', 'said'),
    [
        (transport('SHM', str(16 * MIB)), 'false', ''),
        (transport('UDPv4'), 'false', ''),  # without shared memory, by choice
        (transport('UDPv4'), 'true', 'makes no room for images: its shared-memory segment has 512 KiB'),
        (transport('SHM'), 'false', 'makes no room for images: its shared-memory segment has 512 KiB'),
        (transport('SHM', '262144'), 'false', 'makes no room for images: its shared-memory segment has 256 KiB'),
        (transport('SHM', 'much'), 'false', 'cannot be read (invalid literal'),
        (transport('SHM', str(16 * 1024 * MIB)), 'false', 'asks for a segment of 16384 MiB'),
        ('<', 'false', 'cannot be read (not well-formed'),
    ],
)
def test_profiles_of_ones_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, transports: str, builtin: str, said: str
) -> None:
    monkeypatch.setenv(PROFILE_VARIABLES[0], str(profile(tmp_path, transports, builtin=builtin)))
    warnings = room_warnings()
    assert len(warnings) == bool(said)
    assert said in ''.join(warnings)


def test_other_ways_to_make_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv('FASTDDS_BUILTIN_TRANSPORTS', 'LARGE_DATA?max_msg_size=1MB')
    assert room_warnings() == []
    monkeypatch.setenv('FASTDDS_BUILTIN_TRANSPORTS', 'DEFAULT')
    assert len(room_warnings()) == 1
    profile(tmp_path, transport('SHM', str(16 * MIB)), name='DEFAULT_FASTRTPS_PROFILES.xml')
    assert room_warnings() == []


def test_another_middleware_needs_none_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_dds, 'is_fast_dds', lambda: False)
    assert room_warnings() == []
    assert 'profile' not in fast_dds.loss_advice()
