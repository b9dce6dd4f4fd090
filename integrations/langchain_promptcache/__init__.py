"""Prompt Cache for LangChain: a chat model that reuses the documents of a chain's prompts.

from langchain_promptcache import ChatPromptCache

llm = ChatPromptCache(model="pocket")
llm.cache_documents(documents, prompt=prompt)
chain = create_retrieval_chain(retriever, create_stuff_documents_chain(llm, prompt))
"""

from importlib.util import find_spec

from promptcache.errors import MissingExtraError

if find_spec("langchain_core") is None:
    raise MissingExtraError("langchain_promptcache", "langchain")

from langchain_promptcache.chat_model import ChatPromptCache
from langchain_promptcache.index import PromptModuleIndex
from langchain_promptcache.llm import PromptCacheLLM
from langchain_promptcache.observe import observe_retrievers
from langchain_promptcache.pml_template import PMLPromptTemplate
from langchain_promptcache.retriever import PromptCacheRetriever
from langchain_promptcache.templates import schema_from_prompt, translate
from langchain_promptcache.transformer import PromptModuleTransformer

__all__ = [
    "ChatPromptCache",
    "PMLPromptTemplate",
    "PromptCacheLLM",
    "PromptCacheRetriever",
    "PromptModuleIndex",
    "PromptModuleTransformer",
    "observe_retrievers",
    "schema_from_prompt",
    "translate",
]
