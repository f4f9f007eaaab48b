"""Words → pictures, as a diffusers pipeline. Source: spec viscpm §5."""

# N pictures, B prompts, T tokens, C width of cross attention, h w sides of the latents, H W sides in pixels

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.pipeline_utils import DiffusionPipeline, ImagePipelineOutput
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from torch import Tensor

from huayu.errors import ModelError
from huayu.models.cpm_bee.modeling import CpmBeeModel
from huayu.models.cpm_bee.tokenization import CpmBeeTokenizer
from huayu.models.cpm_bee.vocabulary import escape
from huayu.models.viscpm_paint import pictures
from huayu.models.viscpm_paint.conditioning import CanvasHead, ConditioningHead
from huayu.models.viscpm_paint.denoising import Generators, Job, condition
from huayu.models.viscpm_paint.prompts import PromptEmbeds, PromptEncoder, paired
from huayu.models.viscpm_paint.schedulers import exact_scheduler, make_scheduler

# Settings of the published generate(). Source: spec viscpm §5.3.
EXACT_STEPS, EXACT_GUIDANCE = 50, 7.5
OnStep = Callable[[Any, int, Any, dict[str, Any]], dict[str, Any] | None]


class VisCPMPaintPipeline(DiffusionPipeline, StableDiffusionLoraLoaderMixin):
    """CPM-Bee reads the prompt, a conditioning head hands its states to a Stable Diffusion UNet.

    ``paint_defaults``: how the model likes to paint (``num_inference_steps``, ``guidance_scale``, ``scheduler``,
    ``sizes`` as [width, height], first the usual one); kept in model_index.json. ``text_encoder`` may be None when all
    prompts come as embeddings. LoRA weights are loaded for the UNet.
    """

    model_cpu_offload_seq = "text_encoder->conditioning_head->canvas->unet->vae"
    _optional_components = ["tokenizer", "text_encoder", "canvas"]
    _callback_tensor_inputs = ["latents"]
    _lora_loadable_modules = ["unet"]
    text_encoder: CpmBeeModel | None

    def __init__(
        self,
        tokenizer: CpmBeeTokenizer | None,
        text_encoder: CpmBeeModel | None,
        conditioning_head: ConditioningHead,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        scheduler: SchedulerMixin,
        canvas: CanvasHead | None = None,
        paint_defaults: dict | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            conditioning_head=conditioning_head,
            unet=unet,
            vae=vae,
            scheduler=scheduler,
            canvas=canvas,
        )
        self.register_to_config(paint_defaults=dict(paint_defaults or {}))
        self._texts = PromptEncoder()
        self._trained = dict(scheduler.config)
        self._interrupt = False

    @property
    def vae_scale_factor(self) -> int:
        """Pixels per latent."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def default_size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        side = self.unet.config.sample_size * self.vae_scale_factor
        width, height = next(iter(self.config.paint_defaults.get("sizes") or ()), (side, side))
        return int(width), int(height)

    @property
    def interrupt(self) -> bool:
        """Set ``pipeline._interrupt`` in a callback to stop after the step; what is there is decoded."""
        return self._interrupt

    def set_scheduler(self, name: str) -> None:
        """Paint with the scheduler called ``name``; ModelError lists them. See :mod:`.schedulers`."""
        self.scheduler = make_scheduler(name, self._trained)

    def encode_prompt(self, prompts: Sequence[str], negative_prompts: Sequence[str] | None = None) -> PromptEmbeds:
        """B prompts, B negative prompts (None: no second pass) → embeddings, each pair padded to its longer text.

        Texts are taken as they are: escape what a user typed. The result is on the CPU. Raises PromptError.
        Source: spec viscpm §5.2.
        """
        texts = [*prompts, *(negative_prompts or ())]
        found = self._texts.encode(texts, self.tokenizer, self.text_encoder, self.conditioning_head)
        return paired(found[: len(prompts)], None if negative_prompts is None else found[len(prompts) :])

    def forget_texts(self) -> None:
        """Encode every text anew: for after a change of the text encoder's weights."""
        self._texts.known.clear()

    def free_text_encoder(self, texts: Sequence[str] = ()) -> None:
        """Encode ``texts`` (as a user types them) and "", then let the text encoder go.

        Afterwards only texts that were encoded can be painted; any other raises PromptError.
        """
        self._texts.encode_typed(texts, self.tokenizer, self.text_encoder, self.conditioning_head)
        self.text_encoder = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @classmethod
    def load_lora_into_text_encoder(cls, state_dict: dict[str, Tensor], **_: Any) -> None:
        """Part of ``load_lora_weights``: ModelError for weights that are meant for another text encoder."""
        if any(key.startswith("text_encoder") for key in state_dict):
            raise ModelError("These LoRA weights are not for the UNet alone.", "这些 LoRA 权重不只用于 UNet。")

    def channels_last(self) -> None:
        """Lay the weights of the UNet and the VAE out for convolutions that like channels last (half precision)."""
        for part in (self.unet, self.vae):
            part.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        *,
        output_type: str = "pil",
        callback_on_step_end: OnStep | None = None,
        **options: Any,
    ) -> ImagePipelineOutput:
        """Paint; ``options`` and errors as :meth:`prepare`.

        ``output_type``: ``"pil"``, ``"pt"`` ((N, 3, H, W) float32 in [0, 1]) or ``"latent"``.
        ``callback_on_step_end(pipeline, index, timestep, {"latents"})`` may return other latents, and stops the loop by
        ``pipeline._interrupt = True``: what is there is then decoded.
        """
        if output_type not in ("pil", "pt", "latent"):
            raise ModelError(
                f"output_type is {output_type!r}; known: pil, pt, latent.",
                f"output_type 是 {output_type!r}；可用：pil、pt、latent。",
            )
        self._interrupt = False
        job = self.prepare(prompt, **options)

        def on_step(index: int, timestep: Tensor, latents: Tensor) -> Tensor:
            if callback_on_step_end is None:
                return latents
            answer = callback_on_step_end(self, index, timestep, {"latents": latents})
            return (answer or {}).get("latents", latents)

        with self.progress_bar(total=len(job.timesteps)) as bar:
            for _ in job.steps(on_step):
                bar.update()
                if self._interrupt:
                    break
        images: Any = job.latents if output_type == "latent" else self.decode(job.latents, job.kept)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(pictures.to_pictures(images) if output_type == "pil" else images)

    @torch.no_grad()
    def prepare(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        negative_prompt: str | Sequence[str] | None = None,
        num_images_per_prompt: int = 1,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        generator: Generators = None,
        latents: Tensor | None = None,
        image: Image.Image | None = None,
        mask_image: Image.Image | None = None,
        strength: float = 0.75,
        exact: bool = False,
        prompt_embeds: PromptEmbeds | None = None,
    ) -> Job:
        """Encode B prompts (or take ``prompt_embeds``) and set up ``num_images_per_prompt`` of each: N pictures.

        ``exact``: the published way (DDPM down to timestep 0, 50 steps, both passes always, every draw from one
        generator, prompts not escaped). Else the pipeline's scheduler and defaults; a ``guidance_scale`` of 1 or less
        skips the second pass; ``generator`` is one for each picture, which is then what it would be alone, or one that
        seeds them all. ``latents`` (N, 4, h, w): the first noise. ``image``: paint over it, from ``strength`` (0, 1] of
        the way; ``mask_image``: only where it is white, the other pixels stay.

        Raises ImageError for sizes and masks, PromptError for prompts, ModelError for other arguments.
        """
        steps, guidance = self._settled(num_inference_steps, guidance_scale, exact)
        size = self._size(width, height, image, mask_image, exact)
        if prompt_embeds is None:
            prompt_embeds = self._embeds(prompt, negative_prompt, guidance is not None, exact)
        if guidance is not None and prompt_embeds.uncond is None:
            raise ModelError("Guidance needs the embeddings of a negative prompt.", "引导需要反向提示词的嵌入。")
        embeds = prompt_embeds.repeated(num_images_per_prompt).to(self._execution_device, self.unet.dtype)
        sides = (size[1] // self.vae_scale_factor, size[0] // self.vae_scale_factor)
        scheduler = exact_scheduler(self._trained) if exact else self.scheduler
        scheduler.set_timesteps(steps, device=self._execution_device)
        if not exact:
            generator = _one_each(generator, len(embeds))
        shape = (len(embeds), self.vae.config.latent_channels, *sides)
        noise = self._noise(shape, generator, latents)
        told = condition(embeds, guidance, self.unet, self.canvas, noise)
        job = Job(self.unet, scheduler, told, scheduler.timesteps, noise * scheduler.init_noise_sigma, generator)
        if image is not None:
            self._begin_with(job, noise, pictures.to_pixels(image, size), strength)
            if mask_image is not None:
                self._paint_inside(job, noise, pictures.to_pixels(image, size), pictures.to_mask(mask_image, size))
        return job

    @torch.no_grad()
    def decode(self, latents: Tensor, kept: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """(N, 4, h, w) → (N, 3, H, W) float32 in [0, 1]; ``kept`` (pixels, mask): what inpainting leaves alone."""
        raw = self.vae.decode(latents.to(self.vae.dtype) / self.vae.config.scaling_factor, return_dict=False)[0]
        pixels = (raw.float() / 2 + 0.5).clamp(0, 1)
        if kept is None:
            return pixels
        original, mask = (part.to(pixels) for part in kept)
        return torch.where(mask > 0, pixels, original / 2 + 0.5)

    def _settled(self, steps: int | None, guidance: float | None, exact: bool) -> tuple[int, float | None]:
        """Steps, and the guidance (None: one pass), from what was asked for or what is usual."""
        ask = self.config.paint_defaults
        if steps is None:
            steps = EXACT_STEPS if exact else int(ask.get("num_inference_steps", 25))
        if guidance is None:
            guidance = EXACT_GUIDANCE if exact else float(ask.get("guidance_scale", 7.5))
        if steps < 1:
            raise ModelError(f"There must be at least one step, not {steps}.", f"至少要有一步，而不是 {steps}。")
        return steps, guidance if exact or guidance > 1 else None

    def _embeds(
        self, prompt: str | Sequence[str] | None, negative: str | Sequence[str] | None, guided: bool, exact: bool
    ) -> PromptEmbeds:
        if prompt is None:
            raise ModelError("Give a prompt, or prompt_embeds.", "请给出 prompt 或 prompt_embeds。")
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        others = [negative or ""] * len(prompts) if negative is None or isinstance(negative, str) else list(negative)
        if len(others) != len(prompts) or not prompts:
            raise ModelError(
                f"There are {len(prompts)} prompts and {len(others)} negative prompts.",
                f"有 {len(prompts)} 个提示词和 {len(others)} 个反向提示词。",
            )
        if not exact:
            prompts, others = ([escape(text) for text in texts] for texts in (prompts, others))
        return self.encode_prompt(prompts, others if guided else None)

    def _size(
        self, width: int | None, height: int | None, image: Image.Image | None, mask: Image.Image | None, exact: bool
    ) -> tuple[int, int]:
        pictures.check_mask(image, mask)
        usual = self.default_size if image is None else image.size
        size = (width or usual[0], height or usual[1])
        # The published code asks for whole latents only.
        pictures.check_size(*size, self.vae_scale_factor if exact else math.lcm(8, self.vae_scale_factor))
        return size

    def _noise(self, shape: tuple[int, ...], generator: Generators, given: Tensor | None) -> Tensor:
        device, dtype = self._execution_device, self.unet.dtype
        if given is None:
            return randn_tensor(shape, generator=generator, device=device, dtype=dtype)
        if tuple(given.shape) != shape:
            raise ModelError(
                f"latents are {tuple(given.shape)}, not {shape}.", f"latents 为 {tuple(given.shape)}，应为 {shape}。"
            )
        return given.to(device, dtype)

    def _begin_with(self, job: Job, noise: Tensor, pixels: Tensor, strength: float) -> None:
        """Skip the first steps: begin with the noisy picture."""
        if not 0 < strength <= 1:
            raise ModelError(f"strength is {strength}; it lies in (0, 1].", f"strength 为 {strength}，应在 (0, 1] 内。")
        skipped = min(round(len(job.timesteps) * (1 - strength)), len(job.timesteps) - 1)
        job.timesteps = job.timesteps[skipped:]
        if hasattr(job.scheduler, "set_begin_index"):
            job.scheduler.set_begin_index(skipped)
        job.latents = job.scheduler.add_noise(self._encoded(pixels, noise), noise, job.timesteps[:1])

    def _paint_inside(self, job: Job, noise: Tensor, pixels: Tensor, mask: Tensor) -> None:
        """After each step put the picture back outside the mask, as noisy as the next step expects it."""
        source = self._encoded(pixels, noise)
        inside = torch.nn.functional.max_pool2d(mask, self.vae_scale_factor).to(noise)

        def change(latents: Tensor, index: int) -> Tensor:
            later = job.timesteps[index + 1 : index + 2]
            outside = job.scheduler.add_noise(source, noise, later) if len(later) else source
            return inside * latents + (1 - inside) * outside

        job.change, job.kept = change, (pixels, mask)

    def _encoded(self, pixels: Tensor, like: Tensor) -> Tensor:
        """(1, 3, H, W) in [-1, 1] → latents (1, 4, h, w), the mode of what the VAE says."""
        posterior = self.vae.encode(pixels.to(self._execution_device, self.vae.dtype)).latent_dist
        return (posterior.mode() * self.vae.config.scaling_factor).to(like).expand_as(like)


def _one_each(generator: Generators, count: int) -> Generators:
    """A generator for each picture; one generator for several pictures gives each a seed."""
    if isinstance(generator, list) and len(generator) != count:
        raise ModelError(
            f"There are {len(generator)} generators for {count} pictures.",
            f"{count} 张图片却有 {len(generator)} 个随机数生成器。",
        )
    if generator is None or isinstance(generator, list) or count == 1:
        return generator
    seeds = torch.randint(2**63 - 1, (count,), generator=generator, device=generator.device)
    return [torch.Generator(generator.device).manual_seed(int(seed)) for seed in seeds]
