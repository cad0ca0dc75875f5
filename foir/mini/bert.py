"""A BERT as torch's own encoder layers: importing transformers' takes longer than a search by words."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from foir.pretrained import copy_tensors

EPSILON = 1e-12  # of LayerNorm
# Tensors of a layer, in torch and in the file.
_LAYER = {
    "self_attn.out_proj": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "linear1": "intermediate.dense",
    "linear2": "output.dense",
    "norm2": "output.LayerNorm",
}


class Bert(nn.Module):
    """Token ids to token states; for single sentences."""

    def __init__(self, words: int, positions: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(words, width), nn.Embedding(positions, width)
        self.kinds, self.norm = nn.Embedding(2, width), nn.LayerNorm(width, EPSILON)
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", EPSILON, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """States [n, T, width] of token ids [n, T], of which the first `lengths` [n] are no padding."""
        places = torch.arange(ids.shape[1], device=ids.device)
        x = self.norm(self.words(ids) + self.positions(places) + self.kinds.weight[0])
        states: Tensor = self.layers(x, src_key_padding_mask=places >= lengths[:, None])
        return states


def load(file: Path, words: int, positions: int, width: int, heads: int, layers: int) -> Bert:
    """A model with the weights of a BertModel that transformers saved, of a file that was verified."""
    found = load_file(file)
    state = {
        "words.weight": found.pop("embeddings.word_embeddings.weight"),
        "positions.weight": found.pop("embeddings.position_embeddings.weight"),
        "kinds.weight": found.pop("embeddings.token_type_embeddings.weight"),
    }
    state |= {f"norm.{part}": found.pop(f"embeddings.LayerNorm.{part}") for part in ("weight", "bias")}
    for i in range(layers):
        source, target = f"encoder.layer.{i}.", f"layers.layers.{i}."
        for part in ("weight", "bias"):
            inputs = [found.pop(f"{source}attention.self.{name}.{part}") for name in ("query", "key", "value")]
            state[f"{target}self_attn.in_proj_{part}"] = torch.cat(inputs)
            for own, theirs in _LAYER.items():
                state[f"{target}{own}.{part}"] = found.pop(f"{source}{theirs}.{part}")
    model = Bert(words, positions, width, heads, layers)
    copy_tensors(model.state_dict(), state, f"{file} is not the text model of mini", "reinstall its package")
    return model.eval().requires_grad_(False)
