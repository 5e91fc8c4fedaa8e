"""The LoRA model: load, sample, score, snapshot, save at the root.

The base model's weights never change. Sampling merges the adapter into copies of the weights it
touches and puts the very same tensors back, so that nothing is ever restored by arithmetic.
"""

from __future__ import annotations

import contextlib
import json
import platform
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft import set_peft_model_state_dict as load_adapter_tensors
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from transformers.cache_utils import DynamicCache

from ditto_hub.algorithm.base_model import lora_targets
from ditto_hub.algorithm.chat import ChatFormat
from ditto_hub.algorithm.decoding import (
    Drawn,
    cache_argument,
    collect,
    drop_rows,
    inverse_cdf,
    length_sorted_chunks,
    pad_rows,
    pass_tokens,
    roomy_cache,
    survivors,
    uniforms,
    warpers,
)
from ditto_hub.algorithm.graph_decoding import FixedDecoder
from ditto_hub.algorithm.head import put_head
from ditto_hub.algorithm.memory import Room, parts
from ditto_hub.algorithm.merging import merged, ready_to_decode
from ditto_hub.algorithm.prefix import can_share, shared_passes, worth_sharing
from ditto_hub.algorithm.team import Team
from ditto_hub.config import Lora, Sampling
from ditto_hub.errors import BaseModelError

LEAVE = True  # ended rows leave the batch
SCORED_TOKENS = 8192  # a pass without gradients: with fewer a GPU waits for the host's launches
Tensors = dict[str, torch.Tensor]
Sequences = Sequence[tuple[Sequence[int], Sequence[int]]]


