"""The stages of the embedded model on a handful of drawings: each learns something, and each hands on to the next."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from huayu import embedded
from huayu.chat import load_chat
from huayu.data import mini_vocabulary
from huayu.data.sprites import Sprites
from huayu.errors import ModelError
from huayu.training.mini_chat import join, language, reading, rows, telling, vision
from huayu.training.mini_chat.families import FAMILIES, Family, open_family
from huayu.training.mini_chat.scoring import right_answers
from tests.data.sprites_fixture import some_sprites


@pytest.fixture
def drawings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fixture's drawings in place of the downloaded ones."""
    monkeypatch.setattr(Sprites, "load", lambda path: some_sprites())
    for module in (vision, language, join):
        monkeypatch.setattr(module, "sprites_file", lambda folder: Path(folder))


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path: Path) -> Family:
    return open_family(request.param, str(tmp_path / "words" / request.param))


def test_only_known_families(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="viscpm_chat, visualglm"):
        open_family("llava", str(tmp_path / "words"))


@pytest.mark.parametrize("name", FAMILIES)
def test_batches_depend_on_seed_and_index_only(drawings: None, tmp_path: Path, name: str) -> None:
    first, second = (language.LanguageStage(family=name, vocabulary=str(tmp_path / "words")) for _ in range(2))
    again, other = second.batch(3, 6), second.batch(4, 6)
    batch = first.batch(3, 6)
    assert all(torch.equal(batch[name], again[name]) for name in batch)
    assert not torch.equal(batch["slots"], other["slots"])


