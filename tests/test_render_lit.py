"""Lit pictures of meshes, textures, and reading textures off pictures."""

import pytest
import torch

from face4d.render.lit import rasterize_uv, render, to_screen, unwrap

# a square of 0.2 m that looks at the viewer; its texture is upright
SQUARE = torch.tensor([[[-0.1, -0.1, 0], [0.1, -0.1, 0], [0.1, 0.1, 0], [-0.1, 0.1, 0.0]]])
FACES = torch.tensor([[0, 1, 2], [0, 2, 3]])
UV = torch.tensor([[0, 0], [1, 0], [1, 1], [0, 1.0]])
CAMERA = torch.tensor([[5.0, 0.0, 0.0]])  # the square covers half of the picture's side


def light(ambient=0.0, front=0.0):
    """(1, 9, 3): shading ambient + front * z."""
    from face4d.render.lit import LIGHT_FACTORS

    values = torch.zeros(1, 9, 3)
    values[:, 0], values[:, 3] = ambient / LIGHT_FACTORS[0], front / LIGHT_FACTORS[3]
    return values


def test_a_square_has_its_colour_times_its_light():
    drawn = render(SQUARE, FACES, CAMERA, light(0.25, 0.5), 40, colors=torch.tensor([0.8, 0.4, 0.2]).expand(1, 4, 3))
    assert drawn.image.shape == (1, 3, 40, 40) and drawn.mask.shape == (1, 1, 40, 40)
    assert drawn.mask[0, 0, 11:30, 11:30].all() and drawn.mask.sum() == pytest.approx(20 * 20, abs=41)
    torch.testing.assert_close(drawn.image[0, :, 20, 20], 0.75 * torch.tensor([0.8, 0.4, 0.2]))
    torch.testing.assert_close(drawn.normals[0, :, 20, 20], torch.tensor([0.0, 0.0, 1.0]))
    assert (drawn.image[0, :, 2, 2] == 0).all()
    clay = render(SQUARE, FACES, CAMERA, light(1.0), 40)
    torch.testing.assert_close(clay.image[0, :, 20, 20], torch.full((3,), 0.7))


def test_a_texture_is_upright():
    texture = torch.zeros(1, 3, 64, 64)
    texture[:, 0, :32] = 1  # upper half red
    texture[:, 2, :, 32:] = 1  # right half blue
    drawn = render(SQUARE, FACES, CAMERA, light(1.0), 40, texture=texture, uv=UV, uv_faces=FACES).image[0]
    assert drawn[:, 13, 13].tolist() == pytest.approx([1, 0, 0])
    assert drawn[:, 13, 27].tolist() == pytest.approx([1, 0, 1])
    assert drawn[:, 27, 27].tolist() == pytest.approx([0, 0, 1])


def test_a_texture_read_off_a_picture_is_the_texture():
    y, x = torch.meshgrid(torch.linspace(0.2, 0.9, 64), torch.linspace(0.1, 0.8, 64), indexing="ij")
    texture = torch.stack([x, y, x * y])[None]
    size = 160
    picture = render(SQUARE, FACES, CAMERA, light(1.0), size, texture=texture, uv=UV, uv_faces=FACES).image
    screen = to_screen(SQUARE, CAMERA)
    found, place = unwrap(picture.expand(2, -1, -1, -1), screen.expand(2, -1, -1), UV, FACES, FACES, 64)
    assert found.shape == (2, 3, 64, 64) and place.shape == (2, 3, 64, 64)
    torch.testing.assert_close(found[1, :, 4:-4, 4:-4], texture[0, :, 4:-4, 4:-4], atol=0.02, rtol=0)
    assert (rasterize_uv(UV, FACES, 32).triangle >= 0).all()


def test_light_and_colours_have_gradients():
    colors = torch.full((1, 4, 3), 0.5, requires_grad=True)
    shine = light(0.3, 0.4).requires_grad_()
    vertices = SQUARE.clone().requires_grad_()
    drawn = render(vertices, FACES, CAMERA, shine, 24, colors=colors)
    (drawn.image[0, :, 6:18, 6:18] ** 2).sum().backward()
    for values in (colors, shine, vertices):
        assert torch.isfinite(values.grad).all() and (values.grad != 0).any()
