"""Which examples a template's selectors chose while LangChain rendered it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from langchain_core.example_selectors import BaseExampleSelector
from langchain_core.messages import BaseMessage
from langchain_core.prompts import (
    ChatPromptTemplate,
    FewShotChatMessagePromptTemplate,
    FewShotPromptTemplate,
    FewShotPromptWithTemplates,
)

from langchain_promptcache.templates.strings import example_texts

FewShot = FewShotPromptTemplate | FewShotPromptWithTemplates | FewShotChatMessagePromptTemplate
FEW_SHOT = (FewShotPromptTemplate, FewShotPromptWithTemplates, FewShotChatMessagePromptTemplate)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Selected:
    """The texts of the examples of one selector, and what they are joined to."""

    texts: tuple[str, ...]
    joined: str


class _Listening(BaseExampleSelector):
    """Another selector, with its choices written down."""

    def __init__(self, template: FewShot, selected: list[Selected]) -> None:
        assert template.example_selector is not None
        self._selector = template.example_selector
        self._template = template
        self._selected = selected

    def add_example(self, example: dict[str, str]) -> Any:
        return self._selector.add_example(example)

    def select_examples(self, input_variables: dict[str, str]) -> list[dict[str, Any]]:
        return self._noted(self._selector.select_examples(input_variables))

    async def aselect_examples(self, input_variables: dict[str, str]) -> list[dict[str, Any]]:
        return self._noted(await self._selector.aselect_examples(input_variables))

    def _noted(self, examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
        template = self._template
        if isinstance(template, FewShotChatMessagePromptTemplate):
            names, separator = template.example_prompt.input_variables, ""
            given = [{name: example[name] for name in names} for example in examples]
            messages = [m for e in given for m in template.example_prompt.format_messages(**e)]
            texts = [_text(message) for message in messages]
        else:
            texts, separator = example_texts(template, examples) or [], template.example_separator
        self._selected.append(Selected(tuple(texts), separator.join(texts)))
        return examples


def listening(template: T, selected: list[Selected]) -> T:
    """A template that renders the same and appends each selector's choice to `selected`.

    It is the template itself where there is no selector in it.
    """
    changed: Any = template
    if isinstance(template, FEW_SHOT) and template.example_selector is not None:
        selector = _Listening(template, selected)
        changed = template.model_copy(update={"example_selector": selector})
    elif isinstance(template, ChatPromptTemplate):
        messages = [listening(message, selected) for message in template.messages]
        if any(a is not b for a, b in zip(messages, template.messages, strict=True)):
            changed = template.model_copy(update={"messages": messages})
    elif isinstance(prompt := getattr(template, "prompt", None), list):
        prompts = [listening(each, selected) for each in prompt]
        if any(a is not b for a, b in zip(prompts, prompt, strict=True)):
            changed = template.model_copy(update={"prompt": prompts})  # type: ignore[attr-defined]
    elif prompt is not None and (heard := listening(prompt, selected)) is not prompt:
        changed = template.model_copy(update={"prompt": heard})  # type: ignore[attr-defined]
    return changed  # type: ignore[no-any-return]


def _text(message: BaseMessage) -> str:
    return message.content if isinstance(message.content, str) else ""
