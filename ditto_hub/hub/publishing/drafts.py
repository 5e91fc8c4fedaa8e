"""The files of an adapter's repo with their card, as a publication makes them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ditto_hub.errors import BaseModelError, ConfigError, HubError
from ditto_hub.hub.client import HubClient, require_repo_id
from ditto_hub.hub.publishing import bundle as bundles
from ditto_hub.hub.publishing import versions
from ditto_hub.hub.publishing.bases import Base, draft_base, look_at_base
from ditto_hub.hub.publishing.bundle import AdapterFiles, Bundle
from ditto_hub.hub.publishing.card import render_card
from ditto_hub.hub.publishing.card_subject import NOBODY_YET, CardSubject, DemoFacts, Sample
from ditto_hub.hub.publishing.lineage import Earlier, figures
from ditto_hub.hub.publishing.options import PublishOptions
from ditto_hub.hub.publishing.plot import plot_candidates
from ditto_hub.hub.targets import examine, resolve_repo_id
from ditto_hub.runs import results
from ditto_hub.runs.folder import Run
from ditto_hub.runs.results import Evaluation
from ditto_hub.runs.storage import to_json_bytes
from ditto_hub.tokens import Token
from ditto_hub.words import Message, Text

SAMPLES_SHOWN = 3


@dataclass(frozen=True)
class Source:
    """Hold what of a run is published."""

    run: Run
    adapter: AdapterFiles
    demos: DemoFacts
    evaluations: tuple[Evaluation, ...]
    base_id: str

    @property
    def pocket(self) -> bool:
        """The base is the embedded model, which is published along."""
        return self.base_id == "pocket"


@dataclass(frozen=True)
class Draft:
    """Hold a repo's content with what its card was made from."""

    bundle: Bundle
    subject: CardSubject
    card: str
    notices: tuple[Text, ...]

    def noting(self, notice: Text) -> Draft:
        """Return it with one more notice."""
        return replace(self, notices=(*self.notices, notice))


def read_source(run: Run, options: PublishOptions) -> Source:
    """Read and check everything local that is needed.

    Raises:
        RunError: something is missing or damaged.
        ConfigError: the base is a local folder and its id on the Hub was not given.
    """
    adapter = bundles.read_adapter(run, options.candidate)
    known = run.record.base_model
    base_id = options.base_model_id or str(known.get("hub_id") or known.get("id") or "")
    if base_id != "pocket":
        try:
            require_repo_id(base_id)
            local = options.base_model_id is None and Path(base_id).is_dir()
        except HubError:
            local = True
        if local or "/" not in base_id:
            raise ConfigError("hub.base_not_on_hub", base_id=base_id)
    demos = DemoFacts.of(run.demos())
    return Source(run, adapter, demos, tuple(results.load_all(run)), base_id)


def build(
    source: Source,
    repo_id: str,
    base: Base,
    options: PublishOptions,
    earlier: Earlier | None = None,
) -> Draft:
    """Make all files of the adapter's repo; the same ones for the same arguments.

    Args:
        earlier: the version that this one follows.

    Raises:
        RunError: the record holds something that no run writes.
        ConfigError: the card's template is broken.
    """
    record, adapter = source.run.record, source.adapter
    told = {"id": base.id, "revision": base.revision}
    metrics = bundles.published_metrics(source.evaluations)
    files: Bundle = {
        **adapter.tokenizer,
        bundles.CONFIG: bundles.clean_config(adapter.config, base.id, base.revision),
        bundles.WEIGHTS: adapter.weights,
        bundles.METRICS: to_json_bytes(metrics),
    }
    samples = _samples(source) if options.include_outputs else ()
    if options.include_demos:
        files[bundles.DEMOS] = bundles.demo_file(source.run)
    seen = {e.name: results.pictures(source.run, e) for e in source.evaluations if e.reportable}
    files |= {f"evaluation-{p.name}": p.read_bytes() for found in seen.values() for p in found}
    picture = plot_candidates(record.candidates, adapter.candidate)
    if picture:
        files[bundles.PLOT] = picture
    subject = CardSubject(
        repo_id=repo_id,
        record=record,
        candidate=adapter.candidate,
        base_id=base.id,
        base_revision=base.revision,
        licence=base.licence,
        demos=source.demos,
        evaluations=source.evaluations,
        samples=samples,
        demos_included=options.include_demos,
        thinking="enable_thinking" in adapter.chat_template,
        plot=bundles.PLOT if picture else "",
        pictures={name: tuple(f"evaluation-{p.name}" for p in seen[name]) for name in seen},
        rank=int(adapter.config["r"]),
        pocket=source.pocket,
        earlier=earlier,
        figures=figures(metrics, adapter.candidate) if earlier else {},
    )
    card = render_card(subject, options.card_template)
    files[bundles.CARD] = card.encode()
    published = bundles.published_record(record, adapter.candidate, told, source.demos.counted)
    whole = bundles.with_manifest(files, published, **subject.versioned)
    return Draft(whole, subject, card, _notices(source, base, options, repo_id, samples))


