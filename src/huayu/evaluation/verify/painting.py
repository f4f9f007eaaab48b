"""Golden cases of VisCPM-Paint: what prompts become, and the painting itself. T tokens, N pictures, H W sides."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from huayu.checkpoints.loading import load_into
from huayu.checkpoints.reader import open_tensors
from huayu.evaluation.verify.arrays import PLACEHOLDER, Row, check_rows, model_inputs, short_names, words_of
from huayu.evaluation.verify.cases import Case
from huayu.evaluation.verify.report import Report
from huayu.models.cpm_bee.tokenization import CpmBeeTokenizer
from huayu.models.viscpm_paint.checkpoint import PARTS, VAE_KEYMAP
from huayu.models.viscpm_paint.pipeline import VisCPMPaintPipeline
from huayu.models.viscpm_paint.prompts import PromptEmbeds, pack_prompt
from huayu.models.viscpm_paint.published import VisCPMPaintConfig, VisCPMPaintModel
from huayu.models.viscpm_paint.schedulers import exact_scheduler


@torch.no_grad()
def paint_text(case: Case, report: Report) -> None:
    """Pairs of prompts as packed rows, hidden states, and as the pipeline hands them to the UNet."""
    head = case.config["trans_block"]
    parts = _parts(case, VisCPMPaintConfig(case.text_config(), (head["dim_model"], head["dim_out"]), None))
    tokenizer = CpmBeeTokenizer(str(case.path("vocab.txt")))
    trained = exact_scheduler({})
    pipeline = VisCPMPaintPipeline(tokenizer, parts.text_encoder, parts.conditioning_head, None, None, trained)
    for number, (prompt, negative) in enumerate(case.config["prompts"]):
        texts = {"cond": prompt, "uncond": negative or ""}
        embeds = pipeline.encode_prompt([texts["cond"]], [texts["uncond"]])
        for which, text in texts.items():
            name = f"p{number}.{which}."
            arrays = short_names(case.tensors, f"{name}in.", case)
            row = Row().add(pack_prompt(text, case.vocabulary))
            check_rows(report, [row], arrays, f"{name}in.")
            ours, theirs = row.words or [PLACEHOLDER], words_of(arrays) or [PLACEHOLDER]
            report.exact(f"{name}in.ext_table", ours, theirs)
            hidden = parts.text_encoder(**model_inputs(arrays), use_cache=False).last_hidden_state
            report.close(f"{name}hidden", hidden, case.take(f"{name}hidden"), case.tolerance)
            states = getattr(embeds, which)
            report.close(f"{name}text_embeds", states, case.take(f"{name}text_embeds"), case.tolerance)


def _parts(case: Case, config: VisCPMPaintConfig) -> Any:
    with torch.device("meta"):
        parts: Any = VisCPMPaintModel(config)
    weights = open_tensors(case.path(case.config.get("weights", "weights.safetensors")))
    load_into(parts, weights, PARTS + VAE_KEYMAP.prefixed("vae.", "vae."), torch.float32)
    if config.text is not None:  # the only part that may be published in half precision
        parts.text_encoder.to(case.dtype)
    return parts.eval()


@torch.no_grad()
def unet_sampling(case: Case, report: Report) -> None:
    """Every run in the exact mode, step by step; the VAE and the scheduler alone."""
    settings = case.config
    vae = {"scaling_factor": settings["vae_scaling_factor"], **settings["vae"]}
    width = settings["trans_block_dim_in"]
    config = VisCPMPaintConfig(None, (width, settings["unet"]["cross_attention_dim"]), settings["unet"], vae)
    parts = _parts(case, config)
    # The class that read the file clips unless told otherwise; the file is that of another scheduler.
    trained = exact_scheduler({"clip_sample": True, **settings["scheduler_file"]})
    pipeline = VisCPMPaintPipeline(None, None, parts.conditioning_head, parts.unet, parts.vae, trained)
    pipeline.set_progress_bar_config(disable=True)
    _check_scheduler(case, report, trained, parts.vae)
    for number, run in enumerate(settings["runs"]):
        _check_run(case, report, pipeline, f"r{number}", run)


def _check_scheduler(case: Case, report: Report, scheduler: Any, vae: Any) -> None:
    effective = case.config.get("scheduler_effective", {})
    # Two settings that today's class has and the published one ignored.
    known = {key: effective[key] for key in effective if key in scheduler.config and key != "steps_offset"}
    report.exact("scheduler_effective", {key: scheduler.config[key] for key in known}, known)
    for name in [name for name in case.tensors if name.startswith("scheduler.timesteps")]:
        scheduler.set_timesteps(int(name.removeprefix("scheduler.timesteps")))
        report.exact(name, scheduler.timesteps, case.take(name))
    name = "scheduler.alphas_cumprod"
    report.close(name, scheduler.alphas_cumprod, case.take(name), case.tolerance)
    posterior = vae.encode(case.take("vae.pixels")).latent_dist
    report.close("vae.mean", posterior.mean, case.take("vae.mean"), case.tolerance)
    report.close("vae.logvar", posterior.logvar, case.take("vae.logvar"), case.tolerance)
    decoded = vae.decode(case.take("vae.latents")).sample
    report.close("vae.decoded_raw", decoded, case.take("vae.decoded_raw"), case.tolerance)
    for name in [name for name in case.tensors if name.startswith("add_noise_t")]:
        times = torch.tensor([int(time) for time in name.removeprefix("add_noise_t").split("_")])
        noisy = scheduler.add_noise(posterior.mean, torch.ones_like(posterior.mean), times)
        report.close(name, noisy, case.take(name), case.tolerance)


class _Draws(TorchFunctionMode):
    """Keeps what torch draws at random while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.randn:
            self.kept.append(result)
        return result


