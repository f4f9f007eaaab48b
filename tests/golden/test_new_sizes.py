"""Cases made here from our own models, of sizes that no recorded case has: nothing about a case is built in."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from huayu.evaluation.verify.arrays import model_inputs, packed_row
from huayu.generation.beam import BeamSearch
from huayu.generation.options import BeamOptions
from huayu.generation.published import ModelStepper, sentence_of, special_ids
from huayu.models.beit3.configuration import Beit3Config
from huayu.models.cpm_bee import BeeVocabulary, CpmBeeConfig, CpmBeeForCausalLM
from huayu.models.cpm_bee.checkpoint import KEYMAP as LANGUAGE_KEYMAP
from huayu.models.cpm_bee.position_bias import Layout
from huayu.models.viscpm_chat import KEYMAP, VisCPMChatConfig, VisCPMChatForConditionalGeneration
from huayu.models.viscpm_chat.published import processor
from tests.generation.tiny import LINES
from tests.golden.support import change_tensors, failed

LLM = {
    "vocab_size": len(LINES),
    "dim_model": 24,
    "num_heads": 3,
    "dim_head": 10,
    "dim_ff": 20,
    "num_layers": 4,
    "position_bias_num_buckets": 64,
    "position_bias_num_segment_buckets": 128,
    "position_bias_max_distance": 512,
    "eps": 1e-5,
    "half": False,
    "mask_modules": [[False, False], [True, False], [False, True], [False, False]],
}
BEIT3 = {
    "img_size": 24,
    "patch_size": 8,
    "vocab_size": 11,
    "encoder_embed_dim": 20,
    "encoder_attention_heads": 5,
    "encoder_ffn_embed_dim": 28,
    "encoder_layers": 3,
    "max_source_positions": 16,
}
QUERIES = 3
VOCABULARY = BeeVocabulary(LINES)


def random_weights(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.7)
    return model.eval()


def write_case(folder, config, tensors, model, keymap):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"tolerance": 1e-4, **config}))
    (folder / "vocab.txt").write_text("\n".join(LINES), "utf-8")
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, folder / "io.safetensors")
    weights = {keymap.to_published(name): tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "weights.safetensors")
    return folder


def chat_model():
    config = VisCPMChatConfig(
        text_config=CpmBeeConfig.from_published(LLM),
        vision_config=Beit3Config.from_published(BEIT3),
        num_query_tokens=QUERIES,
    )
    return random_weights(VisCPMChatForConditionalGeneration(config))


@torch.no_grad()
def lm_forward(folder, continued=False):
    rows = [
        [
            {"question": "a龘b 靐", "<ans>": "猫龘"},
            {"question": "靐b", "<ans>": "c"},
            "NEWSPAN",
            {"context": {"a": "狗"}},
        ],
        [{"image": "<unk>", "<ans>": {"x": "a", "y": "靐<mask_0>"}}],
    ]
    model = random_weights(CpmBeeForCausalLM(CpmBeeConfig.from_published(LLM)))
    packed = [packed_row(row, VOCABULARY, continued) for row in rows]
    width = max(row.length for row in packed) + 3
    words = list(dict.fromkeys(pair for row in packed for pair in row.words))
    assert words
    inputs = {"length": torch.tensor([row.length for row in packed])}
    for name, ours in (
        *(("input", "input_ids"), ("input_sub", "token_subscripts"), ("context", "is_context")),
        *(("sample_ids", "sample_ids"), ("span", "span_ids"), ("segment", "segment_ids")),
        *(("num_segments", "num_segments"), ("segment_rel_offset", "segment_rel_offset")),
    ):
        values = [getattr(row, ours) for row in packed]
        inputs[name] = torch.tensor([value + [0] * (width - len(value)) for value in values], dtype=torch.int32)
    longest = max(len(row.segment_rel) for row in packed)
    inputs["segment_rel"] = torch.tensor([row.segment_rel + [0] * (longest - len(row.segment_rel)) for row in packed])
    inputs["ext_table_ids"], inputs["ext_table_sub"] = torch.tensor(words).unbind(1)
    batch = model_inputs(inputs)
    out = model(**batch, output_hidden_states=True, use_cache=False)
    layout = Layout(
        batch["attention_mask"].bool(),
        batch["is_context"].bool(),
        *(batch[name] for name in ("sample_ids", "span_ids", "segment_ids", "num_segments", "segment_rel_offset")),
        *(batch[name] for name in ("segment_rel", "position_ids")),
    )
    positions = batch["position_ids"]
    outputs = {
        "logits": out.logits,
        "embeds": out.hidden_states[0],
        "hidden": model.model.norm(out.hidden_states[-1]),
        "attention_mask": layout.visible(width).to(torch.uint8),
        "position_bias": model.model.position_bias(positions, positions, layout.relations(width)),
        **{f"block{n}": state for n, state in enumerate(out.hidden_states[1:])},
    }
    tensors = {**{f"in.{name}": value for name, value in inputs.items()}, **outputs}
    return write_case(folder, {"case": "viscpm/lm_forward", "llm": LLM, "rows": rows}, tensors, model, LANGUAGE_KEYMAP)


@torch.no_grad()
def beit3_queries(folder):
    model = chat_model()
    pictures = [Image.linear_gradient("L").convert("RGB"), Image.radial_gradient("L").convert("RGB").resize((30, 90))]
    folder_config = {"case": "viscpm/beit3_queries", "beit3": BEIT3, "query_num": QUERIES, "mapping_out": 24}
    kept = {}
    for number, layer in enumerate(model.vision_encoder.layers):
        layer.attention.register_forward_hook(lambda _m, _i, out, n=number: kept.update({f"layer{n}_attn_out": out}))
    (folder.parent / "vocab.txt").write_text("\n".join(LINES), "utf-8")
    pixels = processor(model.config, folder.parent / "vocab.txt").pixel_values(pictures)
    encoder = model.vision_encoder
    out = encoder(pixels, model.query_tokens.expand(2, -1, -1), output_hidden_states=True)
    first, *states = out.hidden_states[:-1]
    tensors = {
        "pixel_values": pixels,
        "patch_embeds": encoder.patch_embedding(pixels),
        "embeds_with_positions": first,
        **{f"layer{n}": state for n, state in enumerate(states)},
        **kept,
        "query_hidden": out.last_hidden_state,
        "image_embeds": model.projector(out.last_hidden_state),
    }
    write_case(folder, folder_config, tensors, model, KEYMAP)
    weights = {k: v for k, v in model.state_dict().items() if not k.startswith("language_model.")}
    save_file({KEYMAP.to_published(k): v.contiguous() for k, v in weights.items()}, folder / "weights.safetensors")
    for number, picture in enumerate(pictures):
        picture.save(folder / f"img{number}.png")
    return folder


class Recording(ModelStepper):
    """Notes what it is fed and what it answers."""

    def step(self, token_ids, segment_ids, position_ids):
        logits = super().step(token_ids, segment_ids, position_ids)
        self.__dict__.setdefault("fed", []).append(token_ids.tolist())
        self.__dict__.setdefault("logits", []).append(logits)
        return logits


def greedy(model, talker, packed, image):
    """Arg-max by the library's own loop, which is another path through the model than the search's."""
    inputs = talker.collate([packed], padding="left", start_answer=True)
    out = model.generate(
        **inputs,
        image_embeds=image[None],
        max_new_tokens=6,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    tokens = out.sequences[0, inputs["input_ids"].shape[1] :].tolist()
    best = torch.stack(out.logits)[:, 0].topk(2).values
    shown = tokens[:-1] if tokens[-1] == 7 else tokens
    return {
        "greedy_token_ids": tokens,
        "greedy_text": VOCABULARY.decode(shown, packed.answer_words),
        "greedy_min_gap": (best[:, 0] - best[:, 1]).min().item(),
    }


@torch.no_grad()
def generation(folder):
    model = chat_model()
    settings = {"beam_size": 2, "max_length": 5, "length_penalty": 0.5}
    (folder.parent / "vocab.txt").write_text("\n".join(LINES), "utf-8")
    talker = processor(model.config, folder.parent / "vocab.txt")
    picture = Image.radial_gradient("L").convert("RGB")
    image = model.get_image_features(talker.pixel_values([picture]))
    packed = talker.pack_chat(1, "", "a龘b靐")
    inputs = talker.collate([packed], padding="left")
    embeds = model.splice(
        model.language_model.model.embed(inputs["input_ids"], inputs["token_subscripts"], inputs["request_vocab"]),
        image[None],
        inputs["image_token_index"],
    )
    stepper = Recording(model, {**inputs, "image_embeds": image[None]}, 2, 7)
    special, options = special_ids(model.config), BeamOptions(2, 5, length_penalty=0.5)
    *_, last = BeamSearch(stepper, [sentence_of(packed, special.unk)], special, options)
    (result,) = last.results
    text = VOCABULARY.decode(result.token_ids, packed.answer_words)
    prompt = {"context": "", "question": "a龘b靐"}
    tokens = inputs["input_ids"].shape[1]
    run = {
        "prompt": prompt,
        "settings": settings,
        "answer": text,
        "item": {**prompt, "<ans>": text},
        "token_ids": list(result.hypotheses[0].token_ids),
        "ans_ids": [1] * len(result.hypotheses[0].path),
        "hypotheses": [{"score": h.score, "tokens": list(h.token_ids)} for h in result.hypotheses],
        "n_forward": last.num_steps + 1,
        "ext_table": {str(key): word for key, word in packed.answer_words.items()},
        **greedy(model, talker, packed, image),
    }
    words = torch.tensor(packed.request_vocab)
    tensors = {
        "vision_hidden_states": image,
        "run0.prompt_embeds": embeds,
        "run0.first_step_logits": torch.stack(stepper.logits[:3]),
        "run0.step_tokens": torch.tensor(stepper.fed).where(torch.tensor(stepper.fed) < len(LINES), 1),
        "run0.in.input_ids": inputs["input_ids"],
        "run0.in.input_id_subs": inputs["token_subscripts"],
        "run0.in.segment_ids": inputs["segment_ids"],
        "run0.in.input_pos": torch.arange(tokens)[None],
        "run0.in.segment_rel": inputs["segment_rel"],
        "run0.in.batch_ext_table_ids": words[:, 0],
        "run0.in.batch_ext_table_sub": words[:, 1],
    }
    config = {"case": "viscpm/generation", "llm": LLM, "beit3": BEIT3, "query_num": QUERIES}
    write_case(folder, config, tensors, model, KEYMAP)
    picture.save(folder / "img0.png")
    (folder / "results.json").write_text(json.dumps([run]))
    return folder


CHANGED = {lm_forward: "block3", beit3_queries: "layer2", generation: "run0.step_tokens"}


@pytest.mark.parametrize("make", CHANGED, ids=lambda make: make.__name__)
def test_other_sizes_pass_and_one_changed_entry_fails(make, tmp_path):
    folder = make(tmp_path / "case")
    assert failed(folder) == set()
    name = CHANGED[make]
    assert change_tensors(folder, lambda tensor: tensor == name) == [name]
    assert failed(folder) == {name}


def test_in_context_samples_may_share_the_numbers_of_their_words(tmp_path):
    alone, shared = lm_forward(tmp_path / "alone"), lm_forward(tmp_path / "shared", continued=True)
    assert failed(alone) == failed(shared) == set()
    subscripts = [load_file(folder / "io.safetensors")["in.input_sub"] for folder in (alone, shared)]
    assert not torch.equal(*subscripts)
    assert change_tensors(shared, lambda tensor: tensor == "in.input_sub")
    assert "in.input_sub" in failed(shared)
