"""A painting case of other sizes, made here by the published formulas: nothing about a case is built in."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from safetensors.torch import save_file

from huayu.models.viscpm_paint import KEYMAP, VAE_KEYMAP, ConditioningHead
from tests.golden.support import change_json, failed

UNET = {
    "sample_size": 6,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [8, 8, 16],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "attention_head_dim": 2,
    "cross_attention_dim": 12,
    "norm_num_groups": 4,
    "use_linear_projection": False,
}
VAE = {
    "block_out_channels": [4, 8, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "latent_channels": 4,
    "norm_num_groups": 4,
}
NOISE = {"num_train_timesteps": 800, "beta_start": 0.001, "beta_end": 0.02, "beta_schedule": "linear"}
FILE = {"_class_name": "PNDMScheduler", **NOISE, "clip_sample": False, "steps_offset": 1, "skip_prk_steps": True}
SCALING, WIDTH, TOKENS = 0.4, 10, 7


def random_(module, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return module.eval()


def painted(unet, vae, head, run, hidden):
    """Every array of a run, by the formulas of spec viscpm §5.3."""
    generator = torch.Generator().manual_seed(run["seed"])
    embeds = [head(states) for states in hidden]
    told = torch.cat([embeds[1].expand(run["n"], -1, -1), embeds[0].expand(run["n"], -1, -1)])
    alphas = torch.cumprod(1 - torch.linspace(NOISE["beta_start"], NOISE["beta_end"], 800), 0)
    ratio = 800 // run["steps"]
    x = torch.randn(run["n"], 4, run["size"] // 4, run["width"] // 4, generator=generator)
    kept = {name: [] for name in ("latents_in", "unet_out", "guided_noise", "latents_out", "pred_x0", "step_noise")}
    times = [ratio * i for i in reversed(range(run["steps"]))]
    for t in times:
        here, before = alphas[t], alphas[t - ratio] if t >= ratio else torch.tensor(1.0)
        out = unet(torch.cat([x, x]), t, encoder_hidden_states=told).sample
        eps_u, eps_c = out.chunk(2)
        eps = eps_u + run["scale"] * (eps_c - eps_u)
        x0 = (x - (1 - here).sqrt() * eps) / here.sqrt()
        beta = 1 - here / before
        mean = before.sqrt() * beta / (1 - here) * x0 + (here / before).sqrt() * (1 - before) / (1 - here) * x
        noise = torch.randn(x.shape, generator=generator) if t else torch.zeros_like(x)
        after = mean + ((1 - before) / (1 - here) * beta).clamp(min=1e-20).sqrt() * noise
        for name, value in zip(kept, (x, out, eps, after, x0, noise), strict=True):
            kept[name].append(value)
        x = after
    kept["step_noise"].pop()
    decoded = (vae.decode(x / SCALING).sample / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    return {
        "text_hidden": hidden[0],
        "uncond_hidden": hidden[1],
        "text_embeds": embeds[0],
        "uncond_embeds": embeds[1],
        "timesteps": torch.tensor(times),
        **{name: torch.stack(values) for name, values in kept.items() if values},
        "decoded": decoded,
        "images_uint8": (decoded * 255).round().to(torch.uint8),
    }


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("painting")
    unet = random_(UNet2DConditionModel(**UNET), 1)
    vae, head = random_(AutoencoderKL(**VAE), 2), random_(ConditioningHead(WIDTH, 12), 3)
    weights = {KEYMAP.to_published(f"conditioning_head.{key}"): value for key, value in head.state_dict().items()}
    weights |= {f"unet.{key}": value for key, value in unet.state_dict().items()}
    weights |= {f"vae.{VAE_KEYMAP.to_published(key)}": value for key, value in vae.state_dict().items()}
    assert any(key.endswith("attentions.0.proj_attn.weight") for key in weights)
    save_file({key: value.contiguous() for key, value in weights.items()}, folder / "weights.safetensors")
    runs = [
        {"seed": 5, "len": TOKENS, "size": 20, "width": 24, "steps": 3, "scale": 1.0, "n": 2},
        {"seed": 6, "len": TOKENS, "size": 24, "width": 28, "steps": 1, "scale": 2.5, "n": 1},
    ]
    generator = torch.Generator().manual_seed(4)
    arrays = {}
    with torch.no_grad():
        for number, run in enumerate(runs):
            hidden = [torch.randn(1, TOKENS, WIDTH, generator=generator) for _ in range(2)]
            run_arrays = painted(unet, vae, head, run, hidden)
            arrays |= {f"r{number}.{name}": value for name, value in run_arrays.items()}
            for i, picture in enumerate(run_arrays["images_uint8"]):
                Image.fromarray(picture.numpy()).save(folder / f"r{number}_{i}.png")
        arrays["vae.pixels"] = torch.randn(1, 3, 12, 8, generator=generator)
        posterior = vae.encode(arrays["vae.pixels"]).latent_dist
        arrays |= {"vae.mean": posterior.mean, "vae.logvar": posterior.logvar}
        arrays["vae.latents"] = torch.randn(1, 4, 3, 5, generator=generator)
        arrays["vae.decoded_raw"] = vae.decode(arrays["vae.latents"]).sample
    arrays["scheduler.timesteps16"] = torch.tensor([50 * i for i in reversed(range(16))])
    alphas = torch.cumprod(1 - torch.linspace(NOISE["beta_start"], NOISE["beta_end"], 800), 0)
    arrays["scheduler.alphas_cumprod"] = alphas
    arrays["add_noise_t5"] = alphas[5].sqrt() * posterior.mean + (1 - alphas[5]).sqrt()
    save_file({key: value.contiguous() for key, value in arrays.items()}, folder / "io.safetensors")
    settings = {"unet": UNET, "vae": VAE, "scheduler_file": FILE, "trans_block_dim_in": WIDTH, "runs": runs}
    settings |= {"case": "viscpm/unet_sampling", "tolerance": 1e-4, "vae_scaling_factor": SCALING}
    (folder / "config.json").write_text(json.dumps(settings), "utf-8")
    return folder


def test_it_passes(case):
    assert failed(case) == set()


def test_the_first_timestep_is_seen(case, tmp_path):
    folder = shutil.copytree(case, tmp_path / "copy")
    change_json(folder, "config.json", lambda config: config["scheduler_file"].update(num_train_timesteps=900))
    assert failed(folder)