def full_name(repo_id: str) -> str:
    """Return a repo's id with a namespace, which stands for the user's where none is given."""
    return repo_id if "/" in repo_id else f"{NOBODY_YET}/{repo_id}"


def foresee(source: Source, repo_id: str, options: PublishOptions, token: Token | str) -> Draft:
    """Make the files that a publication would; where there is a token, the Hub is read.

    Args:
        token: of the user; without one nothing is asked.

    Returns:
        The draft. A notice says where the Hub was not read, or refuses.

    Raises:
        RunError, ConfigError: as `build` does.
        HubError: the repo id is none.
    """
    named = full_name(repo_id)
    base = draft_base(source.run, source.base_id, named)
    draft = build(source, named, base, options)
    client = HubClient(token, options.endpoint)
    if not client.token:
        later = options.dry_run is not None or options.replaces or source.run.record.parent
        return draft.noting(Message("hub.not_asked", repo_id=named)) if later else draft
    try:
        named = resolve_repo_id(repo_id, client.who())
        base = look_at_base(client, source.run, source.base_id, named)
        base = versions.as_published(client, base)
        target = examine(client, named, draft.bundle, options.public)
        old = versions.replaced(client, options.replaces, named)
        earlier = versions.earlier_version(client, target, source.run.record.id, old)
    except (HubError, BaseModelError) as error:
        return draft.noting(Message("hub.not_looked_up", repo_id=named, why=error.happened))
    return build(source, named, base, options, earlier)


def _samples(source: Source) -> tuple[Sample, ...]:
    """Return what the published adapter wrote in the first evaluation that asked it."""
    for evaluation in source.evaluations:
        method = evaluation.method_of(source.adapter.candidate)
        prompts = {p.id: p.messages[-1].get("content", "") for p in evaluation.prompts}
        found = [
            Sample(prompts[a.prompt_id], a.text)
            for a in evaluation.answered(method)
            if a.sample == 0 and a.prompt_id in prompts
        ]
        if found:
            return tuple(found[:SAMPLES_SHOWN])
    return ()


def _notices(
    source: Source, base: Base, options: PublishOptions, repo_id: str, samples: tuple[Sample, ...]
) -> tuple[Text, ...]:
    said: list[Text] = []
    if options.include_demos:
        who = Message("hub.who_everybody" if options.public else "hub.who_with_access")
        said.append(Message("hub.demos_published", who=who))
    if options.include_outputs:
        said.append(Message("hub.outputs_shown" if samples else "hub.no_outputs"))
    word = base.licence.name_must_begin_with
    if word and not repo_id.split("/")[-1].startswith(word):
        said.append(Message("hub.licence_wants_name", word=word))
    if source.run.record.status != "finished":
        said.append(Message("hub.run_not_finished", status=source.run.record.status))
    return tuple(said)
