"""Prompt Cache for LlamaIndex: an LLM that reuses the nodes of any engine's prompts.

from llama_index.core import Settings
from llama_index_promptcache import PromptCacheLLM

Settings.llm = PromptCacheLLM(model_name="pocket")
"""

try:
    import llama_index.core  # noqa: F401
except ImportError as error:
    raise ImportError(
        "llama_index_promptcache needs llama-index-core: pip install 'promptcache[llama-index]'"
    ) from error

from llama_index_promptcache.llm import PromptCacheLLM

__all__ = ["PromptCacheLLM"]