@pytest.mark.parametrize("name", FAMILIES)
def test_parts_of_like_length_give_the_loss_of_the_whole(
    drawings: None, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = language.LanguageStage(family=name, vocabulary=str(tmp_path / "words"))
    module = stage.module().eval()
    batch = stage.batch(0, 20)
    with torch.no_grad():
        _, parts = stage.loss(module, batch)
        monkeypatch.setattr(telling, "like_lengths", lambda rows: [(rows, torch.tensor(1.0))])
        whole, _ = module(batch)
    assert torch.allclose(whole, parts["answer"], atol=1e-5)
    by_length = batch["attention_mask"].sum(1).argsort()
    of_rows = {
        name: value[by_length] for name, value in batch.items() if name in ("labels", "input_ids", "attention_mask")
    }
    widths = [part["input_ids"].shape[1] for part, _ in rows.like_lengths(of_rows, 5)]
    assert widths[0] < widths[-1] == batch["input_ids"].shape[1]


def test_rows_are_right_in_the_order_in_which_they_came(drawings: None, tmp_path: Path) -> None:
    stage = language.LanguageStage(vocabulary=str(tmp_path / "words"))
    module = stage.module().eval()
    batch = stage.batch(0, 40)
    last = batch["attention_mask"].sum(1).argmax()
    only = torch.arange(40) == last
    batch["labels"] = torch.where(only[:, None], -100, batch["labels"])  # nothing to learn, nothing to miss
    batch["labels"][only, 0] = -100
    with torch.no_grad():
        assert torch.equal(module(batch, loss_only=False)[0], only)


def test_a_thing_looks_like_its_names(family: Family) -> None:
    from huayu.data import world

    names = language.names_of(family)["class"]
    dog = names[1 + world.concept_ids()["dog"]]
    assert dog[family.encode(" dog")] == 0.5
    assert dog[family.encode("狗")] == 0.5
    assert dog.sum() == 1
    assert names[0].sum() == names[-1].sum() == 0, "nothing and strangers have no name"


def test_disturbed_slots_stay_shares(drawings: None) -> None:
    rng = np.random.default_rng(0)
    slots = np.zeros((16, 152), np.float32)
    slots[:, 0] = 1
    slots[3, 0], slots[3, 7] = 0.2, 0.8
    for _ in range(30):
        seen = rows.disturb(rng, slots)
        assert seen.min() >= 0
        assert np.allclose(seen.sum(1), 1, atol=1e-5)
        assert seen[3, 7] > 0.3


def test_what_is_to_be_read_in_a_scene_is_where_it_stands(drawings: None, family: Family) -> None:
    from huayu.data.layouts import Scene, Thing, oracle_slots

    left, right = Thing(0, 0, -1, 0.2, 0.5, 0.4), Thing(5, 0, -1, 0.8, 0.5, 0.4)
    scene = Scene(0, (left, right))
    slots, _ = oracle_slots(scene)
    labels = reading.reading_labels([scene, scene], [slots, slots], [(0,), (), (1, 0)])
    grid = labels["order"][0].view(4, 4)
    assert set(grid[:, 0].tolist()) <= {0, -100}
    assert set(grid[:, 3].tolist()) <= {1, -100}
    assert grid[1, 0] == 0
    assert grid[1, 3] == 1
    assert labels["sides"][0].view(4, 4, 4)[1, 0].tolist() == [1, 0, 0, 0], "leftmost; neither is above the other"
    assert labels["pictures_shown"].tolist() == [1, 0, 2]
    assert labels["count"][2].tolist() == [1, 1], "two things in each, counted from one"


def test_a_name_is_known_by_its_last_words(family: Family) -> None:
    from huayu.data import world

    named, ids = reading.Nouns(family), world.concept_ids()
    for text, key in (
        (" dog", "dog"),
        ("狗", "dog"),
        ("面包", "bread"),
        ("红包", "redenvelope"),
        (" mobile phone", "phone"),
    ):
        assert named(torch.tensor([family.encode(text)]))[0, -1] == 1 + ids[key], text
    assert not named(torch.tensor([family.encode("包"), [-100]])).any(), "the end of several names, and no word at all"


def test_each_word_of_an_answer_looks_for_what_it_names_next(family: Family) -> None:
    from huayu.data.dialogues import Turn
    from huayu.training.mini_chat.architecture import NUM_CLASSES

    answer = "There is a dog and something I do not know in the picture."
    turns = [Turn("list", "en", "Is there a cat?", answer)]
    batch = family.collate([family.row(turns, 0, 1)])
    about = reading.words_about_things(batch, reading.Nouns(family), reading.strangers(family))
    dog, cat, unknown = 1, 2, NUM_CLASSES - 1
    asked = about["mention"][0]
    assert asked[asked > 0].tolist() == [cat], "the question's noun; the answer's words are no context"
    said = about["naming"][0][batch["labels"][0] != -100].tolist()
    assert about["asked"][0].nonzero()[:, 0].tolist() == (batch["labels"][0] != -100).nonzero()[:1, 0].tolist()
    assert about["asked"].max() == cat
    assert said == [dog] * 4 + [unknown] * 6 + [0] * (len(said) - 10)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_eye_knows_where_its_things_are(drawings: None, name: str) -> None:
    stage = vision.VisionStage(family=name)
    batch = stage.batch(0, 8)
    there = batch["things"] >= 0
    assert torch.equal(batch["where"].sum(-1) > 0, there)
    assert torch.allclose(batch["slots"].sum(-1), torch.ones(8, 16), atol=1e-4)
    loss, parts = stage.loss(stage.module(), batch)
    assert set(parts) >= {"thing", "slot", "background", "style"}
    assert torch.isfinite(loss)


def test_an_eye_may_begin_with_the_stem_of_another_family(drawings: None) -> None:
    whole = load_chat("huayu-chat-mini", device="cpu").backend.model  # type: ignore[attr-defined]
    eye = vision.VisionStage(family="visualglm", stem="huayu-chat-mini").module().eye
    ours = eye.vision_encoder.embeddings.patch_embedding
    for name, value in whole.vision_encoder.patch_embedding.stem.state_dict().items():
        assert ours.stem.state_dict()[name].equal(value)
    ours.stem = ours.stem[:3]
    with pytest.raises(ModelError, match="no stem like this"):
        vision.take_stem(eye, "huayu-chat-mini")


@pytest.mark.parametrize("name", FAMILIES)
def test_joining_keeps_both_parts_and_exports_a_model_that_talks(drawings: None, tmp_path: Path, name: str) -> None:
    import huayu

    made = {"family": name, "vocabulary": str(tmp_path / "words")}
    eye, reader = vision.VisionStage(family=name), language.LanguageStage(**made)
    eye_module, reader_module = eye.module(), reader.module()
    eye.export(eye_module, tmp_path)
    reader.export(reader_module, tmp_path)
    parts = {"vision": str(tmp_path / "vision.pt"), "language": str(tmp_path / "language.pt")}
    stage = join.JoinStage(**made, **parts, asks=2)
    joined = stage.module()
    chat, last = joined.chat, stage.family.last_linear(joined.chat)
    assert torch.equal(chat.query_tokens, eye_module.eye.query_tokens)
    for own, other in ((chat.vision_encoder, eye_module.eye.vision_encoder), (chat.language_model, reader_module)):
        assert set(map(_sum, own.parameters())) <= set(map(_sum, other.parameters()))
    assert not any(p.requires_grad for p in chat.language_model.parameters()), "alignment leaves the language alone"
    batch = stage.batch(0, 4)
    assert len(batch["input_ids"]) == 8
    loss, _ = stage.loss(joined, batch)
    loss.backward()
    assert last.weight.grad.abs().sum() > 0
    assert all(p.grad.abs().sum() > 0 for n, p in chat.vision_encoder.named_parameters() if "proj.weight" in n)
    stage.export(joined.eval(), tmp_path)
    model = huayu.load_chat(tmp_path / "model", device="cpu")
    reply = model.ask(None, "你好", max_new_tokens=3)
    assert reply.usage.completion_tokens >= 1
    later = join.JoinStage(**made, start=str(tmp_path / "joined.pt"), train_language=True).module()
    assert all(p.requires_grad for p in later.chat.language_model.parameters())


def _sum(values: torch.Tensor) -> float:
    return float(values.detach().double().sum())


@pytest.mark.parametrize(("question", "asked"), [("这是什么？", "能吃吗？"), ("What is this?", "Can you eat it?")])
def test_visualglm_is_trained_on_the_prompts_that_it_is_asked(tmp_path: Path, question: str, asked: str) -> None:
    from huayu.data.dialogues import Turn
    from huayu.models.visualglm.processing import VisualGLMImageProcessor, VisualGLMProcessor
    from huayu.training.mini_chat.architecture import NUM_QUERIES

    family = open_family("visualglm", str(tmp_path / "ice_text.model"))
    turns = [Turn("name", "zh", question, "狗。"), Turn("edible", "zh", asked, "不能。")]
    batch = family.collate([family.row(turns, 1, 1)])
    processor = VisualGLMProcessor(VisualGLMImageProcessor(), family.tokenizer, NUM_QUERIES, "pad")
    prompt = processor.chat_prompt(asked, [(question, "狗。")], picture=True, english=asked.startswith("Can"))
    length = len(prompt.ids)
    assert batch["input_ids"][0, :length].tolist() == prompt.ids
    assert batch["position_ids"][0, :, :length].tolist() == family.tokenizer.position_rows(prompt.ids)
    assert (batch["image_token_index"][0] >= 0).long().argmax() == prompt.picture_at
    assert (batch["labels"][0] != -100).long().argmax() == length - 1, "<sop> tells the first word"


def test_only_whole_answers_are_right() -> None:
    labels = torch.tensor([[-100, 2, 1], [-100, 2, 1], [-100, -100, 0]])
    logits = torch.zeros(3, 3, 4)
    logits[0, 1, 2] = logits[0, 2, 1] = logits[1, 1, 2] = logits[1, 2, 3] = logits[2, 2, 0] = 1
    assert right_answers(logits, labels).tolist() == [True, False, True]


def test_rows_ask_a_turn_after_those_before_it(tmp_path: Path) -> None:
    from huayu.data.dialogues import Turn

    family = open_family("viscpm_chat", str(tmp_path / "vocab.txt"))
    vocabulary = family.vocabulary
    turns = [Turn("name", "en", "What is this?", "This is a dog."), Turn("edible", "en", "Can you eat it?", "No.")]
    packed = family.row(turns, 1, 0)
    assert not packed.image_bounds
    text = vocabulary.decode(packed.input_ids)
    assert "User: What is this?\nAI: This is a dog.\n" in text
    answer = family.collate([packed])["labels"][0]
    assert vocabulary.decode(answer[answer != -100].tolist()) == "No.</s>"
    glm = open_family("visualglm", str(tmp_path / "ice_text.model"))
    batch = glm.collate([glm.row(turns, 1, 0)])
    ids, labels = batch["input_ids"][0], batch["labels"][0]
    assert glm.tokenizer.decode(ids).startswith("Q:What is this?\nA:This is a dog.\nQ:Can you eat it?\nA:")
    assert glm.tokenizer.convert_ids_to_tokens(labels[labels != -100].tolist()) == ["▁No", ".", "<eop>"]
    assert glm.tokenizer.convert_ids_to_tokens(ids[batch["is_context"][0] == 0].tolist())[:2] == ["<sop>", "▁No"]


def test_two_pictures_are_packed_as_they_are_asked_about(drawings: None, tmp_path: Path) -> None:
    from huayu.data.dialogues import Turn

    vocabulary = embedded.folder("huayu-chat-mini") / "vocab.txt"
    family = open_family("viscpm_chat", str(vocabulary))
    turns = [Turn("compare", "zh", "哪张图里有狗？", "第一张图里有狗。")]
    packed = family.row(turns, 0, 2)
    processor = load_chat("huayu-chat-mini", device="cpu").backend.processor  # type: ignore[attr-defined]
    asked = processor.pack_chat(2, "", turns[0].question, turns[0].answer, for_generation=False)
    assert list(packed.input_ids) == list(asked.input_ids)
    assert packed.image_bounds == asked.image_bounds
    assert len(packed.image_bounds) == 2


def test_each_row_reads_its_own_pictures(drawings: None, tmp_path: Path) -> None:
    from huayu.training.mini_chat.architecture import NUM_QUERIES

    assert reading.numbers([(), (3,), (2, 1)]).tolist() == [[0, 0], [3, 0], [2, 1]]
    stage = language.LanguageStage(vocabulary=str(tmp_path / "words"), compare=0.5)
    module, batch = stage.module().eval(), stage.batch(1, 24)
    two = batch["image_token_index"].amax(1) == 2 * NUM_QUERIES - 1
    assert 0 < two.sum() < 24
    assert (two == (batch["pictures_shown"] == 2)).all()
    assert torch.equal(batch["ground"][two], batch["background"][batch["pictures"][two]])
    with torch.no_grad():
        assert module(batch)[1]["two"] > 1
        alone = {name: value if name in language._SEEN else value[~two] for name, value in batch.items()}
        assert module(alone)[1]["two"] == 0, "nothing to tell apart"
    scenes, row = len(batch["slots"]), int(two.nonzero()[0])
    for number in range(scenes):
        changed = {**batch, "slots": batch["slots"].clone()}
        changed["slots"][number] = changed["slots"][number].roll(1, 0)
        one = {name: value if name in language._SEEN else value[row : row + 1] for name, value in changed.items()}
        same = {name: value if name in language._SEEN else value[row : row + 1] for name, value in batch.items()}
        with torch.no_grad():
            differs = not torch.equal(module(one)[0], module(same)[0])
        assert differs == (number in batch["pictures"][row]), "one of its pictures, and only they"


def test_what_two_pictures_show_is_learned_of_each() -> None:
    """A head that knows it all has no loss; one that takes the pictures for each other has."""
    from huayu.training.mini_chat.architecture import NUM_BACKGROUNDS, NUM_CLASSES, NUM_QUERIES, NUM_SLOTS

    torch.manual_seed(0)
    heads = reading.ReadingHeads(8)
    index = torch.arange(2 * NUM_QUERIES)[None]
    states = [torch.zeros(1, 2 * NUM_QUERIES, 8) for _ in range(5)]
    states[2][0, :NUM_QUERIES, 0], states[2][0, NUM_QUERIES:, 1] = 1, 1
    states[3][0, 5, 2] = 1
    labels = {
        "pictures_shown": torch.tensor([2]),
        "first": torch.tensor([5]),
        "asked": torch.zeros(1, 2 * NUM_QUERIES, dtype=torch.long),
        "shares": torch.zeros(1, 2, NUM_SLOTS, NUM_CLASSES),
        "ground": torch.tensor([[3, 7]]),
        "count": torch.tensor([[0, 2]]),
    }
    labels["asked"][0, 5], labels["shares"][0, 1, 4, 9] = 9, 1.0  # asked for what the second shows
    middle, late = (torch.nn.functional.rms_norm(states[i], (8,)) for i in (2, 3))
    for head in (heads.nth, heads.each):
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    heads.nth.weight.data[0, 0] = heads.nth.weight.data[1, 1] = 20
    told = heads.each.weight.data[:, 2].view(2, -1)
    told[0, 0], told[1, 0] = -20, 20
    told[0, 1 + 3] = told[1, 1 + 7] = told[0, 1 + NUM_BACKGROUNDS] = told[1, 1 + NUM_BACKGROUNDS + 2] = 40
    assert heads._two(middle, late, index, labels) < 1e-3
    for name in ("ground", "count", "shares"):
        swapped = {**labels, name: labels[name].flip(1)}
        assert heads._two(middle, late, index, swapped) > 10, name
    assert heads._two(middle, late, (index + NUM_QUERIES) % (2 * NUM_QUERIES), labels) > 10


def test_a_language_model_may_have_other_layers(tmp_path: Path) -> None:
    for name in FAMILIES:
        model = open_family(name, str(tmp_path / name), layers=2).language_model()
        assert model.config.num_hidden_layers == len(model.model.layers) == 2


def test_an_architecture_of_one_picture_compares_none(drawings: None, tmp_path: Path) -> None:
    for stage in (language.LanguageStage, join.JoinStage):
        with pytest.raises(ModelError, match="one picture"):
            stage(family="visualglm", vocabulary=str(tmp_path / "words"), compare=0.1)


def test_a_grown_world_keeps_its_things_and_words(tmp_path: Path) -> None:
    from huayu.training.mini_chat import grow

    now = open_family("viscpm_chat", str(tmp_path / "now" / "vocab.txt"))
    lines = list(mini_vocabulary.tokens())
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "vocab.txt").write_bytes("\n".join([*lines[:12], *lines[-31:11:-1]]).encode())
    before = open_family("viscpm_chat", str(tmp_path / "old" / "vocab.txt"))
    torch.manual_seed(0)
    old = language.Reader(before).state_dict()
    stranger = old["words.classes"][-1]
    old["words.classes"] = torch.cat([old["words.classes"][:121], stranger[None]])
    old["words.class_names"] = old["words.class_names"][:122]
    del old["words.styles"]
    state = grow.grown(language.Reader(now), old, before, now)
    assert torch.equal(state["words.classes"][:121], old["words.classes"][:121])
    assert torch.equal(state["words.classes"][-1], stranger)
    assert torch.equal(state["words.class_names"], language.names_of(now)["class"]), "follows from the world"
    embedding = "language_model.model.embed_tokens.weight"
    words = list(before.words())
    for number in (0, 11, 12, 200, len(words) - 1):
        assert torch.equal(state[embedding][list(now.words()).index(words[number])], old[embedding][number])
    assert torch.equal(state["reading.next.weight"], old["reading.next.weight"])
    with pytest.raises(ModelError, match="no place"):
        grow.grown(vision.SlotEye(now), old, before, now)
