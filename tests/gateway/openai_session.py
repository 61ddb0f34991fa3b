"""What a program of OpenAI's client does with an endpoint. Run by the interpreter that has the client to try:
`python openai_session.py URL RELEASE`, the last line says which version it was. Uses nothing else of this repository.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Callable
from typing import Any

import openai


def user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def raised(kind: type[Exception], act: Callable[[], Any]) -> Any:
    try:
        act()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was expected")


def answers(client: openai.OpenAI, release: str) -> None:
    """Whole answers."""
    reply = client.chat.completions.create(model="town", messages=user("how much?"), temperature=0.2, user="u1")
    assert reply.object == "chat.completion" and reply.model == "town"
    assert reply.choices[0].message.role == "assistant"
    assert reply.choices[0].message.content == "you said: how much?" and reply.choices[0].finish_reason == "stop"
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens) == (2, 4, 6)
    assert reply.model_extra["modelyard"]["release"] == release
    assert reply.model_extra["modelyard"]["citations"][0]["page"] == 2
    parts = user([{"type": "text", "text": "in parts"}])
    assert client.chat.completions.create(model="town", messages=parts).choices[0].message.content.endswith("in parts")
    cut = client.chat.completions.create(model="town", messages=user("a b c d"), max_completion_tokens=3)
    assert cut.choices[0].finish_reason == "length" and cut.usage.completion_tokens == 3
    raw = client.chat.completions.with_raw_response.create(model="town", messages=user("hi"))
    assert raw.headers["modelyard-release"] == release and raw.parse()._request_id == raw.headers["x-request-id"]


def streams(client: openai.OpenAI) -> None:
    """Streamed answers, plain and by the client's own helper where it has one."""
    asked: dict[str, Any] = {"model": "town", "messages": user("a b c"), "stream": True}
    chunks = list(client.chat.completions.create(**asked, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "you said: a b c"
    assert chunks[0].choices[0].delta.role == "assistant" and len({c.id for c in chunks}) == 1
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens == 8
    assert all(c.usage is None for c in client.chat.completions.create(**asked))
    stream = getattr(client.chat.completions, "stream", None)
    if stream is not None:
        with stream(model="town", messages=user("once more")) as events:
            final = events.get_final_completion()
        assert final.choices[0].message.content == "you said: once more"


async def in_a_loop(url: str) -> None:
    """The asynchronous client, several at a time."""
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:

        async def ask(number: int) -> str:
            reply = await client.chat.completions.create(model="town", messages=user(f"number {number}"))
            return str(reply.choices[0].message.content)

        assert await asyncio.gather(*map(ask, range(12))) == [f"you said: number {i}" for i in range(12)]
        stream = await client.chat.completions.create(model="town", messages=user("x y"), stream=True)
        assert "".join([c.choices[0].delta.content or "" async for c in stream]) == "you said: x y"


def failures(client: openai.OpenAI, url: str) -> None:
    """Errors come as the types that programs catch."""

    def ask(content: Any, model: str = "town", **more: Any) -> Any:
        return client.chat.completions.create(model=model, messages=user(content), **more)

    missing = raised(openai.NotFoundError, lambda: ask("hi", model="gpt-9"))
    assert missing.status_code == 404 and missing.code == "not_found" and missing.param == "model"
    bad = raised(openai.BadRequestError, lambda: ask(" "))
    assert bad.type == "invalid_request_error" and "\n" not in bad.message
    assert raised(openai.BadRequestError, lambda: ask("hi", n=2)).param == "n"
    failed = raised(openai.InternalServerError, lambda: ask("bug"))
    assert failed.status_code == 500 and "secret" not in str(failed)
    late = raised(openai.APIError, lambda: list(ask("later-bug", stream=True)))
    assert "remote model went away" in late.message and late.code == "unavailable"
    # A secret that looks like one of this gateway's is refused also where none is asked for.
    secret = "my_0123456789_" + "A" * 43
    with openai.OpenAI(base_url=f"{url}/v1", api_key=secret, max_retries=0) as stranger:
        refused = raised(openai.AuthenticationError, stranger.models.list)
        assert refused.status_code == 401 and refused.type == "authentication_error" and secret not in str(refused)


def again(url: str) -> None:
    """The gateway says whether to try again, and the client does as it is told: see the counters of the test."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=2) as client:
        told = raised(
            openai.InternalServerError, lambda: client.chat.completions.create(model="town", messages=user("bug"))
        )
        assert told.response.headers["x-should-retry"] == "false"
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=1) as client:
        asked = user("later-bug")
        told = raised(openai.InternalServerError, lambda: client.chat.completions.create(model="town", messages=asked))
        assert told.status_code == 503 and told.response.headers["x-should-retry"] == "true"


def chained(url: str) -> str:
    """LangChain's ChatOpenAI, where it is installed."""
    if importlib.util.find_spec("langchain_openai") is None:
        return ""
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(base_url=f"{url}/v1", api_key="none", model="town", max_retries=0)
    answer = model.invoke([("system", "be brief"), ("human", "hello there")])
    assert answer.content == "you said: hello there" and answer.usage_metadata["total_tokens"] == 6
    assert answer.response_metadata["finish_reason"] == "stop"
    assert "".join(str(c.content) for c in model.stream("a b")) == "you said: a b"
    return ", langchain-openai"


def main(url: str, release: str) -> None:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        (model,) = client.models.list().data
        assert model.id == "town" and model.object == "model" and model.owned_by == "modelyard"
        answers(client, release)
        streams(client)
        failures(client, url)
    asyncio.run(in_a_loop(url))
    more = chained(url)
    again(url)
    print(f"openai {openai.__version__}{more}")


if __name__ == "__main__":
    main(*sys.argv[1:])