def _check_run(case: Case, report: Report, pipeline: VisCPMPaintPipeline, name: str, run: dict[str, Any]) -> None:
    tolerance = case.tolerance
    hidden = [case.take(f"{name}.{which}_hidden") for which in ("text", "uncond")]
    report.exact(f"{name}.len", [states.shape[1] for states in hidden], [run["len"]] * 2)
    cond, uncond = (pipeline.conditioning_head(states) for states in hidden)
    report.close(f"{name}.text_embeds", cond, case.take(f"{name}.text_embeds"), tolerance)
    report.close(f"{name}.uncond_embeds", uncond, case.take(f"{name}.uncond_embeds"), tolerance)
    everything = torch.ones(cond.shape[:2], dtype=torch.bool)
    options = {
        "prompt_embeds": PromptEmbeds(cond, everything, everything, uncond, everything),
        "num_images_per_prompt": run["n"],
        "height": run["size"],
        "width": run.get("width", run["size"]),
        "num_inference_steps": run["steps"],
        "guidance_scale": run["scale"],
        "exact": True,
    }
    with _Draws() as draws:
        job = pipeline.prepare(**options, generator=torch.Generator().manual_seed(run["seed"]))
        steps = list(job.steps())
    report.exact(f"{name}.timesteps", job.timesteps, case.take(f"{name}.timesteps"))
    found = {
        "latents_in": [step.latents_in for step in steps],
        "unet_out": [step.unet_out for step in steps],
        "guided_noise": [step.prediction for step in steps],
        "latents_out": [step.latents_out for step in steps],
        "pred_x0": [step.picture for step in steps],
        "step_noise": draws.kept[1:],
    }
    for which, tensors in found.items():
        if tensors or case.has(f"{name}.{which}"):  # a run of one step draws no noise
            ours = torch.stack(tensors) if tensors else torch.empty(0)
            report.close(f"{name}.{which}", ours, case.take(f"{name}.{which}"), tolerance)
    decoded = pipeline.decode(job.latents).permute(0, 2, 3, 1)
    report.close(f"{name}.decoded", decoded, case.take(f"{name}.decoded"), tolerance)
    painted = pipeline(**options, generator=torch.Generator().manual_seed(run["seed"])).images
    levels = torch.stack([torch.from_numpy(np.array(picture)) for picture in painted])
    files = [torch.from_numpy(np.array(case.picture(f"{name}_{i}.png"))) for i in range(len(painted))]
    report.exact(f"{name}.images_uint8", *_levels(levels, decoded, case.take(f"{name}.images_uint8"), tolerance))
    for i, file in enumerate(files):
        report.exact(f"{name}_{i}.png", *_levels(levels[i], decoded[i], file, tolerance))


def _levels(ours: Tensor, decoded: Tensor, theirs: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """Two pictures to be compared exactly; a level counts as theirs where only the rounding of a float that is within
    ``tolerance`` of the border tells them apart."""
    if ours.shape != theirs.shape:
        return ours, theirs
    border = (decoded * 255 - theirs).abs() <= 0.5 + 255 * tolerance
    return torch.where(border & ((ours.int() - theirs.int()).abs() <= 1), theirs, ours), theirs
