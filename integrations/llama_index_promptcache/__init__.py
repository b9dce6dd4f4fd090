"""Prompt Cache for LlamaIndex: an LLM that reuses the nodes of every engine's prompts.

from llama_index.core import Settings
from llama_index_promptcache import PromptCacheLLM

Settings.llm = PromptCacheLLM(model_name="pocket")
"""

from importlib.util import find_spec

from promptcache.errors import MissingExtraError

if find_spec("llama_index") is None or find_spec("llama_index.core") is None:
    raise MissingExtraError("llama_index_promptcache", "llama-index")

from llama_index_promptcache.encoder import PromptCacheEncoder
from llama_index_promptcache.llm import PromptCacheLLM
from llama_index_promptcache.observe import observe_retrievers
from llama_index_promptcache.postprocessor import PromptCachePostprocessor
from llama_index_promptcache.prompt_helper import WholeNodePromptHelper
from llama_index_promptcache.templates import schema_from_prompt

__all__ = [
    "PromptCacheEncoder",
    "PromptCacheLLM",
    "PromptCachePostprocessor",
    "WholeNodePromptHelper",
    "observe_retrievers",
    "schema_from_prompt",
]
