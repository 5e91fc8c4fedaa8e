"""Put a run's adapter into the user's own repo, with its card, and prove that it loads from there.

Order: everything that can be refused is refused before the first write; the repo is private until
all is in it and checked; one commit brings it there; a second call finishes or finds it done.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ditto_hub.errors import HubError
from ditto_hub.hub.client import HubClient, require_repo_id
from ditto_hub.hub.publishing import bundle as bundles
from ditto_hub.hub.publishing import versions
from ditto_hub.hub.publishing.bases import POCKET_NAME, Base, draft_base, look_at_base
from ditto_hub.hub.publishing.card_sections import adapter_code
from ditto_hub.hub.publishing.card_subject import NOBODY_YET, DemoFacts
from ditto_hub.hub.publishing.drafts import (
    Draft,
    Source,
    build,
    foresee,
    full_name,
    read_source,
)
from ditto_hub.hub.publishing.loadback import (
    LoadBack,
    LoadBackQuestion,
    check_load_back,
    require_known,
)
from ditto_hub.hub.publishing.options import PublishOptions, PublishStep
from ditto_hub.hub.publishing.receipt import Receipt, list_files
from ditto_hub.hub.publishing.uses import uses
from ditto_hub.hub.targets import examine, put, require_alive, resolve_repo_id
from ditto_hub.runs import results
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import Token
from ditto_hub.words import Message, Text

LONGEST_NAME = 80  # characters; with somebody's name before it the Hub takes 96


def publish_steps(
    run: Run, repo_id: str, *, token: Token | str, options: PublishOptions | None = None
) -> Generator[PublishStep, None, Receipt]:
    """Publish a run's adapter, saying each step before it is taken; the receipt is returned.

    Args:
        repo_id: USER/NAME, or NAME in the user's own namespace.
        token: of the user.

    Raises:
        RunError: the run has no whole adapter, or its record was damaged.
        ConfigError: an option does not fit.
        BaseModelError: the base model is gone or closed to this user.
        HubError: the Hub refused or could not be reached; another call goes on from there.
    """
    options = options or PublishOptions()
    require_known(options.load_back)
    require_repo_id(repo_id)
    yield PublishStep("read", Message("hub.step_read", run_id=run.record.id))
    source = read_source(run, options)
    if options.dry_run is not None:
        draft = foresee(source, repo_id, options, token)
        bundles.write_folder(draft.bundle, options.dry_run)
        return _receipt(draft, source, options, folder=options.dry_run)
    named = full_name(repo_id)
    draft = build(source, named, draft_base(source.run, source.base_id, named), options)
    return (yield from _publish_online(source, repo_id, draft, options, token))


def _publish_online(
    source: Source, repo_id: str, draft: Draft, options: PublishOptions, token: Token | str
) -> Generator[PublishStep, None, Receipt]:
    client = HubClient(token, options.endpoint)
    yield PublishStep("token", Message("hub.step_token"))
    account = client.who()
    notices: list[Text] = list(require_alive(account))
    repo_id = resolve_repo_id(repo_id, account)
    if source.pocket and repo_id.endswith(f"/{POCKET_NAME}"):
        raise HubError("hub.name_reserved_for_base", repo_id=repo_id)
    yield PublishStep("repo", Message("hub.step_repo", repo_id=repo_id))
    target = examine(client, repo_id, draft.bundle, options.public)
    yield PublishStep("base", Message("hub.step_base"))
    base = look_at_base(client, source.run, source.base_id, repo_id)
    old = versions.replaced(client, options.replaces, repo_id)
    earlier = versions.earlier_version(client, target, source.run.record.id, old)
    base_target = None
    if source.pocket:
        base_target = examine(client, base.id, base.bundle, public=True)
    # from here on things are written
    if base_target is not None:
        yield PublishStep("upload-base", Message("hub.step_upload_base", base_id=base.id))
        base = replace(base, revision=put(client, base_target, base.bundle, "Add pocket")[0])
    draft = build(source, repo_id, base, options, earlier)
    count = len(draft.bundle)
    yield PublishStep("upload", Message("hub.step_upload", count=count, repo_id=repo_id))
    message = f"Add {source.adapter.candidate} of run {source.run.record.id}"
    commit, made = put(client, target, draft.bundle, message)
    yield PublishStep("load-back", Message("hub.step_load_back"))
    load_back = _check(client, source, base, repo_id, commit, options)
    private = True
    if options.public and load_back.status != "failed":
        yield PublishStep("visibility", Message("hub.step_visibility"))
        for one in filter(None, (base_target, target)):
            if one.remote is None or one.remote.private:
                client.make_public(one.repo_id)
        private = False
    elif options.public:
        private = target.remote is None or target.remote.private
        notices.append(Message("hub.check_failed_stays_private"))
    if load_back.status != "failed":
        notices += yield from versions.finish(client, repo_id, commit, earlier, old, private)
    notices += [*target.notices, *(base_target.notices if base_target else ()), *base.notices]
    return _receipt(
        draft, source, options,
        url=f"{client.endpoint}/{repo_id}", commit=commit, up_to_date=not made, private=private,
        load_back=load_back, notices=notices,
        base_url=f"{client.endpoint}/{base.id}" if source.pocket else "",
    )  # fmt: skip


# ---- the end -----------------------------------------------------------------------------------


def in_four_bits(base_model: Mapping[str, Any]) -> bool:
    """Tell whether a run's base model had 4-bit weights, so that its logits are its own."""
    return base_model.get("quantize") == "4bit" or bool(base_model.get("source"))


