"""The captioner: vocabulary, pooling, batches."""

import torch

from foir.mini import captioner


def test_words_of_captions():
    assert captioner.tokens("A dog's ball , two-faced 3rd.") == ["a", "dog's", "ball", "two", "faced", "3rd"]
    known = captioner.vocabulary(["a dog", "a cat", "a dog"], min_count=2)
    assert known == [*captioner.SPECIAL, "a", "dog"]
    writer = captioner.Captioner(known)
    assert writer.encode("a cat") == [captioner.START, 3, captioner.UNKNOWN, captioner.END]
    assert len(writer.encode("a " * 99)) == captioner.MAX_WORDS + 1


def test_captions_of_a_batch_are_captions_alone():
    torch.manual_seed(3)
    writer = captioner.Captioner([*captioner.SPECIAL, *(f"w{i}" for i in range(40))]).eval()
    pictures = torch.randn(3, 20, captioner.IMAGE_WIDTH)
    together = writer.generate(pictures)
    assert together == [writer.generate(picture[None])[0] for picture in pictures]
    assert all(word not in line for line in together for word in captioner.SPECIAL)


def test_the_pooler_is_plain_attention():
    torch.manual_seed(1)
    pooler = captioner.Pooler().eval()
    picture = torch.randn(2, 9, captioner.IMAGE_WIDTH)
    with torch.inference_mode():
        keys = pooler.norm_keys(picture)
        q, k, v = pooler.q_proj(pooler.norm_queries(pooler.queries)), pooler.k_proj(keys), pooler.v_proj(keys)
        width = captioner.WIDTH // captioner.HEADS
        heads = []
        for i in range(captioner.HEADS):
            part = slice(i * width, (i + 1) * width)
            weights = (q[:, part] @ k[..., part].transpose(1, 2) / width**0.5).softmax(-1)
            heads.append(weights @ v[..., part])
        y = pooler.queries + pooler.o_proj(torch.cat(heads, -1))
        torch.testing.assert_close(pooler(picture), y + pooler.ffn(pooler.norm(y)), atol=1e-5, rtol=1e-5)
