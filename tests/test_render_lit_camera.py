"""Camera, light, normals and rotations against the published ones."""

import math

import pytest
import torch
from scipy.spatial.transform import Rotation

from face4d.flame import skinning as rotations
from face4d.render import lit as camera


@pytest.fixture
def vectors(reference):
    return {name: torch.as_tensor(array) for name, array in reference("c09_deca").items()}


def test_projection(vectors):
    torch.testing.assert_close(
        camera.project(vectors["proj_points"], vectors["proj_cam"]), vectors["proj_out"], atol=1e-5, rtol=0
    )


def test_screen_is_upside_down_and_pixels_count_from_the_corner():
    point, view = torch.tensor([[[0.01, 0.02, 0.03]]]), torch.tensor([[10.0, 0.0, 0.01]])
    screen = camera.to_screen(point, view)
    torch.testing.assert_close(screen, torch.tensor([[[0.1, -0.3, -0.3]]]))
    pixels = camera.to_pixels(screen, 200)
    torch.testing.assert_close(pixels, torch.tensor([[[110.0, 70.0, -30.0]]]))
    torch.testing.assert_close(camera.from_pixels(pixels, 200), screen)
    torch.testing.assert_close(camera.to_pixels(screen[..., :2], 200), pixels[..., :2])


def test_normals(vectors):
    found = camera.vertex_normals(vectors["mesh_vertices"], vectors["mesh_faces"])
    torch.testing.assert_close(found, vectors["mesh_normals"], atol=1e-5, rtol=0)


def test_light(vectors):
    torch.testing.assert_close(torch.tensor(camera.LIGHT_FACTORS), vectors["sh_factors"], atol=1e-6, rtol=0)
    found = camera.shade(vectors["sh_normals"].permute(0, 2, 3, 1), vectors["sh_light"]).permute(0, 3, 1, 2)
    torch.testing.assert_close(found, vectors["sh_shading"], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("function", "given", "expected"),
    [
        (rotations.euler_to_quaternion, "euler", "euler_quat"),
        (rotations.euler_to_axis_angle, "euler", "euler_axis"),
        (rotations.axis_angle_to_matrix, "euler_axis", "euler_matrix"),
        (rotations.axis_angle_to_quaternion, "axis", "axis_quat"),
        (rotations.axis_angle_to_matrix, "axis", "axis_matrix"),
        (rotations.axis_angle_to_matrix, "axis", "axis_rodrigues"),
        (rotations.matrix_to_quaternion, "axis_matrix", "matrix_quat"),
        (rotations.matrix_to_axis_angle, "axis_matrix", "matrix_axis_roundtrip"),
        (rotations.yaw_angle, "axis_matrix", "matrix_yangle"),
    ],
)
def test_rotations(vectors, function, given, expected):
    torch.testing.assert_close(function(vectors[given]), vectors[expected], atol=1e-5, rtol=0)


def test_rotations_agree_with_scipy():
    generator = torch.Generator().manual_seed(0)
    axis_angle = torch.randn(500, 3, generator=generator, dtype=torch.float64) * 2
    matrices = torch.as_tensor(Rotation.from_rotvec(axis_angle.numpy()).as_matrix())
    torch.testing.assert_close(rotations.axis_angle_to_matrix(axis_angle), matrices, atol=1e-6, rtol=0)
    torch.testing.assert_close(
        rotations.matrix_to_axis_angle(matrices), torch.as_tensor(Rotation.from_matrix(matrices.numpy()).as_rotvec())
    )


def test_gradients_at_zero_are_finite():
    zero = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    gradient = torch.autograd.functional.jacobian(
        lambda r: rotations.matrix_to_axis_angle(rotations.axis_angle_to_matrix(r)), zero
    )
    torch.testing.assert_close(gradient[0, :, 0], torch.eye(3, dtype=torch.float64), atol=1e-6, rtol=0)


def test_matrix_to_quaternion_near_half_turns():
    for axis in torch.eye(3, dtype=torch.float64):
        turn = rotations.matrix_to_axis_angle(rotations.axis_angle_to_matrix(axis * (math.pi - 1e-4)))
        torch.testing.assert_close(turn, axis * (math.pi - 1e-4), atol=1e-6, rtol=0)
