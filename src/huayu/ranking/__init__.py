"""Which of several pictures shows the prompt best. Imports no torch."""

from __future__ import annotations

from huayu.ranking.clip import ChineseClipRanker, ClipRanker, open_ranker
from huayu.ranking.scores import Looker, Ranker, best_of, choose_ranker

__all__ = ["ChineseClipRanker", "ClipRanker", "Looker", "Ranker", "best_of", "choose_ranker", "open_ranker"]