def _check(
    client: HubClient,
    source: Source,
    base: Base,
    repo_id: str,
    commit: str,
    options: PublishOptions,
) -> LoadBack:
    question = LoadBackQuestion(
        repo=repo_id,
        commit=commit,
        base=base.id,
        base_revision=base.revision,
        probe=source.run.folder / "probe.safetensors",
        probed=source.adapter.probed,
        base_bytes=base.bytes,
        token=client.token,
        endpoint=client.endpoint,
        quantised=in_four_bits(source.run.record.base_model),
    )
    return check_load_back(question, options.load_back, options.python)


def _receipt(draft: Draft, source: Source, options: PublishOptions, **told: Any) -> Receipt:
    notices = tuple(dict.fromkeys([*draft.notices, *told.pop("notices", ())]))
    values: dict[str, Any] = {
        "url": "", "commit": "", "up_to_date": False, "private": not options.public,
        "load_back": None, "base_url": "", **told,
    }  # fmt: skip
    return Receipt(
        repo_id=draft.subject.repo_id,
        files=list_files(draft.bundle),
        base_id=draft.subject.base_id,
        snippet=adapter_code(draft.subject),
        notices=notices,
        card=draft.card,
        uses=uses(draft.subject),
        **values,
    )


def _is_repo_id(text: str) -> bool:
    try:
        require_repo_id(text)
    except HubError:
        return False
    return True


def _hub_name(folder: str) -> str:
    """Return a name that the Hub would take for a folder's."""
    name = re.sub(r"[^A-Za-z0-9_]+", "-", folder)[:LONGEST_NAME].strip("-_")
    return re.sub(r"-{2,}", "-", name) or "base"


def local_card(run: Run, candidate: str | None = None) -> dict[str, bytes]:
    """Return the card and its pictures for a run's own `adapter/`, as if it were published.

    Args:
        candidate: one that is on its way to `adapter/`; None for the one that is there.

    Raises:
        RunError: the run has no whole adapter, or its record was damaged.
    """
    base_id = str(run.record.base_model["id"])
    if not _is_repo_id(base_id) or Path(base_id).is_dir():  # not on the Hub yet either
        base_id = f"{NOBODY_YET}/{_hub_name(Path(base_id).name)}"
    adapter = bundles.read_adapter(run, candidate, own_folder=candidate is not None)
    demos = DemoFacts.of(run.demos())
    source = Source(run, adapter, demos, tuple(results.load_all(run)), base_id)
    named = f"{NOBODY_YET}/{run.record.id}"
    draft = build(source, named, draft_base(run, base_id, named), PublishOptions())
    made = {name: data for name, data in draft.bundle.items() if isinstance(data, bytes)}
    shown = {name: data for name, data in made.items() if name.endswith(bundles.PICTURE)}
    return {**shown, bundles.CARD: draft.card.encode()}
