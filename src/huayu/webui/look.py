"""Colours and type: quiet paper, ink, and one accent."""

from __future__ import annotations

import gradio as gr

_SANS = ("ui-sans-serif", "system-ui", "PingFang SC", "Noto Sans CJK SC", "Microsoft YaHei", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Noto Sans Mono CJK SC", "monospace")


def theme() -> gr.themes.Base:
    """System fonts only, so that nothing is fetched."""
    made = gr.themes.Base(
        primary_hue=gr.themes.colors.red,
        neutral_hue=gr.themes.colors.stone,
        radius_size=gr.themes.sizes.radius_lg,
        font=[gr.themes.Font(name) for name in _SANS],
        font_mono=[gr.themes.Font(name) for name in _MONO],
    )
    return made.set(
        body_background_fill="#faf8f4", body_background_fill_dark="#181614",
        body_text_color="#2a2622", body_text_color_dark="#ece7df",
        body_text_color_subdued="#6b645b", body_text_color_subdued_dark="#aea598",
        background_fill_primary="#fffdfa", background_fill_primary_dark="#211e1b",
        background_fill_secondary="#f3efe8", background_fill_secondary_dark="#2a2622",
        block_background_fill="transparent", block_background_fill_dark="transparent",
        block_border_color="#e4ddd2", block_border_color_dark="#3a352f",
        border_color_primary="#d9d1c4", border_color_primary_dark="#453f38",
        block_label_text_color="#5a534b", block_label_text_color_dark="#b9b0a3",
        block_title_text_color="#5a534b", block_title_text_color_dark="#b9b0a3",
        block_title_text_weight="500", block_shadow="none", block_border_width="0px",
        input_border_width="1px", block_padding="0px",
        input_background_fill="#fffdfa", input_background_fill_dark="#1c1a17",
        input_border_color="#cfc6b8", input_border_color_dark="#4d463e",
        input_border_color_focus="#a83a2a", input_border_color_focus_dark="#e58a76",
        input_placeholder_color="#746c62", input_placeholder_color_dark="#a0978a",
        color_accent="#a83a2a", color_accent_soft="#f7e9e4", color_accent_soft_dark="#3b2620",
        button_primary_background_fill="#a83a2a", button_primary_background_fill_hover="#8f2f21",
        button_primary_background_fill_dark="#b9442f", button_primary_background_fill_hover_dark="#a83a2a",
        button_primary_text_color="#ffffff", button_primary_text_color_dark="#ffffff",
        button_secondary_background_fill="#efe9df", button_secondary_background_fill_hover="#e6dece",
        button_secondary_background_fill_dark="#332e29", button_secondary_background_fill_hover_dark="#3f3932",
        button_secondary_text_color="#3a342d", button_secondary_text_color_dark="#ece7df",
        button_cancel_background_fill="#3a342d", button_cancel_background_fill_hover="#2a2622",
        button_cancel_text_color="#ffffff", button_cancel_background_fill_dark="#ece7df",
        button_cancel_background_fill_hover_dark="#ffffff", button_cancel_text_color_dark="#211e1b",
        link_text_color="#8f2f21", link_text_color_dark="#f0a595",
    )  # fmt: skip
