"""``import huayu.hf`` lets the Auto classes of transformers open huayu's model folders."""

from __future__ import annotations

from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
)

from huayu.models.beit3 import Beit3Config, Beit3Model
from huayu.models.chatglm import ChatGLMConfig, ChatGLMForCausalLM, ChatGLMModel, ChatGLMTokenizer
from huayu.models.cpm_bee import CpmBeeConfig, CpmBeeForCausalLM, CpmBeeModel, CpmBeeTokenizer
from huayu.models.llava_queries import (
    LlavaQueriesConfig,
    LlavaQueriesForConditionalGeneration,
    LlavaQueriesModel,
)
from huayu.models.viscpm_chat import (
    VisCPMChatConfig,
    VisCPMChatForConditionalGeneration,
    VisCPMChatProcessor,
    VisCPMImageProcessor,
)
from huayu.models.visualglm import (
    VisualGLMConfig,
    VisualGLMForConditionalGeneration,
    VisualGLMImageProcessor,
    VisualGLMProcessor,
)
from huayu.models.visualglm.hub import ByContents, PublishedConfig, PublishedModel

for config in (Beit3Config, CpmBeeConfig, LlavaQueriesConfig, VisCPMChatConfig, ByContents, VisualGLMConfig):
    AutoConfig.register(config.model_type, config, exist_ok=True)
AutoModel.register(Beit3Config, Beit3Model, exist_ok=True)
AutoModel.register(CpmBeeConfig, CpmBeeModel, exist_ok=True)
AutoModel.register(LlavaQueriesConfig, LlavaQueriesModel, exist_ok=True)
AutoModel.register(VisCPMChatConfig, VisCPMChatForConditionalGeneration, exist_ok=True)
AutoModel.register(ChatGLMConfig, ChatGLMModel, exist_ok=True)
AutoModel.register(VisualGLMConfig, VisualGLMForConditionalGeneration, exist_ok=True)
AutoModel.register(PublishedConfig, PublishedModel, exist_ok=True)
AutoModelForCausalLM.register(CpmBeeConfig, CpmBeeForCausalLM, exist_ok=True)
AutoModelForCausalLM.register(ChatGLMConfig, ChatGLMForCausalLM, exist_ok=True)
AutoModelForImageTextToText.register(LlavaQueriesConfig, LlavaQueriesForConditionalGeneration, exist_ok=True)
AutoModelForImageTextToText.register(VisCPMChatConfig, VisCPMChatForConditionalGeneration, exist_ok=True)
AutoModelForImageTextToText.register(VisualGLMConfig, VisualGLMForConditionalGeneration, exist_ok=True)
AutoModelForImageTextToText.register(PublishedConfig, PublishedModel, exist_ok=True)
for config in (CpmBeeConfig, VisCPMChatConfig):
    AutoTokenizer.register(config, slow_tokenizer_class=CpmBeeTokenizer, exist_ok=True)
for config in (ChatGLMConfig, VisualGLMConfig):
    AutoTokenizer.register(config, slow_tokenizer_class=ChatGLMTokenizer, exist_ok=True)
AutoImageProcessor.register(VisualGLMConfig, slow_image_processor_class=VisualGLMImageProcessor, exist_ok=True)
AutoProcessor.register(VisualGLMConfig, VisualGLMProcessor, exist_ok=True)
AutoImageProcessor.register(VisCPMChatConfig, slow_image_processor_class=VisCPMImageProcessor, exist_ok=True)
AutoProcessor.register(VisCPMChatConfig, VisCPMChatProcessor, exist_ok=True)
