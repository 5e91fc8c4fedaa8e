"""An adapter that writes: from a run, a folder, or the Hub."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ditto_hub.config import RunConfig
from ditto_hub.errors import RunError
from ditto_hub.runs import Run

if TYPE_CHECKING:
    from ditto_hub.algorithm.policy import Policy


@dataclass
class Voice:
    """A loaded adapter that writes.

    Args:
        policy: the base model with the adapter on it.
        cap: new tokens a text at most, where the caller does not say.
    """

    policy: Policy
    cap: int = 512

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
            config: sampling settings; default temperature 1, nothing filtered.
        """
        from ditto_hub.algorithm.rollout import row_seed
        from ditto_hub.demos import as_messages

        ids = self.policy.format.prompt_ids(as_messages(prompt))
        seeds = [row_seed(seed, "generate", k) for k in range(samples)]
        off = self.policy.adapter_off() if adapter_off else contextlib.nullcontext()
        sampling = (config or RunConfig()).sampling
        with off:
            drawn = self.policy.sample([ids], [seeds], sampling, self.cap)
        return [self.policy.format.decode(row.token_ids) for row in drawn[0]]


def load(target: str | Path | Run, candidate: str | None = None, token: str | None = None) -> Voice:
    """Load a run's adapter, an adapter's folder, or an adapter on the Hub.

    Args:
        target: a run, its id or folder; or a folder or Hub repo with adapter_config.json.
        candidate: of a run; default the chosen one.
        token: of the Hub, for private repos.

    Raises:
        RunError: there is no such adapter.
        BaseModelError: its base model cannot be loaded, or does not fit.
    """
    from ditto_hub.algorithm.adapter_folder import load_adapter_folder

    folder = target.candidate(candidate) if isinstance(target, Run) else None
    if folder is None:
        folder = _adapter_folder(str(target), candidate, token)
    return Voice(load_adapter_folder(folder, token=token))


def _adapter_folder(target: str, candidate: str | None, token: str | None) -> Path:
    folder = Path(target)
    if (folder / "adapter_config.json").is_file():
        return folder
    try:
        return Run.load(target).candidate(candidate)
    except RunError:
        if folder.exists() or target.count("/") != 1:
            raise
    from huggingface_hub import snapshot_download

    from ditto_hub.hub.bounds import bound_time, told

    bound_time()
    with told(f"Loading the adapter {target}"):
        files = ["adapter_config.json", "adapter_model.safetensors"]
        return Path(snapshot_download(target, token=token, allow_patterns=files))
