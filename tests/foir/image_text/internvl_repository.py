"""InternVL-G's repository in a cache of the Hub: code, small random weights, a tokenizer that pads on the left.

The public code is used where FOIR_INTERNVL_CODE names a folder with its files: see docs/reproduce.md.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from foir.image_text.internvl import REPOSITORY
from tests import lookalikes

COMMIT = "c0de" * 10
OWN = Path(__file__).with_name("remote_internvl.py")
PUBLIC = os.environ.get("FOIR_INTERNVL_CODE")
NEEDS_PUBLIC = pytest.mark.skipif(not PUBLIC, reason="FOIR_INTERNVL_CODE names no folder with InternVL-G's public code")
CONFIG: dict[str, Any] = {
    "architectures": ["InternVLModel"], "model_type": "internvl", "torch_dtype": "bfloat16",
    "transformers_version": None, "tie_word_embeddings": False,
}  # fmt: skip
WORDS = ["<unk>", "<s>", "</s>", "\u2581", *"abcdefghijklmnopqrstuvwxyz:.,", *(f"<{i}>" for i in range(70))]


@contextmanager
def cached(hub: Path, public: bool = False) -> Iterator[Any]:
    """The repository in the cache `hub`, which is the Hub's meanwhile, and its code allowed; see `write`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
        patch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(hub / "modules"))
        patch.syspath_prepend(str(hub / "modules"))
        patch.setenv("FOIR_REMOTE_CODE", "1")
        yield write(hub, public)
    for name in [name for name in sys.modules if name.startswith("transformers_modules")]:
        del sys.modules[name]


def write(hub: Path, public: bool = False) -> Any:
    """Write the repository into the cache `hub`, and return the model whose weights it has."""
    folder = hub / f"models--{REPOSITORY.replace('/', '--')}" / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    if public:
        for file in Path(str(PUBLIC)).glob("*.py"):
            shutil.copy(file, folder)
        config, names = _public_config(), ("configuration_internvl", "modeling_internvl")
    else:
        shutil.copy(OWN, folder)
        config, names = {"vision_config": {"image_size": 56}}, (OWN.stem, OWN.stem)
    classes = {"AutoConfig": f"{names[0]}.InternVLConfig", "AutoModel": f"{names[1]}.InternVLModel"}
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config, "auto_map": classes}))
    _tokenizer().save_pretrained(folder)
    model = _random_model(folder, classes["AutoModel"])
    tensors = sorted(model.state_dict().items())
    for number, part in enumerate((tensors[:7], tensors[7:])):
        save_file(dict(part), folder / f"model-0000{number + 1}-of-00002.safetensors", {"format": "pt"})
    return model


def _random_model(folder: Path, name: str) -> Any:
    from transformers import AutoConfig
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    return lookalikes.stirred(get_class_from_dynamic_module(name, str(folder))(config))


def _tokenizer() -> Any:
    from transformers import LlamaTokenizer

    tokenizer = LlamaTokenizer(vocab={word: i for i, word in enumerate(WORDS)}, merges=[])
    tokenizer.padding_side = "left"
    return tokenizer


def _public_config() -> dict[str, Any]:
    """The true configuration with other sizes. Two sizes are constants of the code: 96 queries, 3200 channels."""
    old = {"torch_dtype": "float16", "return_dict": True, "max_length": 20, "num_beams": 1, "use_bfloat16": False}
    return {
        "attn_pool_num_heads": 16, "clip_embed_dim": 32, "cross_attention_frequency": 2, "force_image_size": None,
        "hidden_size": 64, "initializer_range": 0.02, "label_smoothing": 0.0, "num_query_token": 96,
        "use_backbone_lora": 0, "use_qllama_lora": 0,
        "qllama_config": {
            **old, "architectures": ["LlamaForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
            "hidden_act": "silu", "hidden_size": 64, "intermediate_size": 96, "max_position_embeddings": 2048,
            "model_type": "llama", "num_attention_heads": 4, "num_hidden_layers": 4, "num_key_value_heads": 4,
            "pretraining_tp": 1, "rms_norm_eps": 1e-06, "rope_scaling": None, "tie_word_embeddings": False,
            "use_cache": False, "vocab_size": len(WORDS),
        },
        "vision_config": {
            **old, "attention_dropout": 0.0, "drop_path_rate": 0.0, "dropout": 0.0, "hidden_act": "gelu",
            "hidden_size": 3200, "image_size": 56, "initializer_factor": 0.1, "intermediate_size": 64,
            "layer_norm_eps": 1e-06, "model_type": "intern_vit_6b", "num_attention_heads": 25, "num_channels": 3,
            "num_hidden_layers": 1, "patch_size": 14, "qk_normalization": True, "qkv_bias": False,
            "use_flash_attn": True,
        },
    }  # fmt: skip
