"""VisualGLM behind ``load_chat`` and behind its published methods."""

from __future__ import annotations

import pytest

from huayu.chat import ChatOptions, load_chat
from huayu.chat.model import ChatModel
from huayu.chat.visualglm import VisualGLMBackend, _Text
from huayu.errors import ImageError, PromptError
from huayu.generation.glm_sampling import GLMSampling
from huayu.models.chatglm.prompts import process_response
from tests.models.visualglm import tiny

GREEDY = ChatOptions(search="greedy", max_new_tokens=8)


@pytest.fixture(scope="module")
def model():
    return tiny.model()


@pytest.fixture(scope="module")
def processor():
    return tiny.processor()


@pytest.fixture(scope="module")
def chat(model, processor):
    return ChatModel(VisualGLMBackend(model, processor, name="tiny", defaults=GREEDY))


@pytest.fixture
def red():
    return tiny.pictures()[0]


def expected(model, processor, picture, question, history=(), english=False, steps=8):
    """What the model says by the library's own loop."""
    inputs = processor(images=picture, text=question, history=[history], english=english)
    banned = list(range(tiny.ROWS, tiny.ROWS + 4))
    out = model.generate(**inputs, max_new_tokens=steps, do_sample=False, suppress_tokens=banned)
    return processor.decode_answer(out[0, inputs["input_ids"].shape[1] :])


def test_an_answer_is_the_models_and_goes_on(chat, model, processor, red):
    first = chat.ask(red, "图中有几个人？")
    assert first.text == expected(model, processor, red, "图中有几个人？")
    second = chat.ask(None, "它能吃吗？", conversation=first.conversation)
    history = [("图中有几个人？", first.text)]
    assert second.text == expected(model, processor, red, "它能吃吗？", history)
    assert second.conversation.turns[1].answer == second.text


def test_english_is_asked_in_english(chat, model, processor, red):
    asked = chat.ask(red, "How many?").text
    assert asked == expected(model, processor, red, "How many?", english=True)
    assert asked != expected(model, processor, red, "How many?")


@pytest.mark.parametrize(
    "options", [GREEDY, ChatOptions(search="sample", temperature=1.5, seed=3), ChatOptions(num_beams=3)]
)
def test_streamed_is_whole_and_a_batch_is_its_rows(chat, red, options):
    questions = ["图中有几个人？", "你好", "这是什么东西"]
    pictures = [red, None, tiny.pictures()[1]]
    for picture, question in zip(pictures, questions, strict=True):
        streamed = "".join(chat.stream(picture, question, options=options))
        assert streamed == chat.ask(picture, question, options=options).text
    if options.search != "sample":  # rows of a batch draw other numbers
        replies = chat.ask_batch(list(zip(pictures, questions, strict=True)), options=options)
        assert [r.text for r in replies] == [
            chat.ask(p, q, options=options).text for p, q in zip(pictures, questions, strict=True)
        ]


