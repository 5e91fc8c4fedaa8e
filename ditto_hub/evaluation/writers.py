"""The model at work for an evaluation: one policy that wears each candidate's adapter in turn."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ditto_hub.config import Sampling
from ditto_hub.demos.demonstrations import Demonstration
from ditto_hub.ditto.rollout import row_seed
from ditto_hub.engine.protocol import Row
from ditto_hub.errors import RunError
from ditto_hub.evaluation.judges import Messages
from ditto_hub.evaluation.methods import RIVALS, ditto_candidate
from ditto_hub.runs.folder import Run

if TYPE_CHECKING:
    from ditto_hub.engine.choice import AnyEngine


class PolicyStudio:
    """Write texts with a run's candidates, one sampling setting for all methods.

    A sample's random numbers depend on the seed, its prompt's place and its own number, and not on
    the method, so that methods are compared on the same draws.

    Args:
        run: whose demonstrations and candidates.
        policy: the run's base model with an adapter of the run's shape; as it was afterwards.
        sampling: temperature, top-p, top-k, and how many rows side by side.
        cap: new tokens an answer at most.
        context: tokens the model can take, answer included.
        self_prompt: the user's instructions, for the method of that name.
    """

    def __init__(
        self,
        run: Run,
        policy: AnyEngine,
        sampling: Sampling,
        *,
        cap: int,
        context: int,
        self_prompt: str = "",
    ) -> None:
        self.demonstrations: Sequence[Demonstration] = tuple(run.demos())
        self.self_prompt = self_prompt
        self._run = run
        self._policy = policy
        self._sampling = sampling
        self._cap = cap
        self._context = context

    @property
    def ditto(self) -> str:
        """The chosen candidate where that is a round, else the last round there is."""
        return ditto_candidate(self._run)

    def require(self, candidate: str) -> None:
        """Raise RunError where there is no such candidate."""
        if candidate not in self._run.candidates():
            have = ", ".join(self._run.candidates()) or "none yet"
            how = (
                "or let `ditto-hub evaluate --train-rivals` train it first"
                if candidate in RIVALS
                else "or train that one first"
            )
            raise RunError(
                "evaluation.no_candidate",
                run_id=self._run.record.id,
                candidate=candidate,
                have=have,
                how=how,
            )

    def fits(self, messages: Messages) -> bool:
        """Tell whether a prompt leaves room for an answer in the model's context."""
        return len(self._policy.format.prompt_ids(messages)) + self._cap <= self._context

    def write(
        self, prompts: Sequence[Messages], samples: int, seed: int, candidate: str | None = None
    ) -> list[list[str]]:
        """Sample texts for each prompt from a candidate, or from the base model where it is None.

        Raises:
            RunError: there is no such candidate.
            ChatTemplateError: the base model's template refuses a prompt.
        """
        ids = [self._policy.format.prompt_ids(prompt) for prompt in prompts]
        texts: list[list[str]] = []
        size = max(1, self._sampling.batch_rows // samples)
        with self._wearing(candidate):
            for start in range(0, len(ids), size):
                batch = range(start, min(start + size, len(ids)))
                seeds = [[row_seed(seed, "evaluate", i, k) for k in range(samples)] for i in batch]
                drawn = self._policy.sample(
                    [ids[i] for i in batch], seeds, self._sampling, self._cap
                )
                texts += [[self._policy.format.decode(d.token_ids) for d in row] for row in drawn]
        return texts

    def log_probs(
        self, prompts: Sequence[Messages], texts: Sequence[str], candidate: str | None = None
    ) -> list[tuple[float, int]]:
        """Return each text's log-probability after its prompt (nats, summed), and its tokens.

        Raises:
            RunError: there is no such candidate.
            ChatTemplateError: the base model's template refuses a prompt.
        """
        rows = [
            self._policy.format.encode(prompt, text)
            for prompt, text in zip(prompts, texts, strict=True)
        ]
        with self._wearing(candidate):
            scores = self._policy.log_probs(
                [Row(tuple(r.prompt_ids), tuple(r.completion_ids)) for r in rows]
            )
        return [(s, len(r.completion_ids)) for s, r in zip(scores, rows, strict=True)]

    @contextlib.contextmanager
    def _wearing(self, candidate: str | None) -> Iterator[None]:
        if candidate is None:
            with self._policy.adapter_off():
                yield
            return
        self.require(candidate)
        before = self._policy.snapshot()
        self._policy.load_adapter(self._run.candidate(candidate))
        try:
            yield
        finally:
            self._policy.restore(before)
