"""An adapter that writes: from a run, a folder, or the Hub."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ditto_hub.config import Reading, RunConfig
from ditto_hub.errors import RunError
from ditto_hub.runs.folder import Run
from ditto_hub.runs.storage import is_file, is_folder
from ditto_hub.tokens import MACHINE, Token, as_token
from ditto_hub.words import Message

if TYPE_CHECKING:
    from ditto_hub.engine.choice import AnyEngine


@dataclass
class Voice:
    """A loaded adapter that writes.

    Args:
        policy: the base model with the adapter on it.
        cap: new tokens a text at most, where the caller does not say.
        reading: how texts are drawn, where the caller does not say.
    """

    policy: AnyEngine
    cap: int = 512
    reading: Reading = field(default_factory=Reading)

    def generate(
        self,
        prompt: str | Sequence[Mapping[str, str]],
        *,
        samples: int = 1,
        seed: int = 0,
        adapter_off: bool = False,
        config: RunConfig | None = None,
    ) -> list[str]:
        """Write texts for a prompt.

        Args:
            prompt: one user turn, or a conversation whose last turn is the user's.
            samples: how many.
            seed: of the sampling.
            adapter_off: be the base model, logit for logit.
            config: whose `reading` section says how to draw; default the run's own.
        """
        from ditto_hub.demos.demonstrations import as_messages
        from ditto_hub.ditto.rollout import row_seed
        from ditto_hub.engine.base_model import recommended

        ids = self.policy.format.prompt_ids(as_messages(prompt))
        seeds = [row_seed(seed, "generate", k) for k in range(samples)]
        off = self.policy.adapter_off() if adapter_off else contextlib.nullcontext()
        reading = config.reading if config else self.reading
        sampling = reading.settled(recommended(self.policy.model))
        with off:
            drawn = self.policy.sample([ids], [seeds], sampling, self.cap)
        return [self.policy.format.decode(row.token_ids) for row in drawn[0]]


def load(
    target: str | Path | Run, candidate: str | None = None, token: Token | str = MACHINE
) -> Voice:
    """Load a run's adapter, an adapter's folder, or an adapter on the Hub.

    Args:
        target: a run, its id or folder; or a folder or Hub repo with adapter_config.json.
        candidate: of a run; default the chosen one.
        token: of the Hub, for private repos.

    Raises:
        RunError: there is no such adapter.
        BaseModelError: its base model cannot be loaded, or does not fit.
    """
    from ditto_hub.engine.adapter_folder import load_adapter_folder

    run = _as_run(target)
    if run is not None:
        folder, reading = run.candidate(candidate), run.config.reading
    else:
        folder, reading = _adapter_folder(str(target), token), Reading()
    return Voice(load_adapter_folder(folder, token=token), reading=reading)


def _as_run(target: str | Path | Run) -> Run | None:
    """Return the run that is meant, or None for an adapter's folder or repo."""
    if isinstance(target, Run):
        return target
    folder = Path(target)
    if is_file(folder / "adapter_config.json"):
        return None
    try:
        return Run.load(target)
    except RunError:
        if is_folder(folder) or is_file(folder) or str(target).count("/") != 1:
            raise
    return None


def _adapter_folder(target: str, token: Token | str) -> Path:
    if is_file(Path(target) / "adapter_config.json"):
        return Path(target)
    from huggingface_hub import snapshot_download

    from ditto_hub.hub.bounds import bound_time, told

    bound_time()
    with told(Message("hub.doing.fetch", name=target)):
        files = ["adapter_config.json", "adapter_model.safetensors"]
        return Path(snapshot_download(target, token=as_token(token).sent, allow_patterns=files))
