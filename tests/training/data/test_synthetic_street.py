"""The drawn street: repeatable, in the Cityscapes layout, its truth consistent with itself and with geometry."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from perception.errors import ConfigError
from training.data.street.camera import Camera, clip_near
from training.data.street.labels import INSTANCE_LABELS, LABEL_IDS, base_label
from training.data.street.light import WEATHERS, draw_light
from training.data.street.painter import LabelledPolygon, Painter
from training.data.street.people import Walker, draw_clothes
from training.data.street.placement import Footprint, Motion, far_to_near
from training.data.street.scene import paint_objects
from training.data.street.sequence import build_scene
from training.data.street.traffic import Vehicle
from training.data.street.truth import paint_truth
from training.data.street.vehicles import draw_vehicle
from training.data.synthetic_street import StreetConfig, draw_street, main, plan_sequences, write_cityscapes

SMALL = StreetConfig(image_hw=(96, 192), frames=2, frame_rate_hz=2.0, seed=4)
CLASSES = {
    'road': ('road',),
    'sidewalk': ('sidewalk',),
    'building': ('building',),
    'fence': ('fence',),
    'pole': ('pole',),
    'traffic sign': ('traffic sign',),
    'vegetation': ('vegetation', 'terrain'),
    'sky': ('sky',),
    'person': ('person',),
    'rider/cycle': ('rider', 'bicycle', 'motorcycle'),
    'car/truck/bus': ('car', 'truck', 'bus'),
}


@pytest.fixture(scope='module')
def frames():
    return [frame for seed in range(3) for frame in draw_street(replace(SMALL, seed=seed))]


def test_frames_have_the_documented_shapes(frames):
    for frame in frames:
        assert (frame.image_rgb.shape, frame.image_rgb.dtype) == ((96, 192, 3), np.uint8)
        assert (frame.label_ids.shape, frame.label_ids.dtype) == ((96, 192), np.uint8)
        assert (frame.instance_ids.shape, frame.instance_ids.dtype) == ((96, 192), np.uint16)
        assert all(polygon.points_px.dtype == np.int32 for polygon in frame.polygons)
        assert all(polygon.points_px.shape[1:] == (2,) and len(polygon.points_px) >= 3 for polygon in frame.polygons)
    assert [frame.stamp_ns for frame in frames[:2]] == [0, 500_000_000]


def test_same_seed_draws_the_same_bytes():
    first, again = list(draw_street(SMALL)), list(draw_street(SMALL))
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one.image_rgb, other.image_rgb)
        assert np.array_equal(one.instance_ids, other.instance_ids)
    assert not np.array_equal(first[0].image_rgb, next(draw_street(replace(SMALL, seed=5))).image_rgb)
    assert not np.array_equal(first[0].label_ids, first[1].label_ids), 'nothing moved'


def test_frame_does_not_depend_on_the_frames_before():
    scene = build_scene(SMALL)
    later, _ = scene.draw(0.5, np.random.default_rng((SMALL.seed, 1, 1)))
    assert np.array_equal(later, list(draw_street(SMALL))[1].image_rgb)


def test_polygons_painted_in_order_give_the_masks(frames):
    for frame in frames:
        labels = np.zeros((96, 192), np.uint8)
        instances = np.zeros((96, 192), np.int32)
        numbers = dict.fromkeys(INSTANCE_LABELS, 0)
        for polygon in frame.polygons:
            label_id = LABEL_IDS[base_label(polygon.label)]
            instance_id = label_id
            if polygon.label in INSTANCE_LABELS:
                instance_id = 1000 * label_id + numbers[polygon.label]
                numbers[polygon.label] += 1
            cv2.fillPoly(labels, [polygon.points_px], label_id)
            cv2.fillPoly(instances, [polygon.points_px], instance_id)
        assert np.array_equal(labels, frame.label_ids)
        assert np.array_equal(instances, frame.instance_ids)


def test_instance_ids_agree_with_label_ids(frames):
    counted = [LABEL_IDS[name] for name in INSTANCE_LABELS]
    for frame in frames:
        is_instance = frame.instance_ids >= 1000
        assert np.array_equal(np.where(is_instance, frame.instance_ids // 1000, frame.instance_ids), frame.label_ids)
        assert np.isin(frame.label_ids[is_instance], counted).all()
        assert (frame.label_ids > 0).all(), 'every pixel is annotated'


def test_every_class_occurs():
    seen = set()
    for seed in range(8):
        for frame in draw_street(StreetConfig(image_hw=(128, 256), frames=1, seed=seed)):
            seen |= {label for polygon in frame.polygons for label in [base_label(polygon.label)]}
    missing = [name for name, labels in CLASSES.items() if not seen & set(labels)]
    assert not missing
    assert {'rider', 'bicycle'} <= seen


def test_road_lies_below_and_sky_above(frames):
    for frame in frames:
        rows = {name: np.nonzero(frame.label_ids == LABEL_IDS[name])[0] for name in ('road', 'sky')}
        assert rows['road'].mean() > 0.6 * 96
        if len(rows['sky']):
            assert rows['sky'].max() < rows['road'].max()
            assert rows['sky'].mean() < 0.5 * 96


def a_painter(**camera) -> Painter:
    rng = np.random.default_rng(0)
    defaults = {'image_hw': (256, 512), 'focal_px': 500.0, 'height_m': 1.4, 'pitch_rad': 0.02}
    return Painter(Camera(**(defaults | camera)), draw_light(rng, 'overcast'))


def a_car(x_m: float, s_m: float, heading_rad: float = 0.0) -> Vehicle:
    body = draw_vehicle(np.random.default_rng(3), 'sedan', False)
    return Vehicle(body=body, motion=Motion(x_m=x_m, s_m=s_m, heading_rad=heading_rad))


def test_nearer_object_hides_the_farther_one_whatever_the_list_order():
    near, far = a_car(0.0, 10.0), a_car(1.8, 18.0)
    alone = a_painter()
    near_outline = paint_objects(alone, [near], 0.0)[0].points_px
    whole = np.zeros((256, 512), np.uint8)
    cv2.fillPoly(whole, [near_outline], 1)
    for objects in ([near, far], [far, near]):
        truth = paint_truth(paint_objects(a_painter(), objects, 0.0), (256, 512))
        assert [polygon.label for polygon in truth.polygons] == ['car', 'car']
        assert ((truth.instance_ids == 26001) == (whole == 1)).all(), 'the near car is whole'
        assert (truth.instance_ids == 26000).any(), 'the far car looks out beside it'


def test_hidden_object_has_no_polygon_and_takes_no_number():
    walker = Walker(
        motion=Motion(x_m=0.0, s_m=30.0), clothes=draw_clothes(np.random.default_rng(0)), scale=0.6, phase=0.0
    )
    truth = paint_truth(paint_objects(a_painter(), [walker, a_car(0.0, 9.0)], 0.0), (256, 512))
    assert [polygon.label for polygon in truth.polygons] == ['car']


@pytest.mark.parametrize('s_m', [8.0, 15.0, 30.0])
@pytest.mark.parametrize('x_m', [-2.0, 1.5])
@pytest.mark.parametrize('curvature', [0.0, 0.003])
def test_objects_stand_on_the_ground_at_their_size(s_m, x_m, curvature):
    painter = a_painter(curvature_per_m=curvature)
    rng = np.random.default_rng(1)
    walker = Walker(motion=Motion(x_m=x_m, s_m=s_m), clothes=draw_clothes(rng), scale=1.0, phase=0.3)
    (polygon,) = paint_objects(painter, [walker], 0.0)
    foot, head = painter.camera.project(np.array([[x_m, 0.0, s_m], [x_m, 1.75, s_m]]))
    columns, rows = polygon.points_px.T
    tall = foot[1] - head[1]
    assert abs(rows.max() + 1 - foot[1]) < 0.07 * tall + 1
    assert abs(rows.min() - head[1]) < 0.07 * tall + 1
    assert abs((columns.min() + columns.max()) / 2 - foot[0]) < 0.2 * tall


def test_car_fills_its_box_from_every_side():
    for heading in np.linspace(0, 2 * np.pi, 9):
        painter = a_painter()
        car = a_car(0.5, 14.0, float(heading))
        (polygon,) = paint_objects(painter, [car], 0.0)
        x0, x1, s0, s1, height = car.footprint(0.0)
        corners = np.array([(x, y, s) for x in (x0, x1) for y in (0, height) for s in (s0, s1)])
        expected = painter.camera.project(corners)
        low, high = expected.min(axis=0), expected.max(axis=0)
        drawn_low, drawn_high = polygon.points_px.min(axis=0), polygon.points_px.max(axis=0) + 1
        assert (drawn_low >= low - 6).all()  # mirrors stand out
        assert (drawn_high <= high + 6).all()
        assert ((drawn_high - drawn_low) > 0.7 * (high - low)).all()


def test_camera_sees_the_horizon_and_finds_the_ground_again():
    camera = Camera(
        image_hw=(120, 240), focal_px=200.0, pitch_rad=0.05, yaw_rad=0.1, x_m=1.0, s_m=7.0, curvature_per_m=0.002
    )
    far = Camera(image_hw=(120, 240), focal_px=200.0, pitch_rad=0.05).project(np.array([[0.0, 1.3, 1e6]]))
    assert far[0, 1] == pytest.approx(camera.horizon_px)
    first_row, x_m, s_m = camera.ground_below_horizon()
    assert x_m.shape == s_m.shape == (120 - first_row, 240)
    points = np.stack([x_m[-30, ::40], np.zeros(6), s_m[-30, ::40]], axis=1)
    pixels = camera.project(points)
    assert pixels[:, 0] == pytest.approx(np.arange(0, 240, 40) + 0.5, abs=0.01)
    assert pixels[:, 1] == pytest.approx(np.full(6, 90.5), abs=0.01)


def test_near_plane_cuts_polygons():
    square = np.array([(-1.0, 0, -2.0), (1, 0, -2), (1, 0, 2), (-1, 0, 2)])
    cut = clip_near(square, 0.5)
    assert cut[:, 2].min() == pytest.approx(0.5)
    assert cut[:, 2].max() == 2
    assert len(clip_near(square - (0, 0, 5.0))) == 0


def test_painting_order_follows_the_street():
    house = Footprint(8, 20, 10, 40, 10)  # beside the camera, long
    tree = Footprint(5, 5.5, 30, 30.5, 6)  # before the house, though its centre is farther
    behind = Footprint(9, 12, 41, 50, 8)
    assert far_to_near([tree, house, behind], 0.0, 0.0) == [2, 1, 0]
    bus, parked = Footprint(2, 4.5, 20, 32, 3), Footprint(6, 8, 21, 25, 1.5)
    assert far_to_near([bus, parked], 0.0, 0.0) == [1, 0], 'the bus hides the car parked beyond it'
    assert far_to_near([bus, parked], 10.0, 0.0) == [0, 1], 'seen from the other side it does not'


def test_groups_and_stuff_keep_the_plain_id():
    square = np.array([(2, 2), (20, 2), (20, 20), (2, 20)], np.int32)
    polygons = [
        LabelledPolygon(label='road', points_px=square),
        LabelledPolygon(label='persongroup', points_px=square + 12),
        LabelledPolygon(label='person', points_px=square + 24),
    ]
    truth = paint_truth(polygons, (64, 64))
    assert sorted(np.unique(truth.instance_ids).tolist()) == [0, 7, 24, 24000]
    assert sorted(np.unique(truth.label_ids).tolist()) == [0, 7, 24]


@pytest.mark.parametrize('weather', WEATHERS)
def test_weathers_look_different(weather):
    config = StreetConfig(image_hw=(64, 128), frames=1, seed=2, weather=weather)
    image = next(draw_street(config)).image_rgb
    other = next(draw_street(replace(config, weather='clear' if weather != 'clear' else 'fog'))).image_rgb
    assert 20 < image.mean() < 235
    assert image.std() > 12
    assert np.abs(image.astype(int) - other).mean() > 3


def test_written_files_follow_the_cityscapes_layout(tmp_path):
    configs = [replace(SMALL, seed=1), replace(SMALL, seed=2, frames=1)]
    assert write_cityscapes(tmp_path, 'val', configs, show_progress=False) == 3
    stems = ['drawnstreet_000000_000000', 'drawnstreet_000000_000001', 'drawnstreet_000001_000000']
    images = sorted(path.name for path in (tmp_path / 'leftImg8bit/val/drawnstreet').iterdir())
    assert images == [f'{stem}_leftImg8bit.png' for stem in stems]
    truth = tmp_path / 'gtFine/val/drawnstreet'
    kinds = ('instanceIds.png', 'labelIds.png', 'polygons.json')
    assert sorted(path.name for path in truth.iterdir()) == [
        f'{stem}_gtFine_{kind}' for stem in stems for kind in kinds
    ]

    frame = next(draw_street(configs[0]))
    stem = stems[0]
    image = cv2.imread(str(tmp_path / f'leftImg8bit/val/drawnstreet/{stem}_leftImg8bit.png'), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(image[..., ::-1], frame.image_rgb)
    labels = cv2.imread(str(truth / f'{stem}_gtFine_labelIds.png'), cv2.IMREAD_UNCHANGED)
    instances = cv2.imread(str(truth / f'{stem}_gtFine_instanceIds.png'), cv2.IMREAD_UNCHANGED)
    assert (labels.dtype, instances.dtype) == (np.uint8, np.uint16)
    assert np.array_equal(labels, frame.label_ids)
    assert np.array_equal(instances, frame.instance_ids)
    document = json.loads((truth / f'{stem}_gtFine_polygons.json').read_text())
    assert (document['imgHeight'], document['imgWidth']) == labels.shape
    assert [entry['label'] for entry in document['objects']] == [polygon.label for polygon in frame.polygons]
    repainted = np.zeros_like(labels)
    for entry in document['objects']:
        cv2.fillPoly(repainted, [np.array(entry['polygon'], np.int32)], LABEL_IDS[base_label(entry['label'])])
    assert np.array_equal(repainted, labels)


def test_command_writes_the_same_with_several_processes(tmp_path):
    common = ['--train', '3', '--val', '1', '--test', '0', '--size', '64x128', '--sequence-frames', '2', '--seed', '7']
    assert main(['--output', str(tmp_path / 'one'), *common]) == 0
    assert main(['--output', str(tmp_path / 'two'), *common, '--workers', '2']) == 0
    one, two = (sorted(path for path in (tmp_path / name).rglob('*.*')) for name in ('one', 'two'))
    assert len(one) == len(two) == 4 * 4
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_command_refuses_a_full_folder_unless_told(tmp_path, capsys):
    arguments = ['--output', str(tmp_path), '--train', '1', '--val', '0', '--test', '0', '--size', '64x128']
    assert main(arguments) == 0
    assert main(arguments) == 2
    assert '--overwrite' in capsys.readouterr().err
    assert main([*arguments, '--overwrite']) == 0
    (tmp_path / 'diary.txt').write_text('not ours')
    assert main([*arguments, '--overwrite']) == 2
    assert 'diary.txt' in capsys.readouterr().err
    assert (tmp_path / 'diary.txt').exists()


def test_command_does_not_replace_a_real_data_set(tmp_path, capsys):
    photo = tmp_path / 'leftImg8bit' / 'train' / 'aachen' / 'aachen_000000_000019_leftImg8bit.png'
    photo.parent.mkdir(parents=True)
    photo.write_bytes(b'real')
    assert main(['--output', str(tmp_path), '--train', '1', '--val', '0', '--test', '0', '--overwrite']) == 2
    assert 'leftImg8bit/train/aachen' in capsys.readouterr().err
    assert photo.exists()


@pytest.mark.parametrize(
    ('option', 'value', 'hint'),
    [
        ('--size', 'big', '512x1024'),
        ('--size', '63x128', 'even'),
        ('--workers', '0', '--workers'),
        ('--val', '-1', 'splits'),
    ],
)
def test_command_explains_bad_options(tmp_path, capsys, option, value, hint):
    assert main(['--output', str(tmp_path / 'new'), '--train', '1', option, value]) == 2
    assert hint in capsys.readouterr().err
    assert not (tmp_path / 'new').exists()


def test_command_explains_a_folder_that_it_cannot_write(tmp_path, capsys):
    (tmp_path / 'file').write_text('no folder')
    assert main(['--output', str(tmp_path / 'file' / 'streets'), '--train', '1', '--val', '0', '--test', '0']) == 2
    error = capsys.readouterr().err
    assert error.startswith(f'Cannot write the data set to {tmp_path}/file/streets: ')
    assert error.count('\n') == 1


def test_bad_configurations_are_refused():
    with pytest.raises(ConfigError, match='even'):
        StreetConfig(image_hw=(16, 32))
    with pytest.raises(ConfigError, match='overcast'):
        StreetConfig(weather='overcats')
    with pytest.raises(ConfigError, match='frames=0'):
        StreetConfig(frames=0)


def test_splits_never_share_a_street():
    plans = [
        plan_sequences(23, image_hw=(64, 128), seed=seed, split=split) for seed in (0, 1) for split in ('train', 'val')
    ]
    seeds = [config.seed for plan in plans for config in plan]
    assert len(seeds) == len(set(seeds)) == 4 * 5
    assert sum(config.frames for config in plans[0]) == 23
