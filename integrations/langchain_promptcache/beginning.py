"""What the plain-text prompts of a template have in front of their documents.

LangChain itself makes the prompt, with stand-ins for what is not known yet; so it does not matter
what kind of template it is. Knows nothing of chat templates.
"""

from __future__ import annotations

from itertools import takewhile
from typing import Any, get_origin

from langchain_core.messages import HumanMessage
from langchain_core.prompts import BasePromptTemplate

from promptcache.errors import TemplateError, valid
from promptcache.templates import whole_sentences

DOCUMENTS = "\ue000\ue001"
"""Stands for the documents. Private characters: no template has them, no filter changes them."""
OTHERS = ("\ue002", "\ue003\ue003\ue003")
"""Stand for other variables, in two prompts that are compared."""


def text_before_documents(prompt: BasePromptTemplate[Any], document_variable: str) -> str:
    """What every prompt of the template begins with: up to its documents, or the whole sentences
    up to another variable.

    Raises TemplateError for a template that has no such variable, that cannot be filled with
    text, or whose documents do not reach the prompt as they are.
    """
    names = set(getattr(prompt, "input_variables", ()))
    if document_variable not in names:
        raise TemplateError(
            f"the prompt has no variable {document_variable!r} for documents; name another with "
            f"document_variable=...{valid(document_variable, names, what='variables')}"
        )
    texts = [_filled(prompt, {document_variable: DOCUMENTS}, other) for other in OTHERS]
    if not all(DOCUMENTS in text for text in texts):
        raise TemplateError(
            f"the prompt does not put the variable {document_variable!r} into its text as it is, "
            "so documents could not be found there"
        )
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(*texts, strict=False))
    shared = "".join(character for character, _ in pairs)
    before, documents, _ = shared.partition(DOCUMENTS)
    if documents:
        return before
    return whole_sentences(before)


def _filled(prompt: BasePromptTemplate[Any], values: dict[str, Any], other: str) -> str:
    for name in prompt.input_variables:
        messages = get_origin(prompt.input_types.get(name)) is list
        values.setdefault(name, [HumanMessage(other)] if messages else other)
    try:
        return prompt.format_prompt(**values).to_string()
    except Exception as error:  # whatever a template does with text in place of its values
        raise TemplateError(
            f"the prompt cannot be made with text for its variables ({error}); cache documents "
            "without a prompt, and they are encoded after what the first prompt shows"
        ) from error
