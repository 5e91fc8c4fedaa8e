"""Put a Space of one's own on the Hub, or bring the one there is up to date."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from huggingface_hub import get_session, hf_raise_for_status
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

from ditto_hub.errors import HubBusyError, HubError
from ditto_hub.hub.bounds import bounds, told
from ditto_hub.hub.client import HubClient, RemoteRepo
from ditto_hub.hub.spaces.folder import SpacePlan
from ditto_hub.hub.targets import difference, require_alive, resolve_repo_id
from ditto_hub.tokens import Token
from ditto_hub.words import Message, Text

MARK = "space_config/space.toml"
# A Space that was just made on the Hub's page holds these and nothing else.
FRESH = (".gitattributes", "README.md")
OURS = ("ditto_hub/", "space_config/", "app.py", "requirements.txt", "packages.txt")


@dataclass(frozen=True)
class DeployStep:
    """Say what is done next, before it is done; the last one is `done` and names the Space."""

    words: Text
    done: bool = False
    url: str = ""


def deploy_steps(
    plan: SpacePlan,
    space_id: str,
    *,
    token: Token | str,
    public: bool = False,
    endpoint: str | None = None,
) -> Iterator[DeployStep]:
    """Create a Space or bring it up to date; started again after a failure it goes on.

    Args:
        plan: what it is to be.
        space_id: USER/NAME, or NAME in the user's own namespace.
        token: of the user.
        public: make a new Space public; one that is there stays as it is.
        endpoint: of the Hub; None takes HF_ENDPOINT or the public one.

    Raises:
        HubError: it was refused, with what to do; what is there of the Space stays.
    """
    client = HubClient(token, endpoint)
    account = client.who()
    for words in require_alive(account):
        yield DeployStep(words)
    space_id = resolve_repo_id(space_id, account)
    remote = client.repo(space_id, kind="space")
    made = remote is None
    if remote is None:
        yield DeployStep(Message("hub.space.creating", name=space_id, hardware=plan.hardware))
        _create(client, plan, space_id, public)
    else:
        _require_ours(remote)
    yield from _set_variables(client, plan, space_id)
    yield from _put(client, plan, space_id)
    if not made:
        yield from _ask_for_hardware(client, plan, space_id)
    for words in plan.notes:
        yield DeployStep(words)
    url = f"{client.endpoint}/spaces/{space_id}"
    yield DeployStep(Message("hub.space.building", url=url), True, url)


def _require_ours(remote: RemoteRepo) -> None:
    strange = sorted(set(remote.files) - set(FRESH))
    if strange and MARK not in remote.files:
        raise HubError("hub.space_not_ours", remote_id=remote.id, strange=", ".join(strange[:3]))


# ---- creating ----------------------------------------------------------------------------------


def _create(client: HubClient, plan: SpacePlan, space_id: str, public: bool) -> None:
    owner, name = space_id.split("/")
    data: dict[str, Any] = {
        "name": name,
        "organization": owner,
        "type": "space",
        "sdk": "gradio",
        "visibility": "public" if public else "private",
        "hardware": plan.hardware,
        "variables": [{"key": k, "value": v} for k, v in plan.variables.items()],
    }
    if plan.sleep_time_s:
        data["sleepTimeSeconds"] = plan.sleep_time_s

    def call() -> None:  # HfApi.create_repo repeats one kind of 409 for ever, without a pause
        response = get_session().post(
            f"{client.endpoint}/api/repos/create",
            headers=build_hf_headers(token=client.token or False),
            json=data,
        )
        if response.status_code == 409 and "in progress" not in response.text:
            return  # it is there: an answer was lost, or it was made meanwhile
        try:
            hf_raise_for_status(response)
        except HfHubHTTPError as error:
            known = refused_space(error, plan.hardware)
            if known is None:
                raise
            raise known from error

    client.repeat(Message("hub.doing.create_space", name=space_id), call)


def refused_space(error: HfHubHTTPError, hardware: str) -> HubError | None:
    """Return what a refusal to make or to move a Space means, or None where it is a usual one."""
    status = error.response.status_code
    said = (error.response.headers.get("X-Error-Message") or error.server_message or "").strip()
    if status == 402:
        return HubError("hub.space_payment", hardware=hardware, said=said or status)
    if status == 403 and any(w in said.lower() for w in ("pro", "subscri", "zerogpu", "quota")):
        return HubError("hub.space_refused", hardware=hardware, said=said)
    if status == 400 and ("hardware" in said.lower() or "flavor" in said.lower()):
        return HubError("hub.unknown_hardware", hardware=hardware, said=said)
    return None


# ---- files, variables, hardware ----------------------------------------------------------------


def _put(client: HubClient, plan: SpacePlan, space_id: str) -> Iterator[DeployStep]:
    """Make the Space hold exactly the plan's files, besides strangers', by one commit at most.

    The commit names its parent, and after a lost answer the files are compared before anything is
    tried again: it cannot land twice.
    """
    for wait in (*bounds().waits_s, None):
        remote = client.repo(space_id, kind="space")
        if remote is None:
            raise HubError("hub.space_not_visible", space_id=space_id)
        _require_ours(remote)
        ours = {path: "" for path in remote.files if path.startswith(OURS)}
        add, delete = difference(dict(plan.files), remote, ours)
        if not add and not delete:
            yield DeployStep(Message("hub.space.up_to_date"))
            return
        yield DeployStep(Message("hub.space.uploading", add=len(add), delete=len(delete)))
        try:
            client.commit(
                space_id, remote.commit, add, delete, "Deploy with ditto-hub", kind="space"
            )
            return
        except HubBusyError:
            if wait is None:
                raise
            time.sleep(wait)


def _set_variables(client: HubClient, plan: SpacePlan, space_id: str) -> Iterator[DeployStep]:
    doing = Message("hub.doing.read_variables", name=space_id)
    have = client.repeat(doing, lambda: client.api.get_space_variables(space_id))
    for key, value in plan.variables.items():
        if key in have and have[key].value == value:
            continue
        yield DeployStep(Message("hub.space.variable", key=key, value=value))
        with told(Message("hub.doing.set_variable", key=key, name=space_id)):
            client.api.add_space_variable(space_id, key, value)


def _ask_for_hardware(client: HubClient, plan: SpacePlan, space_id: str) -> Iterator[DeployStep]:
    doing = Message("hub.doing.read_hardware", name=space_id)
    runtime = client.repeat(doing, lambda: client.api.get_space_runtime(space_id))
    asked = runtime.requested_hardware or runtime.hardware or ""
    now = str(getattr(asked, "value", asked))
    if now == plan.hardware and (
        plan.sleep_time_s is None or runtime.sleep_time == plan.sleep_time_s
    ):
        return
    yield DeployStep(Message("hub.space.hardware", wanted=plan.hardware, now=now or "-"))
    with told(Message("hub.doing.ask_hardware", hardware=plan.hardware)):
        try:
            client.api.request_space_hardware(
                space_id,
                plan.hardware,  # type: ignore[arg-type]
                sleep_time=plan.sleep_time_s,
            )
        except HfHubHTTPError as error:
            known = refused_space(error, plan.hardware)
            if known is None:
                raise
            raise known from error
