"""The queue: batches, one job cancelled or failing alone, seeds, deadlines, the bound, the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import torch

from huayu.chat import ChatModel, ChatOptions, Picture
from huayu.errors import Cancelled, ModelError, OutOfMemory, PromptError
from huayu.paint import Painted, PaintOptions, Progress
from huayu.serving.engine import BatchingEngine, Busy, ChatJob, DeadlineExceeded, PaintJob, Piece, Ticket
from huayu.serving.shelf import Shelf
from tests.serving.conftest import CHAT, EXAMPLES, PAINT

TABLE, DOG = (Picture.open(EXAMPLES / name) for name in ("table.png", "dog.png"))
QUESTION = "图里有什么？"


def in_engine(shelf: Shelf, work: Callable[[BatchingEngine], Awaitable[Any]], **limits: int) -> Any:
    async def run() -> Any:
        engine = BatchingEngine(shelf, **limits)
        try:
            return await work(engine)
        finally:
            await engine.drain(10)

    return asyncio.run(run())


@pytest.fixture(scope="module")
def chat(shelf: Shelf) -> ChatModel:
    with shelf.use(CHAT, "chat") as model:
        return model


async def taken(ticket: Ticket) -> tuple[str, Any]:
    text = "".join([event.text async for event in ticket])
    assert text == ticket.reply.text
    return text, ticket.reply.usage


def test_waiting_jobs_share_a_batch_and_get_their_own_answers(shelf: Shelf, chat: ChatModel) -> None:
    asked = [(TABLE, QUESTION), (DOG, QUESTION), (TABLE, "What is there?"), (DOG, "这是什么？")] * 2

    async def work(engine: BatchingEngine) -> Any:
        tickets = [await engine.submit(ChatJob(CHAT, question, (picture,))) for picture, question in asked]
        answers = [await taken(ticket) for ticket in tickets]
        return answers, engine.stats()

    answers, stats = in_engine(shelf, work)
    alone = [chat.ask(picture, question) for picture, question in asked]
    assert [text for text, _ in answers] == [reply.text for reply in alone]
    for (_, usage), reply in zip(answers, alone, strict=True):
        assert (usage.prompt_tokens, usage.completion_tokens) == (
            reply.usage.prompt_tokens,
            reply.usage.completion_tokens,
        )
    assert stats.rows == len(asked)
    assert stats.batches <= 3
    assert stats.queued == 0


def test_one_of_a_batch_is_cancelled_or_refused_alone(shelf: Shelf, chat: ChatModel) -> None:
    async def work(engine: BatchingEngine) -> Any:
        jobs = [ChatJob(CHAT, question, (TABLE,)) for question in (QUESTION, QUESTION, "  ", QUESTION)]
        tickets = [await engine.submit(job) for job in jobs]
        assert isinstance(await anext(tickets[1]), Piece)
        tickets[1].cancel()
        tickets[1].cancel()
        with pytest.raises(PromptError):
            await tickets[2].finished()
        return [await ticket.finished() for ticket in (tickets[0], tickets[1], tickets[3])]

    first, cancelled, last = in_engine(shelf, work)
    whole = chat.ask(TABLE, QUESTION).text
    assert first.text == last.text == whole
    assert cancelled.finish == "cancelled"
    assert len(cancelled.text) < len(whole)


@pytest.mark.parametrize("pieces", [0, 3])
def test_a_batch_that_does_not_fit_is_answered_in_halves(
    shelf: Shelf, chat: ChatModel, monkeypatch: pytest.MonkeyPatch, pieces: int
) -> None:
    """Memory for two rows at most, and none for a dog; it ends at once, or after some pieces were given."""
    real, sizes = chat.backend.generate, []
    whole = chat.ask(TABLE, QUESTION).text

    def generate(prompts: Any, settings: Any, cancel: Any) -> Iterator[Any]:
        sizes.append(len(prompts))
        small = len(prompts) <= 2 and dogs.isdisjoint(map(id, prompts))
        for number, piece in enumerate(real(prompts, settings, cancel)):
            if not small and number >= pieces:
                raise torch.OutOfMemoryError
            yield piece

    dogs: set[int] = set()
    prepare = chat.backend.prepare

    def marked(conversation: Any, question: str) -> Any:
        prompt = prepare(conversation, question)
        if conversation.pictures[0] is DOG:
            kept.append(prompt)
            dogs.add(id(prompt))
        return prompt

    kept: list[Any] = []
    monkeypatch.setattr(chat.backend, "generate", generate)
    monkeypatch.setattr(chat.backend, "prepare", marked)
    asked = [TABLE, TABLE, TABLE, DOG, TABLE]

    async def work(engine: BatchingEngine) -> Any:
        tickets = [await engine.submit(ChatJob(CHAT, QUESTION, (picture,))) for picture in asked]
        return await asyncio.gather(*map(taken, tickets), return_exceptions=True)

    answers = in_engine(shelf, work)
    assert [answer[0] for answer in answers if isinstance(answer, tuple)] == [whole] * 4
    assert isinstance(answers[3], OutOfMemory)
    assert max(sizes) > 2
    assert min(sizes) == 1


def test_a_job_cancelled_in_the_queue_leaves_it(shelf: Shelf) -> None:
    async def work(engine: BatchingEngine) -> None:
        running = await engine.submit(ChatJob(CHAT, QUESTION, (TABLE,)))
        await anext(running)
        waiting = await engine.submit(ChatJob(CHAT, QUESTION, (DOG,)))
        async with waiting:
            assert engine.stats().queued == 1
        assert engine.stats().queued == 0
        with pytest.raises(Cancelled):
            await waiting.finished()
        assert (await running.finished()).finish == "stop"

    in_engine(shelf, work)


def test_a_seed_draws_the_same_among_others(shelf: Shelf, chat: ChatModel) -> None:
    drawn = ChatOptions(search="sample", temperature=1.8, seed=5)

    async def work(engine: BatchingEngine) -> Any:
        tickets = [await engine.submit(ChatJob(CHAT, QUESTION, (TABLE,), options=drawn)) for _ in range(3)]
        return [(await ticket.finished()).text for ticket in tickets]

    texts = in_engine(shelf, work)
    assert set(texts) == {chat.ask(TABLE, QUESTION, options=drawn).text}
    assert texts[0] != chat.ask(TABLE, QUESTION, options=ChatOptions(search="sample", temperature=1.8, seed=6)).text


def test_a_full_queue_and_an_unknown_model_are_said_at_once(shelf: Shelf) -> None:
    async def work(engine: BatchingEngine) -> None:
        with pytest.raises(ModelError, match="no model called"):
            await engine.submit(ChatJob("nobody", QUESTION))
        with pytest.raises(ModelError, match="not a model for chat"):
            await engine.submit(ChatJob(PAINT, QUESTION))
        first = await engine.submit(ChatJob(CHAT, QUESTION, (TABLE,)))
        await anext(first)
        second = await engine.submit(ChatJob(CHAT, QUESTION, (TABLE,)))
        with pytest.raises(Busy) as busy:
            await engine.submit(ChatJob(CHAT, QUESTION, (TABLE,)))
        assert 1 <= busy.value.retry_after_s <= 60
        for ticket in (first, second):
            await ticket.finished()

    in_engine(shelf, work, max_queue=1)


def test_a_deadline_ends_a_job_that_waits_or_runs(shelf: Shelf) -> None:
    async def work(engine: BatchingEngine) -> None:
        long = ChatOptions(search="sample", temperature=5.0, max_new_tokens=1000)
        ticket = await engine.submit(ChatJob(CHAT, QUESTION, (TABLE,), options=long, timeout_s=0.05))
        with pytest.raises(DeadlineExceeded):
            await ticket.finished()
        assert ticket.cancelled.is_set()

    in_engine(shelf, work)


def test_draining_finishes_what_there_is_and_takes_no_more(shelf: Shelf) -> None:
    async def work() -> None:
        engine = BatchingEngine(shelf)
        tickets = [await engine.submit(ChatJob(CHAT, QUESTION, (TABLE,))) for _ in range(3)]
        await engine.drain(30)
        assert [(await ticket.finished()).finish for ticket in tickets] == ["stop"] * 3
        with pytest.raises(Busy) as busy:
            await engine.submit(ChatJob(CHAT, QUESTION))
        assert busy.value.closing
        impatient = BatchingEngine(shelf)
        drawn = ChatOptions(search="sample", temperature=5.0, max_new_tokens=1000)
        ticket = await impatient.submit(ChatJob(CHAT, QUESTION, (TABLE,), options=drawn))
        await anext(ticket)
        await impatient.drain(0)
        assert (await ticket.finished()).finish in ("cancelled", "stop")

    asyncio.run(work())


def test_painting_tells_its_progress_and_can_be_stopped(shelf: Shelf) -> None:
    async def work(engine: BatchingEngine) -> None:
        ticket = await engine.submit(PaintJob(PAINT, "一个红苹果", PaintOptions(seed=3)))
        kinds = [type(event) async for event in ticket]
        assert kinds.count(Painted) == 1
        assert kinds[0] is Progress
        assert ticket.result.seeds == [3]
        ticket = await engine.submit(PaintJob(PAINT, "一个红苹果", PaintOptions(n=8, steps=200)))
        await anext(ticket)
        ticket.cancel()
        assert (await ticket.finished()).finish == "cancelled"

    in_engine(shelf, work)
