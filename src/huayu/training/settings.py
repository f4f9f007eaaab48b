"""Settings of the training loop, and the learning rate over its steps."""

from __future__ import annotations

import dataclasses

from huayu.errors import ModelError


@dataclasses.dataclass(frozen=True)
class LoopSettings:
    """Settings of the loop. ``learning_rate`` may be overridden per parameter by ``p.lr_scale`` factors.

    Each process takes ``batch_size`` rows ``accumulate`` times for one step. With ``patience`` the run ends when the
    figure ``watch`` of so many evaluations in a row was no smaller than the smallest so far, and the weights of that
    one are exported; 0 runs to the last step and exports what it has. Raises ModelError for values that are none.
    """

    output: str
    steps: int
    batch_size: int
    learning_rate: float
    warmup: int = 200
    cooldown: float = 0.4  # share of the steps over which the rate falls to its floor
    floor: float = 0.02
    weight_decay: float = 0.01
    beta2: float = 0.98
    clip: float = 1.0
    accumulate: int = 1
    ema: float = 0.0  # decay of a running average of the weights, which is evaluated and exported; 0: none
    gradient_checkpointing: bool = False  # states of the blocks are computed again instead of kept
    sharding: str = "none"  # "full": processes share out parameters, gradients and the optimizer's state
    patience: int = 0
    watch: str = "loss"
    log_every: int = 50
    evaluate_every: int = 1000
    samples: int = 4  # answers or pictures written at each evaluation
    tensorboard: bool = False
    save_minutes: float = 3.0
    workers: int = 0
    threads: int = 1
    device: str = "auto"
    precision: str = "auto"  # "fp32", "bf16"; auto: bf16 on a GPU, fp32 on a CPU, where it is the faster one

    def __post_init__(self) -> None:
        for name, known in (("precision", ("auto", "fp32", "bf16")), ("sharding", ("none", "full"))):
            if (value := getattr(self, name)) not in known:
                every = ", ".join(known)
                raise ModelError(f"{name} is {value!r}; known: {every}.", f"{name} 是 {value!r}；可用：{every}。")
        if not 0 <= self.ema < 1:
            raise ModelError(f"ema is {self.ema}; it is 0 or below 1.", f"ema 是 {self.ema}；应为 0 或小于 1。")

    @classmethod
    def names(cls) -> list[str]:
        return [field.name for field in dataclasses.fields(cls)]


def rate_at(step: int, settings: LoopSettings) -> float:
    """Learning-rate factor: linear warm-up, constant, linear cool-down to the floor."""
    left = (settings.steps - step) / max(1.0, settings.cooldown * settings.steps)
    return min(1.0, (step + 1) / max(1, settings.warmup)) * max(settings.floor, min(1.0, left))
