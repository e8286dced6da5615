"""Camera, light, normals and rotations against the published ones."""

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
    ],
)
def test_rotations(vectors, function, given, expected):
    torch.testing.assert_close(function(vectors[given]), vectors[expected], atol=1e-5, rtol=0)


def test_rotations_agree_with_scipy():
    generator = torch.Generator().manual_seed(0)
    angles = 2 * torch.rand(500, 3, generator=generator, dtype=torch.float64) - 1
    expected = Rotation.from_euler("XYZ", angles.numpy()).as_rotvec()
    torch.testing.assert_close(rotations.euler_to_axis_angle(angles), torch.as_tensor(expected))


def test_gradients_at_zero_are_finite():
    zero = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    gradient = torch.autograd.functional.jacobian(rotations.euler_to_axis_angle, zero)
    torch.testing.assert_close(gradient[0, :, 0], torch.eye(3, dtype=torch.float64), atol=1e-6, rtol=0)
