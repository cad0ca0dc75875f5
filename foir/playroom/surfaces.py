"""Procedural grounds and backdrops of scenes: wood, cloth, tiles, grass, sand, walls, sky; and the light on them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

Rng = np.random.Generator
TEXTURE = 768  # side of a texture seen from above, in texels


def noise(rng: Rng, shape: tuple[int, int], cells: tuple[int, int]) -> np.ndarray:
    """Smooth random values in about -1..1, [rows, cols], with `cells` bumps along each axis."""
    grid = rng.normal(0, 0.6, (cells[0] + 1, cells[1] + 1)).astype(np.float32)
    return np.asarray(Image.fromarray(grid).resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def _colour(rng: Rng, *choices: tuple[int, int, int]) -> np.ndarray:
    return np.array(choices[rng.integers(len(choices))], np.float32) + rng.normal(0, 5, 3).astype(np.float32)


def wood(rng: Rng) -> np.ndarray:
    """Planks with grain, [TEXTURE, TEXTURE, 3] in 0..255."""
    base = _colour(rng, (186, 140, 96), (150, 105, 70), (205, 170, 128), (120, 82, 56))
    planks = int(rng.integers(5, 9))
    width = TEXTURE // planks + 1
    out = np.empty((TEXTURE, TEXTURE, 3), np.float32)
    for i in range(planks):
        plank = out[:, i * width : (i + 1) * width]
        shape = (TEXTURE, plank.shape[1])
        grain = 0.6 * noise(rng, shape, (5, 14)) + 0.5 * noise(rng, shape, (12, 50))
        plank[:] = (base * (1 + 0.07 * rng.normal()))[None, None] * (1 + 0.09 * grain[..., None])
        plank[:, :2] *= 0.72
    return out


def cloth(rng: Rng) -> np.ndarray:
    """Checked or plain woven cloth."""
    base = _colour(rng, (236, 228, 214), (214, 222, 226), (232, 214, 208), (222, 228, 208))
    ink = _colour(rng, (178, 62, 58), (60, 92, 142), (70, 120, 84), (150, 120, 80))
    out = np.broadcast_to(base, (TEXTURE, TEXTURE, 3)).copy()
    if rng.random() < 0.7:
        period = int(rng.integers(60, 130))
        bands = (np.arange(TEXTURE) // (period // 2)) % 2
        share = 0.28 * (bands[:, None] + bands[None, :])
        out += share[..., None] * (ink - out)
    weave = 1 + 0.03 * np.sin(np.arange(TEXTURE) * 1.7)[:, None] * np.sin(np.arange(TEXTURE) * 1.7)[None, :]
    return out * weave[..., None] * (1 + 0.03 * noise(rng, (TEXTURE, TEXTURE), (6, 6))[..., None])


def tiles(rng: Rng) -> np.ndarray:
    """Square tiles with grout, in different shades."""
    base = _colour(rng, (214, 208, 198), (176, 190, 196), (198, 176, 158), (150, 158, 150))
    count = int(rng.integers(5, 10))
    side = TEXTURE // count + 1
    shade = 1 + 0.05 * rng.normal(size=(count, count)).repeat(side, 0).repeat(side, 1)[:TEXTURE, :TEXTURE]
    out = base * shade[..., None] * (1 + 0.04 * noise(rng, (TEXTURE, TEXTURE), (30, 30))[..., None])
    grout = np.arange(TEXTURE) % side < 4
    out[grout] *= 0.8
    out[:, grout] *= 0.8
    return out


def grass(rng: Rng) -> np.ndarray:
    """Short grass with lighter and darker patches."""
    base = _colour(rng, (112, 150, 70), (96, 138, 72), (134, 158, 84))
    shape = (TEXTURE, TEXTURE)
    blades = 0.5 * noise(rng, shape, (190, 130)) + 0.4 * noise(rng, shape, (60, 60)) + 0.5 * noise(rng, shape, (8, 8))
    return base * (1 + 0.16 * blades[..., None]) * np.array([1, 1, 0.96], np.float32)


def sand(rng: Rng) -> np.ndarray:
    """Sand with soft ripples."""
    base = _colour(rng, (226, 204, 164), (214, 190, 150))
    shape = (TEXTURE, TEXTURE)
    ripples = np.sin(np.arange(TEXTURE)[:, None] / 9 + 3 * noise(rng, shape, (4, 4)))
    return base * (1 + 0.025 * ripples + 0.05 * noise(rng, shape, (150, 150)))[..., None]


SURFACES: dict[str, Callable[[Rng], np.ndarray]] = {
    "wood": wood, "cloth": cloth, "tiles": tiles, "grass": grass, "sand": sand,
}  # fmt: skip


def from_above(rng: Rng, texture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A random area of a surface seen from above, [height, width, 3]."""
    width, height = size
    zoom = rng.uniform(0.55, 0.95) * TEXTURE / max(size)
    x0 = rng.uniform(0, TEXTURE - width * zoom)
    y0 = rng.uniform(0, TEXTURE - height * zoom)
    surface = Image.fromarray(np.clip(texture, 0, 255).astype(np.uint8))
    box = (x0, y0, x0 + width * zoom, y0 + height * zoom)
    return np.asarray(surface.resize(size, Image.Resampling.BICUBIC, box=box), np.float32)


