"""What an engine has: listed by name, and gone when it is forgotten."""

from __future__ import annotations

from support.rag import tiny_engine

TEXT = "The lighthouse of Arven is 31 metres tall and painted white."
SCHEMA = '<schema name="trip"><module name="miami">Miami is hot.</module></schema>'


def asked(text: str) -> list[dict[str, object]]:
    return [{"role": "user", "content": text}]


def test_modules_of_every_kind_are_listed_and_forgotten_by_name() -> None:
    engine = tiny_engine()
    engine.cache_documents([TEXT], progress=False)
    engine.add_schema(SCHEMA)
    block = {"type": "text", "text": "Mira Tollen plays the viola."}
    marked = {**block, "cache_control": {"type": "ephemeral"}}
    engine.generate_messages(asked(f"Read: {TEXT}"), max_new_tokens=1)
    engine.generate_messages([{"role": "user", "content": [marked]}], max_new_tokens=1)
    listed = engine.holdings.listed()
    assert [module.tokens for module in listed if module.name == "trip.miami"] == [13]
    assert sorted(module.tokens for module in listed) == [13, 28, 60]
    assert {module.key for module in listed} < set(engine.store.keys())
    assert {module.begins for module in listed} == {"", TEXT, block["text"]}
    for module in listed:
        kv = engine.store.get(module.key)
        assert kv is not None
        assert module.places == {"memory": kv.nbytes}
    for module in listed:
        assert engine.holdings.forget(module.name)
        assert engine.store.get(module.key) is None
    assert engine.holdings.listed() == []
    assert not engine.holdings.forget("trip.miami")


def test_a_forgotten_document_is_recognised_no_longer_marked_or_not() -> None:
    engine = tiny_engine()
    engine.cache_documents([TEXT], progress=False)
    block = {"type": "text", "text": "Mira Tollen plays the viola in Ostmark."}
    marked = {**block, "cache_control": {"type": "ephemeral"}}
    for content in (f"Read: {TEXT}", [marked]):
        engine.generate_messages([{"role": "user", "content": content}], max_new_tokens=1)
    for module in engine.holdings.listed():
        engine.holdings.forget(module.name)
    for content in (f"Read: {TEXT}", [block]):
        messages = [{"role": "user", "content": content}]
        trace = engine.generate_messages(messages, max_new_tokens=1).trace
        assert [span.module for span in trace if span.module not in (None, "conversation")] == []


def test_a_forgotten_module_of_a_schema_is_encoded_when_it_is_next_imported() -> None:
    engine = tiny_engine()
    engine.add_schema(SCHEMA)
    prompt = '<prompt schema="trip"><miami/>Go?</prompt>'
    before = engine.generate(prompt, max_new_tokens=4)
    assert engine.holdings.forget("miami")
    after = engine.generate(prompt, max_new_tokens=4)
    assert (before.usage.encoded, after.usage.encoded) == (0, 13)
    assert after.token_ids == before.token_ids
