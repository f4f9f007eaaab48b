"""A chat model whose language model runs compiled."""

from __future__ import annotations

from typing import Any

from huayu.errors import ModelError


def compile_blocks(backend: Any) -> None:
    """Raises ModelError where there is nothing to compile, or no C++ compiler."""
    from huayu.models.compiled import CompilableBlocks
    from huayu.quantization import QuantizedLinear

    blocks = [module for module in backend.model.modules() if isinstance(module, CompilableBlocks)]
    if not blocks or any(isinstance(module, QuantizedLinear) for module in backend.model.modules()):
        raise ModelError(
            f"Only models of huayu's own families, not quantised, are compiled: not {backend.name}.",
            f"只能编译 huayu 自己的、未量化的模型：{backend.name} 不行。",
        )
    try:
        blocks[0].compile_blocks()
    except RuntimeError as error:
        raise ModelError("Compiling needs a C++ compiler, such as g++.", "编译需要 C++ 编译器，例如 g++。") from error
