"""Captions by `mini`: learned queries pool the image's tokens by cross-attention, a small decoder generates words.

The pooler's cross-attention (queries that do not depend on the image, keys that do) is where a query perturbation
acts. The vocabulary is that of the training captions: lower-case runs of letters and digits.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from foir.errors import Unavailable
from foir.perturbation import beam_search
from foir.perturbation.views import split_heads
from foir.pretrained import copy_tensors

FILE = Path(__file__).parents[1] / "assets" / "mini" / "captions.safetensors"
IMAGE_WIDTH, WIDTH, HEADS, QUERIES, LAYERS = 384, 192, 6, 24, 2
MAX_WORDS = 24
THETA, STRENGTH = 0.5, 4.0  # of a query perturbation by default; training draws strengths from 1 to 2 * STRENGTH
START, END, UNKNOWN = 0, 1, 2
SPECIAL = ("<start>", "<end>", "<rare>")


def tokens(text: str) -> list[str]:
    """A caption's words."""
    return re.findall(r"[a-z0-9]+(?:'[a-z]+)?", text.lower())


def vocabulary(captions: Iterable[str], names: Iterable[str] = (), min_count: int = 4) -> list[str]:
    """The special words, then by frequency all words of names and those with `min_count` uses in captions."""
    counts = Counter(word for caption in captions for word in tokens(caption))
    name_words = {word for name in names for word in tokens(name)}
    counts.update(name_words)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [*SPECIAL, *(word for word, count in ranked if count >= min_count or word in name_words)]


class Pooler(nn.Module):
    """Attentional pooling: `QUERIES` learned queries attend to the image's tokens, [B, T, 384] to [B, q, 192]."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(QUERIES, WIDTH) * 0.5)
        self.norm_queries, self.norm_keys = nn.LayerNorm(WIDTH), nn.LayerNorm(IMAGE_WIDTH)
        self.q_proj = nn.Linear(WIDTH, WIDTH)
        self.k_proj, self.v_proj = nn.Linear(IMAGE_WIDTH, WIDTH), nn.Linear(IMAGE_WIDTH, WIDTH)
        self.o_proj = nn.Linear(WIDTH, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.ffn = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, tokens: Tensor) -> Tensor:
        """Pool."""
        normed = self.norm_keys(tokens)
        q = split_heads(self.q_proj(self.norm_queries(self.queries).expand(len(tokens), -1, -1)), HEADS)
        v = split_heads(self.v_proj(normed), HEADS)
        mixed = F.scaled_dot_product_attention(q, self.keys(normed), v).transpose(1, 2).flatten(2)
        y = self.queries + self.o_proj(mixed)
        return y + self.ffn(self.norm(y))

    def keys(self, normed: Tensor) -> Tensor:
        """Centred keys [B, h, T, D] from normed tokens.

        An image's keys are taken less their mean. This changes no softmax, but it changes the subspace of an object's
        keys: it spans what distinguishes the object from the rest of the image, not what all of the image shares.
        """
        keys = split_heads(self.k_proj(normed), HEADS)
        return keys - keys.mean(-2, keepdim=True)


class Captioner(nn.Module):
    """Pooler and decoder over a vocabulary."""

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__()
        self.words = list(words)
        self.ids = {word: i for i, word in enumerate(words)}
        self.pooler = Pooler()
        self.embed = nn.Embedding(len(words), WIDTH)
        self.places = nn.Parameter(torch.randn(MAX_WORDS + 1, WIDTH) * 0.02)  # position embeddings
        layer = nn.TransformerDecoderLayer(WIDTH, HEADS, 4 * WIDTH, 0.1, "gelu", batch_first=True, norm_first=True)
        self.decoder = nn.TransformerDecoder(layer, LAYERS, nn.LayerNorm(WIDTH))
        nn.init.normal_(self.embed.weight, std=WIDTH**-0.5)

    def encode(self, caption: str) -> list[int]:
        """Word ids with start and end, truncated to `MAX_WORDS` + 1."""
        inner = [self.ids.get(word, UNKNOWN) for word in tokens(caption)[: MAX_WORDS - 1]]
        return [START, *inner, END]

    def forward(self, pooled: Tensor, ids: Tensor) -> Tensor:
        """Logits of each next word, [B, n, words], for word ids [B, n] and pooled images [B, q, 192]."""
        return self.logits(self.hidden(pooled, ids))

    def hidden(self, pooled: Tensor, ids: Tensor) -> Tensor:
        """The decoder's states [B, n, 192]."""
        n = ids.shape[1]
        x = self.embed(ids) * math.sqrt(WIDTH) + self.places[:n]
        causal_mask = torch.triu(torch.full((n, n), -torch.inf, device=x.device), 1)
        return self.decoder(x, pooled, tgt_mask=causal_mask, tgt_is_causal=True)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits of each word, [..., words], from states [..., 192]."""
        return F.linear(hidden, self.embed.weight)

    @torch.inference_mode()
    def generate(self, tokens: Tensor) -> list[str]:
        """One caption for each image, by beam search, from its tokens before the encoder's last block [B, T, 384]."""
        return [self._generate_one(pooled[None]) for pooled in self.pooler(tokens)]

    def _generate_one(self, pooled: Tensor) -> str:
        def step(ids: Tensor) -> Tensor:
            scores = self(pooled.expand(len(ids), -1, -1), ids.to(pooled.device))[:, -1].log_softmax(-1)
            scores[:, [START, UNKNOWN]] = -torch.inf
            return scores

        return " ".join(self.words[i] for i in beam_search.beam_search(step, START, END, MAX_WORDS))


def save(model: Captioner, facts: dict[str, str], file: Path = FILE) -> None:
    """Save the captioner in float16, with its vocabulary and `facts` about its training in the file's header."""
    state = {name: tensor.half().cpu().contiguous() for name, tensor in model.state_dict().items()}
    # One entry: the order of several would not be deterministic.
    save_file(state, file, {"captioner": json.dumps({"words": model.words, "facts": facts})})


def load(file: Path = FILE) -> Captioner:
    """The captioner, on the CPU in float32.

    Raises:
        Unavailable: Its file is missing or damaged, or of another foir.
    """
    try:
        with safe_open(file, "pt") as opened:
            model = Captioner(json.loads(opened.metadata()["captioner"])["words"])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - it is no dict
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise Unavailable(
            f"The trained part {file} of mini is missing or damaged: restore it from the repository."
        ) from error
    copy_tensors(model.state_dict(), tensors, f"{file} is not of this foir", "restore it from the repository")
    return model.eval().requires_grad_(False)
