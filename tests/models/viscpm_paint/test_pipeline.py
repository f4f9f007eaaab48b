"""Painting with tiny real models: the equalities, the arguments, what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from PIL import Image

from huayu.errors import ImageError, ModelError, PromptError
from huayu.models.cpm_bee import collate
from huayu.models.viscpm_paint import SCHEDULERS, CanvasHead
from huayu.models.viscpm_paint.conditioning import variant_of
from huayu.models.viscpm_paint.prompts import pack_prompt
from tests.models.viscpm_paint import tiny
from tests.models.viscpm_paint.tiny import close, same_weights

# Of different lengths, with words of their own (龘, 齉 are no tokens).
PAIRS = [("红苹果", ""), ("ab龘c齉", "abcdef猫狗龘"), ("一", "a")]


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def paint(pipeline, prompt="红苹果", seed=1, **options):
    return pipeline(prompt, generator=seeded(seed), output_type="pt", **options).images


def test_a_batch_is_its_pictures_one_by_one(either):
    prompts, negatives = map(list, zip(*PAIRS, strict=True))
    options = {"num_images_per_prompt": 2, "guidance_scale": 4.0}
    batch = either(prompts, negative_prompt=negatives, generator=seeded(*range(6)), output_type="pt", **options).images
    for number in range(6):
        prompt, negative = PAIRS[number // 2]
        alone = paint(either, prompt, number, negative_prompt=negative, guidance_scale=4.0)
        assert close(batch[number : number + 1], alone)
    assert not close(batch[0:1], batch[1:2])


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_paints_the_same_alone_and_in_a_batch(painter, name):
    own = painter.scheduler
    painter.set_scheduler(name)
    batch = painter("猫", num_images_per_prompt=2, generator=seeded(3, 4), output_type="pt").images
    alone = paint(painter, "猫", 4)
    again = paint(painter, "猫", 4)
    painter.scheduler = own
    assert close(batch[1:], alone)
    assert torch.equal(alone, again)
    assert batch.isfinite().all()


def test_pairs_are_encoded_as_the_published_code_pads_them(painter):
    """Each pair alone, right-padded to its longer text, pads through the whole model."""
    prompts, negatives = map(list, zip(*PAIRS, strict=True))
    embeds = painter.encode_prompt(prompts, negatives)
    vocabulary = painter.tokenizer.vocabulary
    for row, texts in enumerate(PAIRS):
        inputs = collate([pack_prompt(text, vocabulary) for text in texts], vocabulary)
        with torch.no_grad():
            hidden = painter.text_encoder(**inputs, use_cache=False).last_hidden_state
            cond, uncond = painter.conditioning_head(hidden)
        width = inputs["input_ids"].shape[1]
        assert embeds.visible[row].sum() == width
        assert embeds.visible[row, :width].all()
        assert close(embeds.cond[row, :width], cond)
        assert close(embeds.uncond[row, :width], uncond)
        assert torch.equal(embeds.cond_mask[row, :width].long(), inputs["attention_mask"][0])


def test_known_texts_are_not_encoded_again(painter):
    calls = []
    hook = painter.text_encoder.register_forward_hook(lambda *_: calls.append(1))
    painter.forget_texts()
    first = painter.encode_prompt(["猫", "狗"], ["", "猫"])
    assert len(calls) == 1
    again = painter.encode_prompt(["猫", "狗"], ["", "猫"])
    hook.remove()
    assert len(calls) == 1
    assert torch.equal(first.cond, again.cond)
    painter.forget_texts()
    assert close(first.uncond, painter.encode_prompt(["猫", "狗"], ["", "猫"]).uncond)


def test_the_cache_is_bounded(painter):
    cached = copy.copy(painter)
    cached._texts = type(painter._texts)(limit=2)
    cached.encode_prompt(["a", "b", "c"])
    assert list(cached._texts.known) == ["b", "c"]


def test_saved_is_loaded(either, tmp_path):
    either.save_pretrained(tmp_path)
    loaded = type(either).from_pretrained(tmp_path, local_files_only=True)
    loaded.set_progress_bar_config(disable=True)
    assert loaded.config.paint_defaults == either.config.paint_defaults
    assert same_weights(loaded, either)
    assert close(paint(loaded), paint(either))


def test_the_first_noise_chooses_the_variant(canvas_painter):
    chosen = []
    hook = canvas_painter.canvas.register_forward_hook(lambda _, __, out: chosen.append(out[0]))
    noise = torch.randn(8, 4, 8, 8, generator=seeded(4)[0])
    noise[:, -1, -1, -2:] = torch.tensor([[-1.0, -1], [1, -1], [-1, 1], [1, 1]] * 2)
    told = canvas_painter.encode_prompt(["猫"]).repeated(8)
    canvas_painter(prompt_embeds=told, latents=noise, guidance_scale=1.0, output_type="pt")
    both = canvas_painter.encode_prompt(["猫"], [""]).repeated(8)
    canvas_painter(prompt_embeds=both, latents=noise, guidance_scale=4.0, output_type="pt")
    hook.remove()
    plain, guided = chosen
    assert close(plain[:4], plain[4:])
    assert all(not close(plain[:1], plain[i : i + 1]) for i in (1, 2, 3))
    assert close(guided[8:], plain), "guidance leads away from the same variant"
    assert variant_of(noise, 4).tolist() == [0, 1, 2, 3] * 2
    first = torch.cat([torch.randn(1, 48, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(16)])
    assert 5 <= variant_of(first, 2).sum() <= 11, "the seeds that people type do not choose the same one"


def test_guidance_of_one_needs_one_pass(either):
    rows = []
    hook = either.unet.register_forward_hook(lambda _, args, __: rows.append(len(args[0])))
    without = paint(either, guidance_scale=1.0)
    plain = list(rows)
    rows.clear()
    exact = paint(either, guidance_scale=1.0, exact=True, num_inference_steps=3)
    hook.remove()
    assert plain == [1, 1, 1]
    assert rows == [2, 2, 2]
    assert without.shape == exact.shape


def test_exact_mode_takes_all_draws_from_one_generator(painter):
    one = painter("猫", exact=True, num_images_per_prompt=2, num_inference_steps=4, generator=seeded(5)[0])
    generator = seeded(5)[0]
    job = painter.prepare("猫", exact=True, num_images_per_prompt=2, num_inference_steps=4, generator=generator)
    assert job.timesteps.tolist() == [750, 500, 250, 0]
    assert torch.equal(job.latents, torch.randn(2, 4, 8, 8, generator=seeded(5)[0]))
    *_, last = job.steps()
    assert [i.tobytes() for i in one.images] == [
        i.tobytes() for i in painter(prompt_embeds=painter.encode_prompt(["猫"], [""]), exact=True,
                                     num_images_per_prompt=2, num_inference_steps=4, generator=seeded(5)[0]).images
    ]  # fmt: skip
    assert torch.equal(last.latents_out, job.latents)


def test_one_generator_seeds_every_picture(painter):
    a, b = (painter("猫", num_images_per_prompt=3, generator=seeded(8)[0], output_type="pt").images for _ in range(2))
    assert torch.equal(a, b)
    assert not close(a[:1], a[1:2])


def test_a_user_may_type_angle_brackets(painter):
    assert paint(painter, "a < b").shape == (1, 3, 16, 16)
    with pytest.raises(PromptError, match="malformed"):
        paint(painter, "a < b", exact=True, num_inference_steps=1)


def test_other_sizes(either):
    assert paint(either, width=24, height=16).shape == (1, 3, 16, 24)
    with pytest.raises(ImageError, match=r"30×17.*multiples of 8.*32×16"):
        paint(either, width=30, height=17)
    assert paint(either, exact=True, num_inference_steps=1, width=18, height=20).shape == (1, 3, 20, 18)


def picture(size=(16, 16), seed=0):
    values = torch.randint(0, 256, (size[1], size[0], 3), generator=seeded(seed)[0], dtype=torch.uint8)
    return Image.fromarray(values.numpy())


def test_painting_over_a_picture_begins_with_it(either):
    weak, strong = (paint(either, image=picture(), strength=strength, num_inference_steps=10) for strength in (0.1, 1))
    job = either.prepare("猫", image=picture(), strength=0.3, num_inference_steps=10, generator=seeded(1))
    assert len(job.timesteps) == 3
    original = either.decode(either._encoded((torch.zeros(1, 3, 16, 16)), torch.zeros(1, 4, 8, 8)))
    assert original.shape == weak.shape
    assert not close(weak, strong)
    other = paint(either, image=picture(seed=1), strength=0.1, num_inference_steps=10)
    assert not close(weak, other)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_inpainting_leaves_the_rest_alone(painter, name):
    mask = Image.new("L", (16, 16))
    mask.paste(255, (0, 0, 8, 16))
    own = painter.scheduler
    painter.set_scheduler(name)
    found = painter("猫", image=picture(), mask_image=mask, generator=seeded(2), num_inference_steps=6).images[0]
    painter.scheduler = own
    right = (8, 0, 16, 16)
    assert found.crop(right).tobytes() == picture().crop(right).tobytes()
    assert found.crop((0, 0, 8, 16)).tobytes() != picture().crop((0, 0, 8, 16)).tobytes()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"image": picture(), "mask_image": Image.new("L", (8, 16))}, ImageError, "8×16.*16×16"),
        ({"mask_image": Image.new("L", (16, 16))}, ImageError, "needs the picture"),
        ({"image": picture((20, 16))}, ImageError, "20×16"),
        ({"image": picture(), "strength": 0}, ModelError, "strength"),
        ({"output_type": "np"}, ModelError, "np"),
        ({"latents": torch.zeros(1, 4, 4, 4)}, ModelError, "latents"),
        ({"negative_prompt": ["a", "b"]}, ModelError, "2 negative"),
        ({"generator": seeded(1, 2)}, ModelError, "2 generators for 1"),
        ({"prompt": None}, ModelError, "prompt"),
        ({"num_inference_steps": 0}, ModelError, "at least one step"),
        ({"steps": 3}, TypeError, "steps"),
    ],
)
def test_what_cannot_be_done_is_said(painter, options, error, words):
    with pytest.raises(error, match=words):
        painter(**{"prompt": "猫", **options})


def test_guidance_needs_both_texts(painter):
    alone = painter.encode_prompt(["猫"])
    assert close(painter(prompt_embeds=alone, guidance_scale=1, generator=seeded(1), output_type="pt").images,
                 paint(painter, "猫", guidance_scale=1))  # fmt: skip
    with pytest.raises(ModelError, match="negative prompt"):
        painter(prompt_embeds=alone, guidance_scale=2)


def test_a_canvas_spreads_colours_by_shares_of_its_own():
    head = CanvasHead(6, 4, 8, hidden_dim=16, grounds=3)
    states, mask = torch.randn(2, 5, 6), torch.ones(2, 5)
    plain, pooled = head(states, mask)
    assert torch.equal(plain, head.layers(pooled).view_as(plain)), "nothing is spread before it is learned"
    torch.nn.init.normal_(head.shares.bias[:-8])  # zeros in the last row of the third colour
    added = head(states, mask)[0] - plain
    assert torch.linalg.matrix_rank(added[0].flatten(1)) == 3
    assert torch.linalg.matrix_rank(added[0, :, -1]) == 2
    assert not torch.allclose(added[0], added[1]), "the colours are the text's"


def test_an_unknown_scheduler_is_an_error_that_lists_them(painter, canvas_painter):
    with pytest.raises(ModelError, match=r"'heun'.*dpm\+\+, unipc, ddim"):
        painter.set_scheduler("heun")
    with pytest.raises(ModelError, match="pndm"):
        canvas_painter.set_scheduler("pndm")


def test_a_callback_sees_every_step_and_may_stop(painter):
    seen = []

    def on_step(pipeline, index, timestep, tensors):
        seen.append((index, int(timestep)))
        pipeline._interrupt = index == 1
        return {"latents": tensors["latents"] * 0}

    latents = painter("猫", generator=seeded(1), callback_on_step_end=on_step, output_type="latent").images
    assert [index for index, _ in seen] == [0, 1]
    assert not latents.any()


def test_without_its_text_encoder_only_known_texts_are_painted(painter, tmp_path):
    whole = tiny.pipeline(tmp_path)
    expected = paint(whole, "a<b", negative_prompt="狗")
    whole.forget_texts()
    whole.free_text_encoder(["a<b", "狗"])
    assert whole.text_encoder is None
    assert close(paint(whole, "a<b", negative_prompt="狗"), expected)
    paint(whole, "狗")  # the empty negative prompt is always known
    with pytest.raises(PromptError, match="was let go"):
        paint(whole, "猫")


def test_every_part_has_its_turn_on_the_device(canvas_painter):
    modules = {name for name, part in canvas_painter.components.items() if isinstance(part, torch.nn.Module)}
    assert set(canvas_painter.model_cpu_offload_seq.split("->")) == modules


def test_vae_tiling_and_slicing_and_channels_last(painter, tmp_path):
    other = tiny.pipeline(tmp_path)
    other.vae.enable_slicing()
    other.channels_last()
    assert other.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert close(paint(other), paint(painter))
    other.vae.enable_tiling()
    assert paint(other, width=32, height=32).shape == (1, 3, 32, 32)


def test_lora_weights_are_loaded_for_the_unet(painter, tmp_path):
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    other = tiny.pipeline(tmp_path)
    plain = paint(other)
    other.unet.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_v"], init_lora_weights="gaussian"))
    for name, parameter in other.unet.named_parameters():
        if "lora_B" in name:
            torch.nn.init.constant_(parameter, 0.3)
    adapted = paint(other)
    layers = get_peft_model_state_dict(other.unet)
    other.save_lora_weights(tmp_path / "lora", unet_lora_layers=layers)
    fresh = tiny.pipeline(tmp_path)
    fresh.load_lora_weights(str(tmp_path / "lora"))
    assert close(paint(fresh), adapted)
    assert not close(adapted, plain)
    with pytest.raises(ModelError, match="LoRA"):
        fresh.load_lora_weights({"text_encoder.x.lora_A.weight": torch.zeros(2, 2)})
    fresh.unload_lora_weights()
    assert close(paint(fresh), plain)
