"""The author's own choice: another candidate becomes the adapter, without any training."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from ditto_hub.backends.driver import ADAPTER_FILES
from ditto_hub.errors import RunError
from ditto_hub.events import CandidateChosen
from ditto_hub.runs.folder import Run
from ditto_hub.runs.record import RunRecord
from ditto_hub.runs.storage import whole_weights
from ditto_hub.tokens import Token
from ditto_hub.words import Message, Text

BY_HAND = "by hand"


def choose(run: Run, candidate: str, *, probe: bool = True, token: Token | str) -> None:
    """Make a candidate the run's adapter, with its card; the others stay and can be chosen later.

    What was chosen before stands until the new folder is there; called again after an interruption
    it ends what it began.

    Args:
        run: finished; its record is read again, for another process may have worked on it.
        candidate: sft, sft-long or round-N.
        probe: load the base model here and write down the new adapter's logits, so that a
            publication can be checked against them; else only the files' hashes are.
        token: of the Hub, to read a private base model.

    Raises:
        RunError: there is no such candidate, or the run has no adapter yet.
        StorageError: the disk refused; the old adapter still stands.
        BaseModelError: the base model cannot be loaded for the probe; the choice holds.
    """
    with run.lock():
        run.record = Run.load(run.folder).record
        if not (run.folder / "adapter" / "adapter_config.json").is_file():
            raise RunError("api.no_adapter_yet", run_id=run.record.id, status=run.record.status)
        if candidate not in run.candidates():
            have = ", ".join(run.candidates())
            raise RunError("api.no_candidate", candidate=candidate, have=have)
        folder = run.candidate(candidate)
        if not whole_weights(folder / "adapter_model.safetensors"):
            raise RunError("runs.adapter_cut", run_id=run.record.id, name=candidate)
        _swap(run, candidate, {name: (folder / name).read_bytes() for name in ADAPTER_FILES})
        if probe and run.record.probe_of != candidate:
            _write_probe(run, candidate, token)


def _swap(run: Run, candidate: str, weights: dict[str, bytes]) -> None:
    """Put the candidate's files, the tokenizer's and a new card into `adapter/`, then record it."""
    from ditto_hub.hub.publishing.publish import local_card

    record = run.record
    before = (record.chosen, record.chosen_rule, record.chosen_reason, record.probe_of)
    kept = {p.name: p.read_bytes() for p in (run.folder / "adapter").iterdir() if p.is_file()}
    with contextlib.ExitStack() as undo:
        undo.callback(_put_back, record, before)
        record.probe_of = record.probe_of or record.chosen
        rule, reason = _why(run, candidate)
        record.chosen, record.chosen_rule = candidate, rule
        record.chosen_reason = reason
        run.replace_folder("adapter", {**kept, **weights, **local_card(run, candidate)})
        undo.pop_all()
    run.save_record()
    said = CandidateChosen(
        run_id=record.id,
        seq=run.next_seq(),
        time=time.time(),
        name=candidate,
        rule=rule,
        reason=reason,
    )
    run.append_events([said])


def _why(run: Run, candidate: str) -> tuple[str, Text]:
    """Return rule and reason: the author's, or the run's own where that is chosen again."""
    chosen = [event for event in run.events() if isinstance(event, CandidateChosen)]
    own = [event for event in chosen if event.rule != BY_HAND]
    if own and own[-1].name == candidate:
        return own[-1].rule, own[-1].reason
    judged = any((run.folder / "evaluation").glob("*.json"))
    last = own[-1] if own else None
    return BY_HAND, Message(
        "api.picked_by_hand",
        after=Message("api.after_results") if judged else "",
        kept=Message("api.rule_had_kept", rule=last.rule, name=last.name) if last else "",
    )


def _write_probe(run: Run, candidate: str, token: Token | str) -> None:
    from ditto_hub.backends.driver import make_probe
    from ditto_hub.backends.local import open_policy

    policy = open_policy(run, token=token)
    policy.load_adapter(run.candidate(candidate))
    run.write("probe.safetensors", make_probe(run, policy))
    run.record.probe_of = candidate
    run.save_record()


def _put_back(record: RunRecord, before: tuple[Any, ...]) -> None:
    record.chosen, record.chosen_rule, record.chosen_reason, record.probe_of = before
