"""Texts to train on, behind the frozen text model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from foir.mini import text_encoder


@dataclass(frozen=True, eq=False)
class EncodedTexts:
    """Texts behind the frozen text model: token states float16 [n, T, 384] and their lengths without padding [n]."""

    states: np.ndarray
    lengths: np.ndarray

    @classmethod
    def encode(cls, texts: Sequence[str], max_tokens: int = 32) -> EncodedTexts:
        """Run texts through MiniLM in batches of similar length."""
        states = np.zeros((len(texts), max_tokens, text_encoder.WIDTH), np.float16)
        lengths = np.zeros(len(texts), np.int64)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(texts), 128):
            rows = order[start : start + 128]
            batch, count, _ = text_encoder.token_states([texts[i] for i in rows], max_tokens)
            states[rows, : batch.shape[1]], lengths[rows] = batch.numpy(), count
        return cls(states, lengths)

    @classmethod
    def kept(cls, texts: Sequence[str], folder: Path, max_tokens: int = 32) -> EncodedTexts:
        """`encode`, kept in a folder: thousands of captions take minutes."""
        digest = hashlib.sha256(json.dumps([max_tokens, *texts]).encode()).hexdigest()[:12]
        file = folder / f"texts-{digest}.npz"
        if not file.exists():
            encoded = cls.encode(texts, max_tokens)
            folder.mkdir(parents=True, exist_ok=True)
            part = file.with_suffix(".part.npz")
            np.savez(part, states=encoded.states, lengths=encoded.lengths)
            part.replace(file)
        with np.load(file) as arrays:
            return cls(arrays["states"], arrays["lengths"])

    def centred_means(self) -> np.ndarray:
        """Unit vectors float32 [n, 384]: the mean state of each text, less the mean of all texts."""
        rows = zip(self.states, self.lengths, strict=True)
        mean = np.stack([states[:length].mean(0, dtype=np.float32) for states, length in rows])
        mean -= mean.mean(0)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)

    def take(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """States in float32 and lengths of some texts, padded to the longest of them."""
        lengths = self.lengths[rows]
        states = torch.from_numpy(self.states[rows, : lengths.max()])
        return states.float(), torch.from_numpy(lengths)
