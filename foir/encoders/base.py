"""An image encoder in two parts: an expensive prefix once per image, a cheap finish once per prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from foir.encoders.block import BlockModules, LastBlock, Map, full_precision, identity
from foir.encoders.intervention import PLAIN, HeadGate, Intervention

KEPT_BLOCKS = 4  # last blocks that can run again; Foveal Attention, the deepest method, re-runs four


@dataclass(frozen=True, eq=False)
class Prefix:
    """The part of a forward pass that no prompt changes, for a batch of B images.

    Attributes:
        deep: Tokens before the last `KEPT_BLOCKS` blocks, [B, T, d].
        block: The last block, split at its CLS row.
    """

    deep: Tensor
    block: LastBlock

    def __len__(self) -> int:
        return len(self.deep)

    def __getitem__(self, i: int) -> Prefix:
        """The prefix of image i as a batch of one."""
        row = torch.tensor([i], device=self.deep.device)
        return Prefix(self.deep[row], self.block.take(row))


@dataclass(frozen=True, eq=False)
class Features:
    """Features of n prompts.

    Attributes:
        vectors: Unit vectors, float32 [n, dim]; their dot product is the cosine score.
        attention: CLS attention of the last block as the method left it, [n, h, T].
        gates: The heads that each prompt selected, None where the method selects none.
        z: CLS head outputs before the gate, [n, h, d_k]; with `residual` all that Query-DB needs of an image.
        residual: CLS token at the last block's input, [n, d].
    """

    vectors: Tensor
    attention: Tensor
    gates: tuple[HeadGate | None, ...]
    z: Tensor
    residual: Tensor


@dataclass(frozen=True, eq=False)
class Encoder:
    """A Vision Transformer that pools by its CLS token, as separate parts.

    Attributes:
        name: Registry name.
        revision: Commit or digest of the weights; "random" for untrained ones.
        embed: Normalised pixels [B, 3, size, size] to tokens [B, T, d].
        layers: The blocks, in order.
        norm: LayerNorm after the last block.
        size: Side of the square that images are resized to, in pixels.
        grid: Rows and columns of patches.
        registers: Register tokens between CLS and patches.
        mean: Pixel mean per channel, for values in 0..1.
        std: Pixel standard deviation per channel.
        project: Map of the normed CLS token to the feature [.., dim]; identity for most.
        module: The library's model, which owns the parts above.
        device: Device of the module.
        dtype: Dtype of the module.
        remote_forward: Replaces `forward_blocks` on a device of another process (`foir.encoders.zerogpu`).
    """

    name: str
    revision: str
    embed: Map
    layers: Sequence[BlockModules]
    norm: Map
    size: int
    grid: tuple[int, int]
    registers: int = 0
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    project: Map = identity
    module: torch.nn.Module = field(default_factory=torch.nn.Identity)
    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    remote_forward: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None

    def to(self, device: str, dtype: torch.dtype) -> Encoder:
        """The encoder on another device and in another dtype; its module is moved."""
        exact = [part for part in self.pooling if isinstance(part, torch.nn.Module) and dtype.itemsize < 4]
        states = [{name: value.clone() for name, value in part.state_dict().items()} for part in exact]
        self.module.to(device, dtype)
        for part, state in zip(exact, states, strict=True):
            part.float().load_state_dict(state)  # as it was before it was rounded
        return replace(self, device=device, dtype=dtype)

    @property
    def pooling(self) -> tuple[Map, ...]:
        """What follows the last block; in float32 where the blocks compute in less."""
        return self.norm, self.project

    def normed(self, tokens: Tensor) -> Tensor:
        """Tokens behind the last block [..., d] through the final norm, in full precision."""
        return self.norm(full_precision(tokens))

    @property
    def heads(self) -> int:
        """Attention heads of the last block."""
        return self.layers[-1].heads

    @property
    def first_patch(self) -> int:
        """Column of the first patch token, after CLS and registers."""
        return 1 + self.registers

    def pixels(self, images: Sequence[Image.Image]) -> Tensor:
        """Resize images to the model's square and normalise: float32 [B, 3, size, size] on the CPU.

        The aspect ratio is not preserved, so that no box is cut off. Pixels that an
        alpha channel hides become 0 after normalisation.
        """
        return torch.stack([preprocess(image, self.size, self.mean, self.std) for image in images])

    @torch.inference_mode()
    def prefix(self, pixels: Tensor) -> Prefix:
        """Run the prompt-free part on normalised pixels [B, 3, size, size]: once per image."""
        deep, last = (self.remote_forward or self.forward_blocks)(pixels)
        return Prefix(deep, self.open_last_block(last))

    @torch.inference_mode()
    def forward_blocks(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens before the last `KEPT_BLOCKS` blocks, and before the last block, [B, T, d] each."""
        x = self.embed(pixels.to(self.device, self.dtype))
        split = max(len(self.layers) - KEPT_BLOCKS, 0)
        for layer in self.layers[:split]:
            x = layer(x)
        deep = x
        for layer in self.layers[split:-1]:
            x = layer(x)
        return deep, x

    @torch.inference_mode()
    def finish(self, prefix: Prefix, interventions: Sequence[Intervention] = (PLAIN,)) -> Features:
        """Finish the forward pass of the CLS row under the logits and heads steps of each intervention.

        Args:
            prefix: Of n images, one per intervention; or of one image for all; or of n for one intervention.
            interventions: Their `pixels` steps are ignored; see `features`.
        """
        count = max(len(prefix), len(interventions))
        steps = list(interventions) if len(interventions) == count else list(interventions) * count
        shallow = [i for i, step in enumerate(steps) if step.depth == 1]
        deep = [i for i, step in enumerate(steps) if step.depth > 1]
        if not deep:
            return self._finish(prefix.block, steps)
        deep_features = self._finish(self._rerun(prefix, steps, deep), [steps[i] for i in deep])
        if not shallow:
            return deep_features
        rows = torch.tensor(shallow, device=self.device)
        shallow_features = self._finish(prefix.block.take(rows), [steps[i] for i in shallow])
        return _merge(count, shallow, shallow_features, deep, deep_features)

    def features(
        self, image: Image.Image, interventions: Sequence[Intervention], prefix: Prefix | None = None
    ) -> Features:
        """Features of one image under each intervention; those that edit pixels cost a full encode, the rest share one.

        Args:
            image: RGB.
            interventions: At least one.
            prefix: The image's prefix; computed if left out.
        """
        edited = [i for i, step in enumerate(interventions) if step.pixels is not None]
        unedited = [i for i, step in enumerate(interventions) if step.pixels is None]
        parts: list[tuple[list[int], Features]] = []
        if unedited:
            prefix = prefix or self.prefix(self.pixels([image]))
            parts.append((unedited, self.finish(prefix, [interventions[i] for i in unedited])))
        if edited:
            images = [step.pixels(image) for step in interventions if step.pixels is not None]
            parts.append((edited, self.finish(self.prefix(self.pixels(images)), [interventions[i] for i in edited])))
        if len(parts) == 1:
            return parts[0][1]
        return _merge(len(interventions), *parts[0], *parts[1])

    @torch.inference_mode()
    def tail(self, z: Tensor, residual: Tensor, channels: Tensor | None = None) -> Tensor:
        """From gated head outputs [n, h, d_k] and residuals [n, d] to unit vectors, float32 [n, dim]."""
        channels = None if channels is None else channels.to(self.dtype)
        return self._feature(self.layers[-1].tail(z.to(self.dtype), residual.to(self.dtype), channels))

    def _feature(self, cls: Tensor) -> Tensor:
        """From CLS tokens after the last block [n, d] to unit vectors, float32 [n, dim]."""
        return F.normalize(self.project(self.normed(cls)).float(), dim=-1)

    def raw_feature(self, tokens: Tensor) -> Tensor:
        """From the last block's output [B, T, d] to features of the model's own length, [B, dim]; differentiable."""
        return self.project(self.normed(tokens[:, 0]))

    def pooled_feature(self, tokens: Tensor) -> Tensor:
        """From the last block's output [B, T, d] to unit vectors, float32 [B, dim]; differentiable."""
        return F.normalize(self.raw_feature(tokens).float(), dim=-1)

    @torch.inference_mode()
    def patch_features(self, prefix: Prefix) -> Tensor:
        """Unit vectors of the patches after the last block and norm, float32 [B, rows * cols, d]."""
        hidden = self.normed(self.layers[-1](prefix.block.tokens))
        return F.normalize(hidden[:, self.first_patch :].float(), dim=-1)

    def reference_feature(self) -> np.ndarray:
        """The feature of one fixed synthetic image, float32 [dim]: detects a library that changes the model."""
        y, x = np.mgrid[: self.size, : self.size].astype(np.float32) / self.size
        waves = np.stack([np.sin(9 * x + 4 * y), np.cos(7 * y - 3 * x), np.sin(20 * x * y)], -1)
        image = Image.fromarray((127.5 + 127 * waves).astype(np.uint8))
        local = replace(self, remote_forward=None)  # the remote device may not exist yet
        return self.finish(local.prefix(self.pixels([image]))).vectors[0].cpu().numpy()

    def open_last_block(self, tokens: Tensor) -> LastBlock:
        """The last block split at its CLS row, from the tokens before it, [B, T, d]."""
        return replace(self.layers[-1].open(tokens), first_patch=self.first_patch)

    def _rerun(self, prefix: Prefix, steps: Sequence[Intervention], rows: Sequence[int]) -> LastBlock:
        """Run the last `KEPT_BLOCKS` blocks again for some rows, each with its own logits steps on the CLS row."""
        x = prefix.deep[[0 if len(prefix) == 1 else i for i in rows]]
        layers = self.layers[-KEPT_BLOCKS:]
        for k in range(len(layers) - 1, 0, -1):
            x = layers[-1 - k](x, self._cls_attention([steps[i] for i in rows], k))
        return self.open_last_block(x)

    def _cls_attention(self, steps: Sequence[Intervention], k: int) -> Callable[[LastBlock], Tensor]:
        def attention(block: LastBlock) -> Tensor:
            block = replace(block, first_patch=self.first_patch)
            rows = [_logits(step, k, block.at(i)) for i, step in enumerate(steps)]
            return torch.stack(rows).softmax(-1)

        return attention

    def _finish(self, block: LastBlock, steps: Sequence[Intervention]) -> Features:
        attention = self._cls_attention(steps, 0)(block)
        values = full_precision(block.values)
        if len(values) == 1:  # many prompts on one picture share its values
            z = torch.einsum("nht,htd->nhd", attention, values[0])
        else:
            z = torch.einsum("nht,nhtd->nhd", attention, values)
        z = z.to(block.values.dtype)
        gates = [step.heads and step.heads(block.at(i), attention[i]) for i, step in enumerate(steps)]
        residual = block.residual.expand(len(steps), -1)
        if not any(gates):
            return Features(self.tail(z, residual), attention, tuple(gates), z, residual)
        cls_values = block.values[:, :, 0].expand_as(z)
        gated, channels = z.clone(), z.new_ones(len(steps), residual.shape[-1])
        for i, gate in enumerate(gates):
            if gate is not None:
                gated[i], scale = gate.apply(z[i], cls_values[i])
                if scale is not None:
                    channels[i] = scale
        return Features(self.tail(gated, residual, channels), attention, tuple(gates), z, residual)