def test_the_same_seed_says_the_same_and_min_p_is_used(chat, red):
    hot = {"search": "sample", "temperature": 3.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": 12}
    once, again, other = (chat.ask(red, "你好", options=ChatOptions(**hot, seed=seed)).text for seed in (1, 1, 2))
    assert once == again != other
    sure = chat.ask(red, "你好", options=ChatOptions(**hot, seed=1, min_p=1.0)).text
    assert sure == chat.ask(red, "你好", options=ChatOptions(search="greedy", max_new_tokens=12)).text


def test_a_picture_is_read_once(model, processor, red, monkeypatch):
    chat, looks = ChatModel(VisualGLMBackend(model, processor, name="tiny", defaults=GREEDY)), []
    whole = model.get_image_features
    monkeypatch.setattr(model, "get_image_features", lambda pixels: looks.append(1) or whole(pixels))
    reply = chat.ask(red, "你好")
    chat.ask(None, "图中有几个人？", conversation=reply.conversation)
    chat.ask(red.copy(), "你好")
    assert looks == [1]


def test_a_second_picture_and_a_long_question_are_refused_in_words(chat, red):
    reply = chat.ask(red, "你好")
    with pytest.raises(PromptError, match="one picture"):
        chat.ask(tiny.pictures()[1], "你好", conversation=reply.conversation)
    with pytest.raises(PromptError, match=r"\d+ tokens; the model takes 128"):
        chat.ask(red, "人" * 200)


def test_the_oldest_turns_leave_first(chat, red):
    reply = chat.ask(red, "你好" * 6)
    for _ in range(5):
        reply = chat.ask(None, "你好" * 6, conversation=reply.conversation)
    assert reply.dropped_turns > 0


@pytest.mark.parametrize("text", ["真的?! 是 ,不", "don 't stop .", "[[训练时间]]的, ok?是", "a  \n人:b;c!"])
def test_nothing_that_was_shown_is_taken_back(processor, text):
    ids = processor.tokenizer.encode(text, add_special_tokens=False)
    stream = _Text(processor.tokenizer)
    pieces = [stream.feed(ids[:end], last=end == len(ids)) for end in range(1, len(ids) + 1)]
    assert "".join(pieces) == process_response(processor.tokenizer.decode(ids))
    assert sum(map(bool, pieces)) > 1


@pytest.mark.parametrize("form", ["folder", "hf", "sat"])
def test_load_chat_opens_ours_and_both_published_forms(model, processor, red, form, tmp_path):
    from huayu.checkpoints.convert import convert

    model.save_pretrained(tmp_path / "ours")
    processor.save_pretrained(tmp_path / "ours")
    folder = tmp_path / "ours"
    if form != "folder":
        folder = convert(folder, tmp_path / form, to=form).path
    chat = load_chat(folder, vocab=None if form == "folder" else tiny.VOCABULARY)
    assert isinstance(chat.backend, VisualGLMBackend)
    options = ChatOptions(search="greedy", max_new_tokens=8)
    assert chat.ask(red, "图中有几个人？", options=options).text == expected(model, processor, red, "图中有几个人？")


def test_model_chat_as_published(model, processor, red, tmp_path):
    red.save(tmp_path / "a.png")
    path, tokenizer = str(tmp_path / "a.png"), processor.tokenizer
    answer, history = model.chat(tokenizer, path, "描述这张图片。", history=[], do_sample=False, max_length=40)
    assert history == [("描述这张图片。", answer)]
    steps = list(model.stream_chat(tokenizer, path, "描述这张图片。", do_sample=False, max_length=40))
    assert steps[-1] == (answer, history)
    prompt = processor.chat_prompt("描述这张图片。", picture=True)
    assert len(steps) <= 40 - len(prompt.ids)
    again, longer = model.chat(tokenizer, path, "你好", history=history, do_sample=False, max_length=60)
    assert longer == [*history, ("你好", again)]
    text, _ = model.chat(tokenizer, "", "你好", do_sample=False, max_length=30)
    assert text == model.chat(tokenizer, None, "你好", do_sample=False, max_length=30)[0]
    assert text != model.chat(tokenizer, red, "你好", do_sample=False, max_length=30)[0]


def test_model_chat_samples_in_both_published_orders(model, processor, red):
    settings = {"max_length": 60, "temperature": 2.0, "top_p": 0.3, "top_k": 0, "seed": 5}
    hf, sat = (model.chat(processor.tokenizer, red, "你好", mode=mode, **settings)[0] for mode in ("hf", "sat"))
    assert hf == model.chat(processor.tokenizer, red, "你好", **settings)[0]
    assert hf != sat
    with pytest.raises(ValueError, match="mode"):
        model.chat(processor.tokenizer, red, "你好", mode="both")
    assert GLMSampling().top_k == 100


def test_model_chat_refuses_in_words(model, processor, tmp_path):
    with pytest.raises(PromptError, match="max_length is 5"):
        model.chat(processor.tokenizer, "", "你好", max_length=5)
    with pytest.raises(ImageError):
        model.chat(processor.tokenizer, str(tmp_path / "none.png"), "你好")
    with pytest.raises(TypeError, match="wheels"):
        model.chat(processor.tokenizer, "", "你好", wheels=4)


def test_typed_tags_count_only_when_strict(model, processor, red):
    settings = {"do_sample": False, "max_length": 40}
    plain = model.chat(processor.tokenizer, red, "<sop>你好", **settings)[0]
    strict = model.chat(processor.tokenizer, red, "<sop>你好", strict=True, **settings)[0]
    assert plain != strict
    assert (
        model.chat(processor.tokenizer, red, "你好", strict=True, **settings)[0]
        == (model.chat(processor.tokenizer, red, "你好", **settings)[0])
    )


def test_the_published_chain_of_calls(model, processor, red, tmp_path):
    from transformers import AutoModel, AutoTokenizer

    import huayu.hf  # noqa: F401 (its classes are known to the library)
    from huayu.quantization import is_quantized

    red.save(tmp_path / "a.png")
    model.save_pretrained(tmp_path / "glm")
    processor.save_pretrained(tmp_path / "glm")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "glm", trust_remote_code=True)
    plain = AutoModel.from_pretrained(tmp_path / "glm", trust_remote_code=True)
    settings = {"do_sample": False, "max_length": 50}
    asked = (tokenizer, str(tmp_path / "a.png"), "描述这张图片。")
    assert plain.chat(*asked, history=[], **settings) == model.chat(*asked, history=[], **settings)
    packed = plain.quantize(8).half()
    assert is_quantized(packed)
    answer, history = packed.chat(*asked, history=[], **settings)
    assert len(packed.chat(tokenizer, "", "你好", history=history, **{**settings, "max_length": 100})[1]) == 2
    assert answer
