"""Checks of prompts and pictures, each with a reason in Chinese and English. Imports no torch."""

from __future__ import annotations

from huayu.safety.guard import CHECKS, POLICIES, Guard, Policy, default_guard, objections, settle_guard
from huayu.safety.verdicts import PictureCheck, PromptCheck
from huayu.safety.words import WordCheck

__all__ = [
    "CHECKS",
    "POLICIES",
    "Guard",
    "PictureCheck",
    "Policy",
    "PromptCheck",
    "WordCheck",
    "default_guard",
    "objections",
    "settle_guard",
]
