"""Each different row of a preference batch once: for TRL's loss, in place of the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch

from ditto_hub.algorithm.decoding import length_sorted_chunks
from ditto_hub.algorithm.prefix import at_place, can_share, shared_passes, worth_sharing
from ditto_hub.algorithm.team import Team


class UniqueRows:
    """Stand in for the model in DPOTrainer's loss: run each different row once, gather to pairs.

    Rows run in length-sorted passes, so hardly any padding is computed, and a prompt that several
    rows follow runs once. While all rows hold no more tokens than the budget, every pass keeps its
    graph and one backward goes through all. With more, they take turns: pairs of different
    demonstrations have no row in common, so the loss's gradient at some demonstrations' rows asks
    for nothing of the others. The loss is taken anew in every turn, the rows of the turn with their
    graph, the others as constants; in the last one all are known and it is the batch's loss. Rows
    of one demonstration that exceed the budget run twice: first without gradients, then, once
    the loss has given the gradient of each row's log-probabilities, again with them (`backward`).

    Args:
        model: the PEFT model with TRL's fused head.
        token_budget: tokens whose activations are kept at a time at most, padding included.
        pass_tokens: tokens a forward pass at most, where that is less.
        team: processes that share the passes, if there are several.
    """

    def __init__(
        self, model: Any, token_budget: int, pass_tokens: int, team: Team | None = None
    ) -> None:
        self.model = model
        self.team = team
        self.token_budget = token_budget
        self.pass_tokens = min(token_budget, pass_tokens)
        self.can_share = team is None and can_share(model.config)
        self.groups: list[list[int]] = []  # rows that take a turn together
        self._turn = 0
        self._known = torch.empty(0)
        self._routing: torch.Tensor | float = 0.0
        self._leaf: torch.Tensor | None = None
        self._passes: list[dict[str, torch.Tensor]] = []
        self._chunks: list[list[int]] = []

    def __call__(
        self,
        *,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        labels: torch.Tensor,
        rows: torch.Tensor,
        **_: object,
    ) -> SimpleNamespace:
        """Return per-token fields of shape (2B, L - 1), as the fused head would.

        Args:
            input_ids: (2B, L), winners first; attention_mask and labels likewise.
            rows: (2B,) number of the different row that each line holds, from 0.
        """
        first = torch.stack([(rows == r).nonzero()[0, 0] for r in range(int(rows.max()) + 1)])
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}
        given = {name: value[first] for name, value in given.items()}
        lengths = given["attention_mask"].sum(1).tolist()
        if not self.groups:
            pairs = list(zip(*(half.tolist() for half in rows.chunk(2)), strict=True))
            self.groups = turns(pairs, len(lengths), lambda g: self._fits(lengths, g))
            self._known = given["input_ids"].new_zeros((len(first), input_ids.shape[1] - 1))
            self._known = self._known.float()
        group = self.groups[self._turn]
        found, routing = self._run_group(given, lengths, group)
        where = torch.tensor(group, device=rows.device)
        if routing is not None:  # of the turns so far, each by its share of the rows
            routing = self._routing + routing * (len(group) / len(first))
            self._routing = routing.detach()
        values = self._known.to(found.dtype).index_copy(0, where, found)
        self._known = values.detach()
        unread = torch.zeros_like(self._known)[rows]
        return SimpleNamespace(
            log_probs=values[rows],
            entropy=unread,
            mean_logits=unread,
            is_top1=unread.bool(),
            aux_loss=routing,
        )

    def backward(self) -> bool:
        """Send the gradient on the log-probabilities through the model, pass by pass.

        Returns:
            Whether rows are left that have not had their turn.
        """
        if self._leaf is not None:
            parts = list(zip(self._passes, self._chunks, strict=True))
            owed = [self._leaf.grad[c, : p["input_ids"].shape[1] - 1] for p, c in parts]  # type: ignore[index]
            if self.team is not None:
                self.team.backward(self._passes, owed)
            else:
                for (part, _), gradient in zip(parts, owed, strict=True):
                    self._run(part).log_probs.backward(gradient=gradient)
        self._leaf = None
        self._turn += 1
        return self._turn < len(self.groups)

    def _run_group(
        self, given: dict[str, torch.Tensor], lengths: list[int], group: list[int]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return (R, L - 1) log-probabilities of a turn's rows, and the routing loss if any."""
        self._chunks = list(length_sorted_chunks([lengths[r] for r in group], self.pass_tokens))
        widths = [max(lengths[group[i]] for i in chunk) for chunk in self._chunks]
        fits = self.team is None and self._fits(lengths, group)
        mine = {name: value[group] for name, value in given.items()}
        self._passes = [
            {name: value[chunk, :width] for name, value in mine.items()}
            for chunk, width in zip(self._chunks, widths, strict=True)
        ]
        routing = None
        with torch.set_grad_enabled(fits and torch.is_grad_enabled()):
            found = self._run_shared(mine, [lengths[r] for r in group])
            if found is None:
                found, routing = self._run_whole(mine["input_ids"].shape[1] - 1)
        if not fits:
            self._leaf = found = found.detach().requires_grad_()
        return found, routing

    def _fits(self, lengths: Sequence[int], group: Sequence[int]) -> bool:
        """Tell whether the budget holds the graph of some rows; a team's batch is not cut here."""
        own = [lengths[r] for r in group]
        chunks = length_sorted_chunks(own, self.pass_tokens)
        padded = sum(max(own[i] for i in chunk) * len(chunk) for chunk in chunks)
        return self.team is not None or padded <= self.token_budget

    def _run_shared(self, mine: dict[str, torch.Tensor], lengths: list[int]) -> torch.Tensor | None:
        """Return what `_run_whole` does from prompts that are read once, or None without gain."""
        if not self.can_share:
            return None
        starts = (mine["labels"] != -100).int().argmax(1)
        ids = mine["input_ids"].tolist()
        sizes = zip(ids, starts.tolist(), lengths, strict=True)
        rows = [(tuple(line[:start]), tuple(line[start:end])) for line, start, end in sizes]
        if not worth_sharing(rows):
            return None
        order, found = [], []
        for numbers, log_probs in shared_passes(self.model, rows, self.pass_tokens, 0):
            order += numbers
            found.append(at_place(log_probs, starts[numbers], mine["labels"].shape[1] - 1))
        return torch.cat(found)[torch.tensor(order).argsort().to(starts.device)]

    def _run_whole(self, width: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        if self.team is not None:
            found, routing = self.team.forward(self._passes), []
        else:
            outs = [self._run(part) for part in self._passes]
            found = [out.log_probs for out in outs]
            routing = [out.aux_loss for out in outs if out.aux_loss is not None]
        padded = torch.cat([torch.nn.functional.pad(p, (0, width - p.shape[1])) for p in found])
        order = torch.tensor([i for chunk in self._chunks for i in chunk], device=padded.device)
        return padded[order.argsort()], sum(routing) / len(routing) if routing else None

    def _run(self, part: dict[str, torch.Tensor]) -> Any:
        return self.model(**part, fused_lm_head=True, use_cache=False)


def turns(
    pairs: Sequence[tuple[int, int]], count: int, fits: Callable[[list[int]], bool]
) -> list[list[int]]:
    """Return rows in groups that no pair joins, as many rows together as fit.

    Args:
        pairs: numbers of two rows.
        count: of rows.
        fits: whether some rows may take their turn together.
    """
    owner = list(range(count))

    def root(row: int) -> int:
        while owner[row] != row:
            row = owner[row]
        return row

    for a, b in pairs:
        owner[root(b)] = root(a)
    joined: dict[int, list[int]] = {}
    for row in range(count):
        joined.setdefault(root(row), []).append(row)
    groups: list[list[int]] = []
    for rows in joined.values():
        if groups and fits([*groups[-1], *rows]):
            groups[-1] = [*groups[-1], *rows]
        else:
            groups.append(rows)
    return groups
