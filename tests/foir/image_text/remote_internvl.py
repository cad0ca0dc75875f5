"""Code as InternVL-G's repository brings it: for an older transformers, so `post_init` is never called."""

from transformers.configuration_utils import PretrainedConfig
from transformers.modeling_utils import PreTrainedModel

from tests.lookalikes import InternVLike


class VisionConfig(PretrainedConfig):
    model_type = "intern_vit_6b"

    def __init__(self, image_size=224, patch_size=14, **kwargs):
        super().__init__(**kwargs)
        self.image_size, self.patch_size = image_size, patch_size


class InternVLConfig(PretrainedConfig):
    model_type = "internvl"

    def __init__(self, vision_config=None, **kwargs):
        super().__init__(**kwargs)
        self.vision_config = VisionConfig(**(vision_config or {}))


class InternVLModel(PreTrainedModel):
    config_class = InternVLConfig

    def __init__(self, config):
        super().__init__(config)
        InternVLike.add_parts(self)

    encode_image, encode_text = InternVLike.encode_image, InternVLike.encode_text
