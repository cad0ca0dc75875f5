"""Small models of the true structure for what cannot be fetched: two of their libraries, InternVL-G by names."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the field's usual name
from transformers import BatchEncoding

END = 98


class Letters:
    """Letters to numbers, called as tokenizers are: start, letters, end (the highest id, where CLIP pools)."""

    def __init__(self, pad: int = END) -> None:
        self.pad = pad

    def __call__(self, texts, truncation=False, max_length=None, padding=False, return_tensors=None):
        ids = [[97, *(1 + ord(letter) % 90 for letter in text), END] for text in texts]
        if truncation:
            ids = [row if len(row) <= max_length else [*row[: max_length - 1], END] for row in ids]
        if return_tensors is None:
            return {"input_ids": ids}
        longest = max_length if padding == "max_length" else max(map(len, ids))
        padded = torch.tensor([row + [self.pad] * (longest - len(row)) for row in ids])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids])
        return BatchEncoding({"input_ids": padded, "attention_mask": mask})

    def batch_decode(self, ids, skip_special_tokens=True):
        return [" ".join(str(int(i)) for i in row if not skip_special_tokens or i != END) for row in ids]


def stirred(model: nn.Module, seed: int = 0) -> Any:
    """The model with every parameter random: some start at 0, some are left as memory happened to be."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        around = parameter.data if parameter.dim() == 1 else 0
        parameter.data = around + 0.15 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def blip2(kind: Any) -> Any:
    """Either of BLIP-2's two models: 4 x 4 patches, four Q-Former layers, two of them with cross-attention."""
    from transformers import Blip2Config, OPTConfig

    text = OPTConfig(
        vocab_size=99, hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4, word_embed_proj_dim=32,
        max_position_embeddings=64, bos_token_id=97, eos_token_id=END, pad_token_id=1,
    )  # fmt: skip
    config = Blip2Config(
        vision_config={
            "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
            "image_size": 56, "patch_size": 14,
        },
        qformer_config={
            "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 4, "num_attention_heads": 3,
            "encoder_hidden_size": 32, "vocab_size": 99, "cross_attention_frequency": 2, "use_qformer_text_input": True,
        },
        text_config=text.to_dict(), image_text_hidden_size=16, num_query_tokens=6,
        image_token_index=96 if kind.__name__ == "Blip2ForConditionalGeneration" else None,
    )  # fmt: skip
    torch.manual_seed(0)
    return stirred(kind(config))


def coca() -> Any:
    """open_clip's CoCa: 4 x 4 patches, ten pooler queries."""
    from open_clip.coca_model import CoCa

    text = {"context_length": 12, "vocab_size": 99, "width": 24, "heads": 3, "layers": 2}
    torch.manual_seed(0)
    model = CoCa(
        24, {**text, "attn_pooler_heads": 3}, {**text, "embed_cls": True, "output_tokens": True},
        {
            "image_size": 56, "patch_size": 14, "layers": 2, "width": 32, "head_width": 8, "attentional_pool": True,
            "attn_pooler_heads": 3, "attn_pooler_queries": 10, "output_tokens": True,
        },
    )  # fmt: skip
    return stirred(model)


