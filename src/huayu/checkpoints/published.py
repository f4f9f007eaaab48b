"""The published checkpoints by name: what they are, whose licence they carry, what huayu does with them. Data only."""

from __future__ import annotations

from dataclasses import dataclass

from huayu import embedded


@dataclass(frozen=True)
class Published:
    """One checkpoint. ``size`` in bytes on the disk (0: not measured); ``repository`` empty: inside the package.

    ``files``: what to fetch besides small text files; empty: the weights that the usual names say. ``sha256``: of the
    one file in ``files``, where it is known.
    """

    name: str
    what_en: str
    what_zh: str
    licence_en: str
    licence_zh: str
    kind: str
    family: str
    parameters: int = 0
    size: int = 0
    repository: str = ""
    files: tuple[str, ...] = ()
    sha256: str = ""


_VISCPM_EN = (
    "General Model License (source notes, publicity restrictions, non-commercial): individual and research use; "
    "commercial use by agreement with its makers. Read it at the source."
)
_VISCPM_ZH = "通用模型许可协议（来源说明、宣传限制、非商业化）：可用于个人与研究；商用须与发布者商定。请以原文为准。"
_GLM_EN = "Weights: non-commercial research licence of the model team; code Apache-2.0. Read them at the source."
_GLM_ZH = "权重：模型团队的非商业研究许可；代码 Apache-2.0。请以原文为准。"
_CHAT_PARAMETERS = 10_318_225_408
_PAINT_PARAMETERS = 10_486_187_972


def _chat(name: str, en: str, zh: str, file: str, sha256: str = "") -> Published:
    what_en, what_zh = f"talks about pictures in Chinese and English{en}", f"中英双语图片对话{zh}"
    return Published(
        name, what_en, what_zh, _VISCPM_EN, _VISCPM_ZH, "chat", "viscpm_chat", _CHAT_PARAMETERS, 2 * _CHAT_PARAMETERS,
        "openbmb/VisCPM-Chat", (file,), sha256,
    )  # fmt: skip


def _paint(name: str, en: str, zh: str, file: str) -> Published:
    return Published(
        name, f"paints from Chinese and English words{en}", f"中英双语文生图{zh}", _VISCPM_EN, _VISCPM_ZH, "paint",
        "viscpm_paint", _PAINT_PARAMETERS, 22_700_000_000, "openbmb/VisCPM-Paint", (file,),
    )  # fmt: skip


PUBLISHED: tuple[Published, ...] = (
    Published(
        "huayu-chat-mini", "talks about simple pictures; in the package, offline", "简单图片的对话；随包附带，离线可用",
        "Apache-2.0", "Apache-2.0", "chat", "viscpm_chat",
    ),
    Published(
        "huayu-glm-mini", "the same with VisualGLM's architecture", "同样的对话，VisualGLM 的结构",
        "Apache-2.0", "Apache-2.0", "chat", "visualglm",
    ),
    Published(
        "huayu-paint-mini", "paints everyday things; in the package, offline", "画日常事物；随包附带，离线可用",
        "Apache-2.0", "Apache-2.0", "paint", "viscpm_paint",
    ),
    _chat("VisCPM-Chat-balance", "", "", "pytorch_model.bin",
          "db08ff50fb8ef2818458a05a882437a016b9b6213c3377c7a097ab99c3f899a1"),
    _chat("VisCPM-Chat-zhplus", ", stronger in Chinese", "，中文更强", "pytorch_model.zhplus.bin",
          "3fbd6d568eeaf090911d2b6377e1a187a9a2dad124ec01d79031c161b42cc8d2"),
    _chat("VisCPM-Chat-v1.1", ", better at details and reasoning", "，细节与推理更强", "pytorch_model.v1.bin"),
    _paint("VisCPM-Paint-zhplus", ", stronger in Chinese", "，中文更强", "pytorch_model.bin"),
    _paint("VisCPM-Paint-balance", "", "", "pytorch_model.balance.bin"),
    Published(
        "VisualGLM-6B", "talks about pictures in Chinese and English", "中英双语图片对话", _GLM_EN, _GLM_ZH, "chat",
        "visualglm", 7_802_193_408, 2 * 7_802_193_408, "THUDM/visualglm-6b",
    ),
)  # fmt: skip

# What config.json of a published repository says its model is → our family: such a folder has published names inside.
PUBLISHED_MODEL_TYPES: dict[str, str] = {"viscpmchatbee": "viscpm_chat"}


def by_name(name: str) -> Published | None:
    """The entry called ``name`` (in any case), or the first of the repository called so; None when there is none."""
    wanted = name.lower()
    for entry in PUBLISHED:
        if wanted and wanted in (entry.name.lower(), entry.repository.lower()):
            return entry
    return None


def names() -> list[str]:
    """Every name that may be given where a model is asked for, embedded ones first."""
    listed = [entry.name for entry in PUBLISHED] + [entry.repository for entry in PUBLISHED if entry.repository]
    return list(dict.fromkeys([*embedded.EMBEDDED, *listed]))
