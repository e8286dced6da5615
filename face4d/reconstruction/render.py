"""Pictures of lit meshes in the image model of DECA: albedo times spherical-harmonics light, weak perspective, no gamma.

Everything is differentiable: in colours and light everywhere, in the vertices through normals and barycentric weights inside a face (not through
the outline, which moves in whole pixels).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from face4d.reconstruction.camera import shade, to_pixels, to_screen, vertex_normals
from face4d.reconstruction.rasterize import Raster, interpolate, rasterize


class Rendering(NamedTuple):
    """Pictures of B meshes, zero where there is no mesh."""

    image: Tensor  # (B, 3, H, W) albedo times shading, not clipped
    mask: Tensor  # (B, 1, H, W) 1 where there is a mesh
    albedo: Tensor  # (B, 3, H, W)
    normals: Tensor  # (B, 3, H, W) unit normals, world axes
    raster: Raster


def render(
    vertices: Tensor,
    faces: Tensor,
    camera: Tensor,
    light: Tensor,
    size: int,
    *,
    colors: Tensor | None = None,
    texture: Tensor | None = None,
    uv: Tensor | None = None,
    uv_faces: Tensor | None = None,
) -> Rendering:
    """Draw meshes as DECA's camera sees them.

    Args:
        vertices: (B, V, 3) metres, y up, z toward the viewer.
        faces: (F, 3) int64.
        camera: (B, 3) scale and shift of :func:`~face4d.reconstruction.camera.project`.
        light: (B, 9, 3), see :func:`~face4d.reconstruction.camera.shade`.
        size: of the square pictures, pixels.
        colors: (B or 1, V, 3) albedo of the vertices; or
        texture: (B, 3, T, T) albedo in texture space, with
        uv: (N, 2) texture coordinates, u right and v up in 0..1, and
        uv_faces: (F, 3) int64, rows of ``uv`` of every triangle's corners.

    Without colours and texture the albedo is 0.7, clay.
    """
    raster = rasterize(to_pixels(to_screen(vertices, camera), size), faces, size, size)
    attributes = [vertex_normals(vertices, faces)]
    if colors is not None:
        attributes.append(colors.expand(len(vertices), -1, -1))
    pictures = interpolate(torch.cat(attributes, dim=-1), faces, raster)  # (B, H, W, 3 or 6)
    mask = (raster.triangle >= 0)[..., None].to(vertices.dtype)  # (B, H, W, 1)
    normals = functional.normalize(pictures[..., :3], dim=-1)
    if colors is not None:
        albedo = pictures[..., 3:]
    elif texture is not None and uv is not None and uv_faces is not None:
        place = interpolate(uv[None], uv_faces, raster)  # (B, H, W, 2)
        grid = torch.stack([2 * place[..., 0] - 1, 1 - 2 * place[..., 1]], dim=-1)
        albedo = functional.grid_sample(texture, grid, padding_mode="border", align_corners=False).permute(0, 2, 3, 1) * mask
    else:
        albedo = 0.7 * mask.expand_as(normals)
    image = albedo * shade(normals, light) * mask
    image, mask, albedo, normals = (picture.permute(0, 3, 1, 2) for picture in (image, mask, albedo, normals))
    return Rendering(image, mask, albedo, normals, raster)


def unwrap(image: Tensor, screen_vertices: Tensor, uv: Tensor, uv_faces: Tensor, faces: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Read a texture off pictures: what the picture shows at every place of the texture.

    Args:
        image: (B, C, H, W).
        screen_vertices: (B, V, 3) in -1..1, see :func:`~face4d.reconstruction.camera.to_screen`.
        uv: (N, 2) texture coordinates, v up; ``uv_faces``: (F, 3) int64 rows of it.
        faces: (F, 3) int64, vertices of the same triangles.
        size: T of the texture.

    Returns:
        texture (B, C, T, T); the screen vertices interpolated over the texture (B, 3, T, T), zero outside its triangles.
    """
    raster = rasterize_uv(uv, uv_faces, size)
    raster = Raster(*(part.expand(len(image), *part.shape[1:]) for part in raster))
    place = interpolate(screen_vertices, faces, Raster(*(part.contiguous() for part in raster)))  # (B, T, T, 3)
    texture = functional.grid_sample(image, place[..., :2], align_corners=False)
    return texture * (raster.triangle >= 0)[:, None], place.permute(0, 3, 1, 2)


def rasterize_uv(uv: Tensor, uv_faces: Tensor, size: int) -> Raster:
    """The triangles of a texture (1, T, T), T = ``size``: uv (N, 2), v up, triangles (F, 3) int64. Which side is up does not matter."""
    corners = torch.stack([uv[:, 0] * size - 0.5, (1 - uv[:, 1]) * size - 0.5, torch.zeros_like(uv[:, 0])], dim=1)
    return rasterize(corners[None], uv_faces, size, size)