def preprocess(image: Image.Image, size: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """An image resized to a square and normalised, float32 [3, size, size]; see `Encoder.pixels`."""
    rgb = np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC), np.float32) / 255
    values = (rgb - np.array(mean, np.float32)) / np.array(std, np.float32)
    if image.mode == "RGBA":
        alpha = image.getchannel("A").resize((size, size), Image.Resampling.BOX)
        values = values * (np.asarray(alpha, np.float32) / 255)[..., None]
    return torch.from_numpy(values).permute(2, 0, 1)


def _logits(step: Intervention, k: int, block: LastBlock) -> Tensor:
    return step.logits[k](block, block.logits) if k in step.logits else block.logits


def _merge(count: int, rows_a: Sequence[int], a: Features, rows_b: Sequence[int], b: Features) -> Features:
    """Two parts of a batch in their original order."""
    order = torch.empty(count, dtype=torch.long)
    order[[*rows_a, *rows_b]] = torch.arange(count)
    gates = a.gates + b.gates

    def mix(x: Tensor, y: Tensor) -> Tensor:
        return torch.cat([x, y])[order.to(x.device)]

    return Features(
        mix(a.vectors, b.vectors),
        mix(a.attention, b.attention),
        tuple(gates[i] for i in order.tolist()),
        mix(a.z, b.z),
        mix(a.residual, b.residual),
    )
