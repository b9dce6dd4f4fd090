"""A real server process: clients of others, unmodified; its end, sudden or asked for."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
from langchain_openai import ChatOpenAI
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike
from openai import OpenAI

from promptcache.server.keys import add_key
from support.serving import CHAT, marked

MUSEUM = "The Halvern Museum was founded in 1931. It stands in the town of Orlec."
BRIDGE = "The Orlec Bridge is 412 metres long. Its colour is dark green."
QUESTION = "When was the Halvern Museum founded?"
ASKED = f"{MUSEUM}\n\n{BRIDGE}\n\n{QUESTION}"
SCHEMA = (
    '<schema name="library"><system>Answer from the documents.</system><user>'
    f'<module name="museum">{MUSEUM}</module><module name="bridge">{BRIDGE}</module>'
    "</user></schema>"
)
PROMPT = f'<prompt schema="library"><bridge/><museum/>{QUESTION}</prompt>'
COMMAND = [sys.executable, "-c", "from promptcache.cli import main; main()"]


@dataclass
class Server:
    """A server in a process of its own. `log` is what it has said."""

    process: subprocess.Popen[str]
    key: str
    url: str = ""
    log: str = ""

    def __enter__(self) -> Server:
        self._reader = Thread(target=self._read)
        self._reader.start()
        while not self.url and self._reader.is_alive():
            time.sleep(0.05)
        assert self.url, self.log
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log += line
            if found := re.search(r"running on (http://\S+)", line):
                self.url = found[1]

    def client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)


def started(folder: Path) -> Server:
    """A server with the pocket model, a store and a key in `folder`."""
    key = add_key(folder / "keys", "team")
    given = ["--port", "0", "--keys", str(folder / "keys"), "--store", str(folder / "store")]
    process = subprocess.Popen(
        [*COMMAND, "serve", "pocket", *given],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return Server(process, key)


def with_openai(server: Server) -> None:
    messages: Any = [{"role": "user", "content": ASKED}]
    with OpenAI(base_url=f"{server.url}/v1", api_key=server.key) as client:
        assert [model.id for model in client.models.list()] == ["pocket"]
        said = client.chat.completions.create(
            model="pocket", messages=messages, max_tokens=16, temperature=0
        )
        chunks = list(
            client.chat.completions.create(
                model="pocket",
                messages=messages,
                max_tokens=16,
                temperature=0,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        text = client.completions.create(model="pocket", prompt=MUSEUM, max_tokens=4)
    assert said.choices[0].message.content == "1931"
    assert said.usage is not None
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "1931"
    took = chunks[-1].usage
    assert took is not None
    assert took.prompt_tokens == said.usage.prompt_tokens
    assert took.prompt_tokens_details is not None
    assert (took.prompt_tokens_details.cached_tokens or 0) > 0
    assert text.usage is not None
    assert 0 < text.usage.completion_tokens <= 4


def with_langchain(server: Server) -> None:
    llm = ChatOpenAI(
        model="pocket", base_url=f"{server.url}/v1", api_key=server.key, temperature=0,
        max_tokens=16, stream_usage=True,
    )  # fmt: skip
    said = llm.invoke(ASKED)
    assert said.content == "1931"
    assert said.usage_metadata is not None
    assert said.usage_metadata["input_token_details"]["cache_read"] > 0
    chunks = list(llm.stream(ASKED))
    assert "".join(str(chunk.content) for chunk in chunks) == "1931"
    assert sum(c.usage_metadata["input_tokens"] for c in chunks if c.usage_metadata) > 0


def with_llama_index(server: Server) -> None:
    llm = OpenAILike(
        model="pocket", api_base=f"{server.url}/v1", api_key=server.key, temperature=0,
        max_tokens=16, is_chat_model=True, context_window=1024,
    )  # fmt: skip
    messages = [ChatMessage(role="user", content=ASKED)]
    assert llm.chat(messages).message.content == "1931"
    assert llm.complete(ASKED).text == "1931"
    *_, last = llm.stream_chat(messages)
    assert last.message.content == "1931"


def with_clients_that_hang_up(server: Server) -> None:
    body = {"messages": [{"role": "user", "content": "Tell."}], "stream": True, "max_tokens": 900}
    with server.client() as client:
        for _ in range(6):  # more than there are places
            with client.stream("POST", CHAT, json=body) as response:
                next(response.iter_lines())
        said = client.post(CHAT, json={**body, "stream": False, "max_tokens": 2})
    assert said.status_code == 200


def test_unmodified_clients_work_streaming_and_not(tmp_path: Path) -> None:
    with started(tmp_path) as server:
        with_openai(server)
        with_langchain(server)
        with_llama_index(server)
        with_clients_that_hang_up(server)


def with_a_long_answer(client: httpx.Client) -> dict[str, object]:
    """A completion of more than a hundred tokens: which seed gives one is the weights' to say."""
    for seed in range(100):
        body = {"prompt": "The", "max_tokens": 300, "temperature": 2, "seed": seed}
        said = client.post("/v1/completions", json=body).json()
        if said["usage"]["completion_tokens"] > 100:
            return body
    raise AssertionError("no seed makes a long answer")


def test_a_killed_server_reuses_what_was_on_the_disk_and_a_stopped_one_finishes(
    tmp_path: Path,
) -> None:
    body = {"prompt": PROMPT, "max_tokens": 16, "temperature": 0}
    content = [marked(MUSEUM), marked(BRIDGE)]
    chat = {"messages": [{"role": "user", "content": content}], "max_tokens": 4, "trace": True}
    with started(tmp_path) as server, server.client() as client:
        assert client.put("/v1/schemas/library", content=SCHEMA).is_success
        before = client.post("/v1/pml", json=body).json()
        client.post(CHAT, json=chat)
        keys = [module["key"] for module in client.get("/v1/modules").json()["data"]]
        files = [tmp_path / "store" / f"{key}.kv.safetensors" for key in keys]
        while not all(file.exists() for file in files):
            time.sleep(0.05)
        server.process.send_signal(signal.SIGKILL)
    with started(tmp_path) as server, server.client() as client:
        assert client.put("/v1/schemas/library?encode=false", content=SCHEMA).is_success
        after = client.post("/v1/pml", json=body).json()
        again = client.post(CHAT, json=chat).json()["promptcache"]
        assert after["text"] == before["text"] == "1931"
        assert after["usage"]["encoded"] == again["usage"]["encoded"] == 0
        assert {span["tier"] for span in after["trace"] if span["module"]} == {"disk"}
        long = with_a_long_answer(client)
        with client.stream("POST", "/v1/completions", json={**long, "stream": True}) as response:
            lines = response.iter_lines()
            next(lines)
            server.process.send_signal(signal.SIGTERM)
            *rest, last, done = [line for line in lines if line]
        assert len(rest) > 30
        assert done == "data: [DONE]"
        assert '"finish_reason":"' in last
        assert server.process.wait(60) == 0, server.log