class Policy:
    """A base model with one LoRA adapter, named `default`.

    Args:
        model: the base model; the adapter is put on it in place.
        tokenizer: the base model's.
        lora: the adapter's shape.
        seed: of the adapter's first weights.
        base_model: {id, revision} to write into the adapter's config.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        lora: Lora,
        seed: int,
        base_model: Mapping[str, Any],
    ) -> None:
        self.tokenizer = tokenizer
        self.format = ChatFormat(tokenizer)
        self.device = model.device
        self.pass_tokens = pass_tokens(self.device)
        self.room = Room()
        self.team: Team | None = None
        self._cache_argument = cache_argument(model)
        self.can_share = can_share(model.config)
        self.fixed_buffers = self.device.type == "cuda" and self.can_share
        targets = lora_targets(model, lora.targets)
        self._forward = model.__dict__.get("forward")
        self._head = put_head(model)
        torch.manual_seed(seed)
        config = LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha if lora.alpha % 1 else int(lora.alpha),
            lora_dropout=lora.dropout,
            target_modules=targets,
            fan_in_fan_out=any(type(m).__name__ == "Conv1D" for m in model.modules()),
            task_type="CAUSAL_LM",
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PEFT reads an old name of transformers
            self.model: PeftModel = get_peft_model(model, config)
        config.base_model_name_or_path = str(base_model["id"])  # PEFT puts the folder there
        config.revision = base_model.get("revision")
        self.model.eval()

    def unload(self) -> None:
        """Take the adapter off and leave the base model as it was before."""
        base = self.model.unload()
        base.__dict__.pop("forward", None)
        if self._forward is not None:
            base.forward = self._forward

    @contextlib.contextmanager
    def own_head(self) -> Iterator[None]:
        """Keep this policy's head where a trainer built inside the block puts one of its own."""
        try:
            yield
        finally:
            self.model.get_base_model().forward = self._head

    # ---- sampling ------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[Sequence[int]],
        sampling: Sampling,
        cap: int,
    ) -> list[list[Drawn]]:
        """Draw completions side by side, each with its own random generator.

        Every prompt is read once, however many completions it gets; rows that have ended leave
        the batch. A row's random numbers depend on its seed alone.

        Args:
            prompts: token ids, one list a prompt.
            seeds: for each prompt, one seed a completion.
            sampling: temperature, top-p and top-k.
            cap: new tokens at most.

        Returns:
            For each prompt, its completions in the order of its seeds.
        """
        if self.team is not None:
            return self.team.sample(prompts, seeds, sampling, cap)
        return self.own_sample(prompts, seeds, sampling, cap)

    @torch.no_grad()
    def own_sample(
        self,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[Sequence[int]],
        sampling: Sampling,
        cap: int,
    ) -> list[list[Drawn]]:
        """Draw as `sample` does, in this process alone."""
        self.model.eval()

        def draw() -> list[list[Drawn]]:
            grouped: list[list[Drawn]] = [[] for _ in prompts]
            for part in parts(prompts, seeds, self.room.rows):
                for i, row in self._draw_part(prompts, part, sampling, cap):
                    grouped[i].append(row)
            return grouped

        return self.room.with_rows(draw, sum(len(mine) for mine in seeds))

    def _draw_part(
        self,
        prompts: Sequence[Sequence[int]],
        part: Sequence[tuple[int, Sequence[int]]],
        sampling: Sampling,
        cap: int,
    ) -> list[tuple[int, Drawn]]:
        """Draw one group of rows; returns each with its prompt's number."""
        owner = [k for k, (_, mine) in enumerate(part) for _ in mine]
        draws = torch.stack([uniforms(s, cap) for _, mine in part for s in mine])
        with ready_to_decode(self.model):
            drawn = self._decode([prompts[i] for i, _ in part], owner, draws, sampling, cap)
        return [(part[k][0], row) for k, row in zip(owner, drawn, strict=True)]

    def _decode(
        self,
        prompts: Sequence[Sequence[int]],
        owner: list[int],
        draws: torch.Tensor,
        sampling: Sampling,
        cap: int,
    ) -> list[Drawn]:
        ids, mask = pad_rows(prompts, self.format.pad_id, left=True)
        cache = roomy_cache(self.model.config)
        step = {"input_ids": ids.to(self.device), "attention_mask": mask.to(self.device)}
        step["position_ids"] = (step["attention_mask"].cumsum(1) - 1).clamp(min=0)
        logits = self._next_logits(step, cache)
        rows = torch.tensor(owner, device=self.device)
        cache.batch_select_indices(rows)
        logits, mask = logits[rows], step["attention_mask"][rows]
        position = mask.sum(1)
        stop = torch.tensor(sorted(self.format.stop_ids), device=self.device)
        warp = warpers(sampling)
        draws = draws.to(self.device)
        if self.fixed_buffers:
            return FixedDecoder(self._next_logits, cache, mask, draws, warp, stop).run(logits)
        alive = torch.arange(len(owner), device=self.device)
        tokens = torch.full((len(owner), cap), -1, dtype=torch.long, device=self.device)
        log_probs = torch.zeros(len(owner), dtype=torch.float64, device=self.device)
        ended = torch.zeros(len(owner), dtype=torch.bool, device=self.device)
        for t in range(cap):
            token = inverse_cdf(warp(None, logits), draws[alive, t])  # (R,)
            chosen = logits.log_softmax(-1).gather(1, token[:, None])[:, 0]
            going = ~ended[alive]
            tokens[alive[going], t] = token[going]
            log_probs[alive[going]] += chosen[going].double()
            ended[alive] |= torch.isin(token, stop)
            left = ~ended[alive]
            n_left = int(left.sum())
            if n_left == 0 or t == cap - 1:
                break
            if LEAVE and n_left < len(alive):  # rows that have ended leave the batch
                keep = survivors(left)
                drop_rows(cache, keep)
                alive, token, mask, position = (x[keep] for x in (alive, token, mask, position))
            mask = torch.cat([mask, mask.new_ones(len(alive), 1)], 1)
            step = {"input_ids": token[:, None], "attention_mask": mask}
            step["position_ids"] = position[:, None]
            position = position + 1
            logits = self._next_logits(step, cache)
        return collect(tokens, ended, log_probs)

    def _next_logits(self, step: dict[str, torch.Tensor], cache: DynamicCache) -> torch.Tensor:
        held = {self._cache_argument: cache}
        out = self.model(**step, **held, use_cache=True, logits_to_keep=1)
        logits: torch.Tensor = out.logits[:, -1].float()
        return logits

    # ---- scoring -------------------------------------------------------------------------------

    @torch.no_grad()
    def log_probs(self, rows: Sequences, token_budget: int = 16_384) -> list[float]:
        """Return each completion's log-probability after its prompt, in nats, summed over tokens.

        Args:
            rows: (prompt ids, completion ids).
            token_budget: of a pass that keeps what a backward one needs; nothing is kept here, so
                passes may be larger.
        """
        if self.team is not None:
            return self.team.log_probs(rows, token_budget)
        return self.own_log_probs(rows, token_budget)

    @torch.no_grad()
    def own_log_probs(self, rows: Sequences, token_budget: int = 16_384) -> list[float]:
        """Score as `log_probs` does, in this process alone."""
        if not rows:
            return []
        lengths = [len(p) + len(c) for p, c in rows]
        roomy = max(token_budget, min(4 * token_budget, SCORED_TOKENS))
        size = min(roomy, self.pass_tokens, max(lengths) * len(rows))
        with merged(self.model):
            return self.room.with_tokens(lambda: self._log_probs(rows, size), size, max(lengths))

    def _log_probs(self, rows: Sequences, size: int) -> list[float]:
        self.model.eval()
        scores = [0.0] * len(rows)
        at_most = self.room.at_most(size)
        if self.can_share and worth_sharing(rows):
            for chunk, found in shared_passes(self.model, rows, at_most, self.format.pad_id):
                for i, value in zip(chunk, found.double().sum(1).tolist(), strict=True):
                    scores[i] = value
            return scores
        whole = [(*p, *c) for p, c in rows]
        for chunk in length_sorted_chunks([len(w) for w in whole], at_most):
            ids, mask = pad_rows([whole[i] for i in chunk], self.format.pad_id)
            labels = ids.masked_fill(mask == 0, -100)
            for k, i in enumerate(chunk):
                labels[k, : len(rows[i][0])] = -100
            out = self.model(
                input_ids=ids.to(self.device),
                attention_mask=mask.to(self.device),
                labels=labels.to(self.device),
                fused_lm_head=True,
                use_cache=False,
            )
            for i, value in zip(chunk, out.log_probs.double().sum(1).tolist(), strict=True):
                scores[i] = value
        return scores

    @contextlib.contextmanager
    def adapter_off(self) -> Iterator[None]:
        """Be the base model, logit for logit, inside the block."""
        with self.model.disable_adapter():
            yield

    @contextlib.contextmanager
    def as_adapter(self, tensors: Tensors) -> Iterator[None]:
        """Wear another adapter of the same shape inside the block."""
        mine = self.snapshot()
        self.restore(tensors)
        try:
            yield
        finally:
            self.restore(mine)

    @contextlib.contextmanager
    def dropout_off(self) -> Iterator[None]:
        """Train without dropout inside the block: a preference loss compares log-probabilities."""
        kept = [(m, m.p) for m in self.model.modules() if isinstance(m, torch.nn.Dropout)]
        for module, _ in kept:
            module.p = 0.0
        try:
            yield
        finally:
            for module, p in kept:
                module.p = p

    # ---- weights -------------------------------------------------------------------------------

    def parameters(self) -> list[torch.nn.Parameter]:
        """Return the adapter's parameters, in a fixed order."""
        return [p for _, p in sorted(self.model.named_parameters()) if p.requires_grad]

    def snapshot(self) -> Tensors:
        """Return copies of the adapter's tensors on the CPU, under PEFT's names."""
        state = get_peft_model_state_dict(
            self.model, adapter_name="default", save_embedding_layers=False
        )
        return {name: state[name].detach().cpu().clone() for name in sorted(state)}

    def restore(self, tensors: Tensors) -> None:
        """Put a snapshot's tensors into the adapter.

        Raises:
            BaseModelError: they are of another shape.
        """
        mine = set(
            get_peft_model_state_dict(
                self.model, adapter_name="default", save_embedding_layers=False
            )
        )
        strange, missing = sorted(set(tensors) - mine), sorted(mine - set(tensors))
        if strange or missing:
            fault = (
                f"has the layer {strange[0]}, which" if strange else f"lacks {missing[0]}, which"
            )
            raise BaseModelError(
                f"The saved adapter {fault} this run's {'does not' if strange else 'has'}.",
                "Was the base model changed, or lora.targets?",
            )
        try:
            load_adapter_tensors(self.model, dict(tensors), adapter_name="default")
        except RuntimeError as error:
            raise BaseModelError(
                "The saved adapter does not fit this base model.", "Was the base model changed?"
            ) from error

    def load_adapter(self, folder: Path) -> None:
        """Put the adapter of a folder into this policy."""
        self.restore(tensors_from_bytes((folder / "adapter_model.safetensors").read_bytes()))

    def adapter_files(self) -> dict[str, bytes]:
        """Return the files that plain PEFT loads, the same bytes for the same weights."""
        config = self.model.peft_config["default"].to_dict()
        config["inference_mode"] = True
        plain = {k: sorted(v) if isinstance(v, set) else v for k, v in config.items()}
        text = json.dumps(plain, indent=2, sort_keys=True, default=str) + "\n"
        return {
            "adapter_config.json": text.encode(),
            "adapter_model.safetensors": tensors_to_bytes(self.snapshot(), {"format": "pt"}),
        }

    def tokenizer_files(self) -> dict[str, bytes]:
        """Return the tokenizer's files, chat template included."""
        with tempfile.TemporaryDirectory() as folder:
            self.tokenizer.save_pretrained(folder)
            files = {p.name: p.read_bytes() for p in sorted(Path(folder).iterdir())}
        settings = json.loads(files["tokenizer_config.json"])
        for how_it_was_loaded_here in ("local_files_only", "is_local"):
            settings.pop(how_it_was_loaded_here, None)
        text = json.dumps(settings, ensure_ascii=False, indent=2) + "\n"
        return {**files, "tokenizer_config.json": text.encode()}

    @property
    def dtype_name(self) -> str:
        """The base model's dtype, such as "float32"."""
        return str(self.model.dtype).removeprefix("torch.")

    def device_name(self) -> str:
        """Return the device in words, such as a GPU's name or the CPU with its threads."""
        if self.device.type == "cuda":
            name: str = torch.cuda.get_device_name(self.device)
            return name
        if self.device.type == "cpu":
            return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
        return str(self.device.type)
