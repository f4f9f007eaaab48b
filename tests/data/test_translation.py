"""Captions and turns put into the other language by real translators: a table, an endpoint, tiny random models."""

from __future__ import annotations

import http.server
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from huayu.batch.translating import TranslateJob, translate
from huayu.cli.main import main
from huayu.data.records import Record, read_records
from huayu.data.translation import PhraseTable, open_translator
from huayu.errors import CheckpointError, ModelError, OptionError, PromptError

PHRASES = {"A red ball.": "一个红球。", "What is it?": "这是什么？", "A ball.": "一个球。", "Two dogs.": "两只狗。"}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    file = tmp_path / "phrases.tsv"
    file.write_text("".join(f"{en}\t{zh}\n" for en, zh in PHRASES.items()), "utf-8")
    return file


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    talk = [{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": "A ball."}]
    said: list[dict[str, Any]] = [
        {"image": "a.png", "caption": "A red ball."},
        {"image": "a.png", "conversations": talk},
        {"image": "a.png", "caption": "一只狗。"},
        {"image": "a.png", "caption": "Nobody knows this."},
        {"image": "gone.png", "caption": "Two dogs."},
        {"image": "a.png", "prompt": "What is it?", "label": "两只狗。"},
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in said), "utf-8")
    return file


@pytest.mark.parametrize("shard_size", [2, 100])
def test_rows_are_translated_and_keep_what_they_said(rows: Path, table: Path, tmp_path: Path, shard_size: int) -> None:
    target = tmp_path / "zh"
    report = translate(TranslateJob((str(rows),), target, to="zh", translator=str(table), shard_size=shard_size))
    assert report == {"rows": 6, "written": 4, "translated": 3, "errors": 2}
    lines = [json.loads(line) for line in (target / "translated.jsonl").read_text("utf-8").splitlines()]
    assert lines[0] == {
        "image": "../a.png",
        "caption": "一个红球。",
        "translated_by": "phrases.tsv",
        "original": {"caption": "A red ball."},
    }
    assert lines[2] == {"image": "../a.png", "caption": "一只狗。"}
    records = list(read_records(target / "translated.jsonl"))
    assert all(isinstance(record, Record) for record in records)
    assert [record.turns for record in records] == [  # type: ignore[union-attr]
        (("描述这张图片。", "一个红球。"),),
        (("这是什么？", "一个球。"),),
        (("描述这张图片。", "一只狗。"),),
        (("这是什么？", "两只狗。"),),
    ]
    errors = "".join(path.read_text("utf-8") for path in sorted((target / "shards").glob("*/errors.jsonl")))
    assert "Nobody knows this." in errors
    assert "gone.png: no such file" in errors


def test_it_goes_on_and_back_again(rows: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = TranslateJob((str(rows),), tmp_path / "zh", to="zh", translator=str(table), shard_size=2, batch_size=2)
    asked: list[list[str]] = []
    real = PhraseTable.__call__

    def once(self: PhraseTable, texts: list[str], to: str) -> list[str]:
        asked.append(list(texts))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(self, texts, to)

    monkeypatch.setattr(PhraseTable, "__call__", once)
    with pytest.raises(KeyboardInterrupt):
        translate(job)
    assert translate(job)["written"] == 4
    assert sum("A red ball." in texts for texts in asked) == 1
    back = TranslateJob((str(tmp_path / "zh" / "translated.jsonl"),), tmp_path / "en", to="en", translator=str(table))
    assert translate(back)["translated"] == 3
    first = next(iter(read_records(tmp_path / "en" / "translated.jsonl")))
    assert isinstance(first, Record)
    assert first.caption == "A red ball."
    with pytest.raises(OptionError, match="another batch"):
        translate(TranslateJob((str(rows),), tmp_path / "zh", to="en", translator=str(table), shard_size=2))


def test_pictures_of_a_shard_keep_their_names(table: Path, tmp_path: Path) -> None:
    data = io.BytesIO()
    Image.new("RGB", (8, 8)).save(data, "JPEG")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, part in (("00007.jpg", data.getvalue()), ("00007.txt", b"Two dogs.")):
            info = tarfile.TarInfo(name)
            info.size = len(part)
            tar.addfile(info, io.BytesIO(part))
    translate(TranslateJob((str(tmp_path / "a.tar"),), tmp_path / "zh", to="zh", translator=str(table)))
    with tarfile.open(tmp_path / "zh" / "translated" / "00000.tar") as tar:
        assert sorted(tar.getnames()) == ["00007.jpg", "00007.json", "00007.txt"]
        assert tar.extractfile("00007.jpg").read() == data.getvalue()  # type: ignore[union-attr]
        assert json.load(tar.extractfile("00007.json"))["original"] == {"caption": "Two dogs."}  # type: ignore[arg-type]
    (record,) = read_records(tmp_path / "zh" / "translated")
    assert isinstance(record, Record)
    assert record.caption == "两只狗。"


@pytest.fixture
def marian(tmp_path: Path) -> Path:
    import sentencepiece
    import torch
    from transformers import MarianConfig, MarianMTModel, MarianTokenizer

    folder = tmp_path / "marian"
    folder.mkdir()
    texts = [*PHRASES, *PHRASES.values()] * 4
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_prefix=str(folder / "source"), vocab_size=60, minloglevel=9,
        hard_vocab_limit=False, num_threads=1,
    )  # fmt: skip
    (folder / "target.spm").write_bytes((folder / "source.model").read_bytes())
    (folder / "source.model").rename(folder / "source.spm")
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.spm"))
    names = ["</s>", "<unk>", *(pieces.id_to_piece(i) for i in range(pieces.get_piece_size()))]
    vocabulary = {name: number for number, name in enumerate(dict.fromkeys([*names, "<pad>"]))}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), "utf-8")
    files = [str(folder / name) for name in ("source.spm", "target.spm", "vocab.json")]
    MarianTokenizer(*files, source_lang="en", target_lang="zh").save_pretrained(folder)
    size = len(vocabulary)
    torch.manual_seed(0)
    config = MarianConfig(
        vocab_size=size, d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=16, decoder_ffn_dim=16,
        encoder_attention_heads=2, decoder_attention_heads=2, max_position_embeddings=64, pad_token_id=size - 1,
        eos_token_id=0, decoder_start_token_id=size - 1, bos_token_id=0,
    )  # fmt: skip
    model = MarianMTModel(config)
    for weights in model.parameters():
        torch.nn.init.normal_(weights, std=0.5)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def causal(tmp_path: Path) -> Path:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    told = ["把下面的文字翻译成中文", "只输出译文"]
    words = ["<unk>", "</s>", *told, *sorted({c for text in (*PHRASES, *PHRASES.values()) for c in text.split()})]
    plain = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, "<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="<unk>", eos_token="</s>")
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=len(words), eos_token_id=1, bos_token_id=1, pad_token_id=1, **sizes)
    )
    model.save_pretrained(tmp_path / "causal")
    tokenizer.save_pretrained(tmp_path / "causal")
    return tmp_path / "causal"


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")  # it evens out punctuation
@pytest.mark.parametrize("kind", ["marian", "causal"])
def test_models_of_hugging_face_by_their_folder(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(kind)
    translator: Any = open_translator(str(folder), device="cpu")
    texts = ["A red ball.", "What is it?", "Two dogs."]
    said = translator(texts, "zh")
    assert translator.name == kind
    for text, together in zip(texts, said, strict=True):  # alone fewer tokens are allowed: a random model goes on
        alone = translator([text], "zh")[0]
        assert alone
        assert together.startswith(alone), "the same alone and together"
    assert not any("Translate" in text or "翻译" in text for text in said), "the instruction is not in the answer"
    if kind == "marian":
        inputs = translator.tokenizer(["Two dogs."], return_tensors="pt")
        made = translator.model.generate(
            **inputs, do_sample=False, num_beams=1, max_new_tokens=16 + 2 * inputs["input_ids"].shape[1]
        )
        assert (
            translator(["Two dogs."], "zh")[0] == translator.tokenizer.decode(made[0], skip_special_tokens=True).strip()
        )


class _Endpoint(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = asked["messages"][0]["content"].rpartition("\n\n")[2]
        known = text in PHRASES and asked["model"] == "tiny" and "中文" in asked["messages"][0]["content"]
        message = {"role": "assistant", "content": f" {PHRASES.get(text)}\n"}
        said = {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": "tiny",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        }
        data = json.dumps(
            said if known else {"error": {"message": "too long", "type": "invalid_request_error"}}
        ).encode()
        self.send_response(200 if known else 400)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Endpoint)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_model_behind_an_endpoint(endpoint: str, rows: Path, tmp_path: Path) -> None:
    job = TranslateJob((str(rows),), tmp_path / "zh", to="zh", translator=endpoint, model="tiny")
    assert translate(job) == {"rows": 6, "written": 4, "translated": 3, "errors": 2}
    first = json.loads((tmp_path / "zh" / "translated.jsonl").read_text("utf-8").splitlines()[0])
    assert (first["caption"], first["translated_by"]) == ("一个红球。", "tiny")


def test_what_cannot_translate_says_so(table: Path, tmp_path: Path) -> None:
    assert open_translator(str(table))(["两只狗。"], "en") == ["Two dogs."]
    with pytest.raises(PromptError, match="has no 'x'"):
        open_translator(str(table))(["x"], "zh")
    (tmp_path / "three.tsv").write_text("a\tb\tc\n")
    for source, model in (("three.tsv", None), ("none.tsv", None), ("http://127.0.0.1:1/v1", None), (str(table), "m")):
        with pytest.raises(OptionError):
            open_translator(source if source != "three.tsv" else str(tmp_path / source), model=model)
    with pytest.raises((ModelError, CheckpointError)):
        open_translator(str(tmp_path / "nowhere"))
    with pytest.raises(OptionError, match="zh or en"):
        TranslateJob((str(table),), tmp_path / "x", to="de", translator=str(table))


def test_the_command(rows: Path, table: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUAYU_LANG", "en")
    with pytest.raises(SystemExit) as end:
        main(["data", "translate", str(rows), str(tmp_path / "zh"), "--to", "zh", "--with", str(table)])
    assert not end.value.code
    out = capsys.readouterr().out
    assert "3 of 6 rows translated" in out
    assert "2 could not be" in out