def in_perspective(
    rng: Rng, texture: np.ndarray, backdrop: np.ndarray, size: tuple[int, int], horizon: int
) -> np.ndarray:
    """A surface in perspective from the lower edge to the horizon, below a backdrop, [height, width, 3]."""
    width, height = size
    out = backdrop.copy()
    rows = np.arange(horizon, height)
    near = (rows - horizon + 0.35 * height) / (1.35 * height - horizon)  # 1 at the lower edge, small far away
    reach = TEXTURE * rng.uniform(0.5, 0.75)
    across = (np.arange(width)[None] - width / 2) / width * reach / near[:, None] + TEXTURE / 2
    away = np.broadcast_to((0.45 * reach / near)[:, None], across.shape) + rng.uniform(0, TEXTURE)
    sampled = texture[away.astype(int) % TEXTURE, across.astype(int) % TEXTURE]
    mean = texture.mean((0, 1))
    contrast = np.clip((near - near[0]) / (1 - near[0]) * 2.2 + 0.25, 0, 1)[:, None, None]  # detail fades with distance
    out[horizon:] = mean + (sampled - mean) * contrast
    return out


def wall(rng: Rng, size: tuple[int, int], horizon: int) -> np.ndarray:
    """A painted wall with a skirting board above the horizon."""
    paint = _colour(rng, (226, 220, 208), (198, 210, 214), (214, 206, 222), (206, 216, 196), (232, 210, 196))
    out = np.broadcast_to(paint, (size[1], size[0], 3)).copy()
    out *= (1 + 0.02 * noise(rng, (size[1], size[0]), (10, 14)))[..., None]
    board = max(3, size[1] // 40)
    out[max(horizon - board, 0) : horizon] = np.minimum(paint * 1.09, 250)
    out[max(horizon - 1, 0) : horizon] *= 0.7
    return out


def sky(rng: Rng, size: tuple[int, int], horizon: int) -> np.ndarray:
    """A sky with soft clouds, lighter towards the horizon."""
    high, low = _colour(rng, (96, 158, 214), (120, 170, 206), (150, 178, 214)), np.array([214, 230, 238], np.float32)
    share = np.clip(np.arange(size[1]) / max(horizon, 1), 0, 1)[:, None, None]
    out = np.broadcast_to(high + (low - high) * share, (size[1], size[0], 3)).copy()
    clouds = noise(rng, (size[1], size[0]), (4, 5)) + 0.5 * noise(rng, (size[1], size[0]), (10, 14))
    cover = np.clip(clouds - 0.15, 0, 0.8)[..., None]
    return out + (250 - out) * cover


def light(rng: Rng, size: tuple[int, int], direction: float) -> np.ndarray:
    """A factor for every pixel, [height, width, 3]: brighter towards the light (-1 left, 1 right), dark corners."""
    width, height = size
    x = np.linspace(-1, 1, width)[None]
    y = np.linspace(-1, 1, height)[:, None]
    level = rng.uniform(0.92, 1.06) * (1 + 0.1 * direction * x - 0.05 * y) * (1 - 0.1 * (x**2 + y**2) / 2)
    warmth = rng.uniform(-0.05, 0.06)
    return level[..., None] * np.array([1 + warmth, 1, 1 - warmth])