class _Norm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class _LayerCross(nn.Module):
    """Cross-attention of a QLLaMA layer."""

    def __init__(self, width: int, vision: int, heads: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.norm1, self.norm2 = _Norm(width), _Norm(vision)
        self.q_proj, self.o_proj = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.k_proj, self.v_proj = nn.Linear(vision, width, bias=False), nn.Linear(vision, width, bias=False)

    def forward(self, x, vision):
        seen = self.norm2(vision)
        given = (self.q_proj(self.norm1(x)), self.k_proj(seen), self.v_proj(seen))
        q, k, v = (u.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for u in given)
        return self.o_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class _Layer(nn.Module):
    """A QLLaMA layer without self-attention; like rotary positions its table is computed, and in no file."""

    def __init__(self, width: int, vision: int, heads: int, cross: bool) -> None:
        super().__init__()
        self.cos_cached: torch.Tensor
        self.register_buffer("cos_cached", torch.arange(80.0)[:, None].expand(80, width).cos(), persistent=False)
        self.cross_attn = _LayerCross(width, vision, heads) if cross else None
        self.mlp = nn.Sequential(_Norm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, x, vision):
        x = x + 0.1 * self.cos_cached[: x.shape[1]].to(x.dtype)
        if self.cross_attn is not None and vision is not None:
            x = x + self.cross_attn(x, vision)
        return x + self.mlp(x)


class _PoolCross(nn.Module):
    """Cross-attention of the pooling block: it reads `q.weight` itself."""

    def __init__(self, width: int, heads: int, out: int) -> None:
        super().__init__()
        self.num_heads, self.scale = heads, (width // heads) ** -0.5
        self.q, self.k, self.v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.q_bias, self.k_bias, self.v_bias = (nn.Parameter(torch.zeros(width)) for _ in range(3))
        self.proj = nn.Linear(width, out)

    def forward(self, x, k, v):
        given = ((x, self.q.weight, self.q_bias), (k, self.k.weight, self.k_bias), (v, self.v.weight, self.v_bias))
        q, k, v = (F.linear(*one).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for one in given)
        attention = ((q * self.scale) @ k.mT).softmax(-1)
        return self.proj((attention @ v).transpose(1, 2).flatten(2))


class _Pool(nn.Module):
    def __init__(self, width: int, heads: int, out: int) -> None:
        super().__init__()
        self.norm1_q, self.norm1_k, self.norm1_v = (nn.LayerNorm(width) for _ in range(3))
        self.cross_attn = _PoolCross(width, heads, out)

    def forward(self, x):
        query = self.norm1_q(x.mean(1, keepdim=True))
        return self.cross_attn(query, k=self.norm1_k(x), v=self.norm1_v(x)).squeeze(1)


class _Vision(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.embeddings: Any = nn.Module()
        self.embeddings.patch_embedding = nn.Conv2d(3, width, 14, 14)
        self.embeddings.class_embedding = nn.Parameter(torch.zeros(1, 1, width))
        self.mix = nn.Linear(width, width)

    def forward(self, pixel_values, output_hidden_states=None, return_dict=None):
        patches = self.embeddings.patch_embedding(pixel_values).flatten(2).mT
        tokens = torch.cat([self.embeddings.class_embedding.expand(len(patches), -1, -1), patches], 1)
        return (tokens + torch.tanh(self.mix(tokens)),)


class InternVLike(nn.Module):
    """The parts of InternVL-G that matter here, with its names; QLLaMA without self-attention."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(vision_config=SimpleNamespace(image_size=56, patch_size=14))
        self.add_parts()

    def add_parts(self: Any) -> None:
        self.vision_model = _Vision(24)
        self.qllama: Any = nn.Module()
        self.qllama.model = nn.Module()
        self.qllama.model.layers = nn.ModuleList([_Layer(32, 24, 4, cross=i % 2 == 0) for i in range(4)])
        self.qllama.embed = nn.Embedding(99, 32)
        self.query_tokens = nn.Parameter(torch.zeros(1, 5, 32))
        self.clip_projector, self.clip_projector2 = _Pool(24, 3, 16), _Pool(32, 4, 16)
        self.text_projection = nn.Parameter(torch.zeros(32, 16))

    def encode_image(self, image, mode):
        assert mode == "InternVL-G"
        seen = self.vision_model(pixel_values=image)[0]
        x = self.query_tokens.expand(len(seen), -1, -1)
        for layer in self.qllama.model.layers:
            x = layer(x, seen)
        backbone, pooled = self.clip_projector(seen), self.clip_projector2(x)
        return F.normalize(pooled, dim=1) + F.normalize(backbone, dim=1)

    def encode_text(self, text):
        x = self.qllama.embed(text)
        for layer in self.qllama.model.layers:
            x = layer(x, None)
        last = (text > 0).sum(1) - 1
        return x[torch.arange(len(x)), last] @ self.text_projection
