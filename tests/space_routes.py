"""What the local Hub of the tests says of Spaces and hardware, beside its repos."""

from __future__ import annotations

import re
from typing import Any

from hub_server import ROUTES, Call, Hub, Reply, on
from hub_server import create as create_repo
from hub_state import Refusal

ID = r"(?P<id>[^/]+/[^/]+)"
FREE = ("zero-a10g",)  # what a free account may have with Gradio


def settings(hub: Hub, space_id: str) -> dict[str, Any]:
    """Return what is set for a Space: hardware, sleep, variables; kept on its repo."""
    repo: Any = hub.state.repos["space", space_id]
    if not hasattr(repo, "space"):
        repo.space = {"hardware": "cpu-basic", "sleep": None, "variables": {}}
    found: dict[str, Any] = repo.space
    return found


@on("POST", "/api/repos/create")
def create(call: Call) -> Reply:
    """Make a repo; a Space with its hardware, if the account may have it."""
    data = call.json
    if data.get("type") != "space":
        return create_repo(call)
    hardware = data.get("hardware", "cpu-basic")
    _require(call.hub, hardware)
    reply = create_repo(call)
    owner = data.get("organization") or (call.token.user if call.token else "")
    mine = settings(call.hub, f"{owner}/{data['name']}")
    mine |= {"hardware": hardware, "sleep": data.get("sleepTimeSeconds"), "sdk": data["sdk"]}
    mine["variables"] = {row["key"]: row["value"] for row in data.get("variables", [])}
    return reply


def _require(hub: Hub, hardware: str) -> None:
    if not re.match(r"(zero|cpu|t4|l4|a10g|a100|rtx)", hardware):
        raise Refusal(400, f"Invalid hardware flavor: {hardware}")
    if getattr(hub, "free_plan", False) and hardware not in FREE:
        raise Refusal(402, "Payment required: subscribe to PRO to create this Space")


@on("GET", f"/api/spaces/{ID}/variables")
def variables(call: Call, id: str) -> Reply:
    call.find("spaces", id)
    rows = settings(call.hub, id)["variables"]
    return Reply({k: {"value": v, "updatedAt": None} for k, v in rows.items()})


@on("POST", f"/api/spaces/{ID}/variables")
def set_variable(call: Call, id: str) -> Reply:
    call.hub.state.require_write(call.token, id, call.find("spaces", id))
    settings(call.hub, id)["variables"][call.json["key"]] = call.json["value"]
    return variables(call, id)


@on("GET", f"/api/spaces/{ID}/runtime")
def runtime(call: Call, id: str) -> Reply:
    call.find("spaces", id)
    mine = settings(call.hub, id)
    hardware = {"current": mine["hardware"], "requested": mine["hardware"]}
    return Reply({"stage": "RUNNING", "hardware": hardware, "gcTimeout": mine["sleep"]})


@on("POST", f"/api/spaces/{ID}/hardware")
def hardware(call: Call, id: str) -> Reply:
    call.hub.state.require_write(call.token, id, call.find("spaces", id))
    _require(call.hub, call.json["flavor"])
    mine = settings(call.hub, id)
    mine |= {"hardware": call.json["flavor"], "sleep": call.json.get("sleepTimeSeconds")}
    return runtime(call, id)


@on("POST", f"/spaces/{ID}[.]git/info/lfs/objects/batch")
def lfs_batch(call: Call, id: str) -> Reply:
    state = call.hub.state
    state.require_write(call.token, id, call.find("spaces", id))
    rows: list[dict[str, Any]] = []
    for item in call.json["objects"]:
        row = {"oid": item["oid"], "size": item["size"]}
        if item["oid"] not in state.objects:
            base = f"{call.hub.endpoint}/lfs/{item['oid']}"
            row["actions"] = {"upload": {"href": base}, "verify": {"href": f"{base}/verify"}}
        rows.append(row)
    return Reply({"transfer": "basic", "objects": rows})


# Asked before the plain one, which it calls.
ROUTES.sort(key=lambda route: route[2] is not create)
