"""What stays in front of documents of a template's text that a variable's value interrupts."""

from __future__ import annotations

import pytest

from promptcache.templates import whole_sentences


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("", ""),
        ("Question:", ""),
        ("Question: ", ""),
        ("Be brief.\nQuestion:", "Be brief."),
        ("Be brief.\n\n### Question\n\n", "Be brief."),
        ("Rules\n- be brief\n- be kind\n\n<question>\n", "Rules\n- be brief\n- be kind"),
        ("I need to find out the following. ", "I need to find out the following."),
        ('Say "Yes." or "No." to ', 'Say "Yes." or "No."'),
        ("Version 3.11 of ", ""),
        ("Use e.g. ", ""),
        ("Q. ", ""),
        ("Be brief.\n1. Question: ", "Be brief."),
        ("Be brief.\nQuestion:\n```\n", "Be brief."),
        ("Be brief.\n---\n\nQuestion\n---\n", "Be brief.\n---\n\nQuestion"),
        ("**Be brief.** Question:", "**Be brief.**"),
        ("Soyez bref.» Question:", "Soyez bref.»"),
        ("<rules>Be brief.</rules> <question>", "<rules>Be brief.</rules>"),
        ("你是助手。请根据文档回答。问题：", "你是助手。请根据文档回答。"),
        ("Are you there? Good! Then answer", "Are you there? Good!"),
        ("请简短回答。\n问题：", "请简短回答。"),
        ("Be brief.\r\nQuestion:", "Be brief."),
    ],
)  # fmt: skip
def test_a_label_or_an_unfinished_sentence_goes_with_the_value(text: str, whole: str) -> None:
    assert whole_sentences(text) == whole
