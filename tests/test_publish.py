"""A publication on a local Hub: what is there afterwards, what is not, and that it loads."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import Hub
from peft import LoraConfig
from publish_fixtures import base_folder, hub, made, quick, run, server, token
from publishing import (
    ADAPTER,
    README,
    RECORD,
    on_pocket,
    repo_files,
    send,
    whole_versions,
)
from run_folders import DEMOS, SECRET

from ditto_hub.errors import ConfigError, HubError
from ditto_hub.hub.publishing.bundle import clean_config
from ditto_hub.hub.publishing.loadback import LoadBackQuestion, check_load_back
from ditto_hub.hub.publishing.options import PublishOptions
from ditto_hub.hub.publishing.publish import publish_steps
from ditto_hub.hub.publishing.receipt import render_receipt
from ditto_hub.runs.folder import Run
from ditto_hub.runs.results import Answer, Evaluation, EvaluationPrompt, Score, save

pytestmark = [
    pytest.mark.usefixtures("quick"),
    # huggingface_hub asks httpx2 in words that it has retired
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]

# ---- a publication -----------------------------------------------------------------------------


def test_publishes_private_by_default(run: Run, hub: Hub, token: str) -> None:
    """One commit brings all files into a private repo, and the receipt lists them."""
    receipt = send(run, hub, token)
    assert hub.state.repos["model", ADAPTER].private
    assert receipt.private
    assert whole_versions(hub, ADAPTER) == 1
    assert receipt.commit == hub.state.repos["model", ADAPTER].head.oid
    assert {f.path: f.sha256 for f in receipt.files} == {
        p: hashlib.sha256(d).hexdigest()
        for p, d in repo_files(hub).items()
        if p != ".gitattributes"
    }


def test_again_is_up_to_date(run: Run, hub: Hub, token: str) -> None:
    """The same publication again makes no commit and says so."""
    first = send(run, hub, token)
    second = send(run, hub, token)
    assert second.up_to_date
    assert second.commit == first.commit
    assert "Up to date" in render_receipt(second)
    assert not any("POST" in request and "commit" in request for request in hub.requests[30:])


def test_public_is_last(run: Run, hub: Hub, token: str) -> None:
    """With --public the repo is private until everything is in it."""
    send(run, hub, token, public=True)
    assert not hub.state.repos["model", ADAPTER].private
    assert hub.requests[-1] == f"PUT /api/models/{ADAPTER}/settings"


def test_pocket_is_published_along(run: Run, hub: Hub, token: str) -> None:
    """A run on pocket brings the base model, pins its commit, and tells the user."""
    receipt = send(on_pocket(run), hub, token)
    config = json.loads(repo_files(hub)["adapter_config.json"])
    assert config["base_model_name_or_path"] == "alice/ditto-pocket"
    assert config["revision"] == hub.state.repos["model", "alice/ditto-pocket"].head.oid
    assert "alice/ditto-pocket" in receipt.base_url
    assert any("ditto-pocket" in str(notice) for notice in receipt.notices)


def test_pocket_is_published_once(run: Run, hub: Hub, token: str) -> None:
    """A second adapter on pocket finds the base there and leaves it alone."""
    send(on_pocket(run), hub, token)
    send(run, hub, token, repo="alice/second")
    assert whole_versions(hub, "alice/ditto-pocket") == 1


def test_name_of_pocket_is_kept(run: Run, hub: Hub, token: str) -> None:
    """An adapter is not published over the base it needs."""
    with pytest.raises(HubError, match="kept for the base model"):
        send(on_pocket(run), hub, token, repo="alice/ditto-pocket")


def test_bare_name_goes_to_the_user(run: Run, hub: Hub, token: str) -> None:
    """A name without a namespace is the user's own."""
    assert send(run, hub, token, repo="my-voice").repo_id == ADAPTER


def test_organisation_of_the_user(run: Run, hub: Hub, token: str) -> None:
    """An organisation in which the user may write is a namespace too."""
    assert send(run, hub, token, repo="acme/voice").url.endswith("/acme/voice")


def test_steps_are_told_in_order(run: Run, hub: Hub, token: str) -> None:
    """The stream names each step before it is taken."""
    options = PublishOptions(load_back="hashes", endpoint=hub.endpoint, public=True)
    codes = [s.code for s in publish_steps(on_pocket(run), ADAPTER, token=token, options=options)]
    assert codes == [
        "read", "token", "repo", "base", "upload-base", "upload", "load-back", "visibility",
    ]  # fmt: skip


def test_hash_check_says_what_it_is(run: Run, hub: Hub, token: str) -> None:
    """Where only hashes were compared, the receipt says that this is all."""
    receipt = send(run, hub, token)
    assert receipt.load_back is not None
    assert receipt.load_back.kind == "hashes"
    assert "Only the files' hashes" in render_receipt(receipt)


def test_large_base_is_not_loaded() -> None:
    """A base too large for this machine falls back to the hashes."""
    question = LoadBackQuestion(ADAPTER, "0" * 40, "b/b", None, Path(__file__), True, 10**15, "")
    assert check_load_back(question).kind == "hashes"


# ---- privacy -----------------------------------------------------------------------------------


def evaluated(run: Run) -> Run:
    prompt = EvaluationPrompt("p1", ({"role": "user", "content": f"Write to all. {SECRET}"},))
    score = Score("ditto", "total", 0.8, 0.7, 0.9, 4, 4)
    save(run, Evaluation(
        name="grammar", judge="grammar", date="2026-11-22", prompts_source="user",
        prompts_independent=True, methods=("zero-shot", "few-shot", "sft", "ditto"),
        prompts=(prompt,), answers=(Answer("ditto", "p1", 0, f"hey, {SECRET}"),), scores=(score,),
        complete=True,
    ))  # fmt: skip
    return run


def test_no_text_of_the_user_is_published(run: Run, hub: Hub, token: str) -> None:
    """No prompt, completion, output, notice or owner is in any file unless it was asked for."""
    send(evaluated(run), hub, token)
    for path, data in repo_files(hub).items():
        assert SECRET.encode() not in data, path
    assert run.record.owner is not None
    assert run.record.owner.encode() not in repo_files(hub)[RECORD]


def test_include_demos_adds_them_and_warns(run: Run, hub: Hub, token: str) -> None:
    """--include-demos publishes each demonstration, and the receipt says so in plain words."""
    receipt = send(run, hub, token, include_demos=True)
    rows = [json.loads(r) for r in repo_files(hub)["demonstrations.jsonl"].splitlines()]
    assert [r["completion"] for r in rows] == [d.completion for d in DEMOS]
    assert any("every word" in str(notice) for notice in receipt.notices)


def test_demos_left_out_later_are_removed(run: Run, hub: Hub, token: str) -> None:
    """An update without --include-demos takes the file away that the first one put there."""
    send(run, hub, token, include_demos=True)
    send(run, hub, token)
    assert "demonstrations.jsonl" not in repo_files(hub)


def test_include_outputs_shows_samples(run: Run, hub: Hub, token: str) -> None:
    """--include-outputs shows what the adapter wrote, in the card alone."""
    send(evaluated(run), hub, token, include_outputs=True)
    holding = [p for p, data in repo_files(hub).items() if SECRET.encode() in data]
    assert holding == [README]


def test_token_is_nowhere(run: Run, hub: Hub, token: str) -> None:
    """Neither the repo, the run folder nor the receipt holds the token."""
    receipt = send(run, hub, token)
    told = repr(receipt) + json.dumps(receipt.to_json())
    everything = [*repo_files(hub).values(), *(p.read_bytes() for p in run.folder.rglob("*.*"))]
    assert token not in told
    assert not any(token.encode() in data for data in everything)


# ---- dry run -----------------------------------------------------------------------------------


def test_dry_run_writes_the_folder(run: Run, hub: Hub, token: str, tmp_path: Path) -> None:
    """A dry run asks nothing of the network and writes the very files that are sent."""
    run.record.base_model = {"id": "base/tiny", "revision": None, "licence": {"id": "mit"}}
    receipt = send(run, hub, None, dry_run=tmp_path / "out")
    assert not hub.requests
    assert receipt.folder == tmp_path / "out"
    send(run, hub, token)
    sent = {p: d for p, d in repo_files(hub).items() if p != ".gitattributes"}
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == sent


def test_dry_run_into_a_full_folder(run: Run, hub: Hub, tmp_path: Path) -> None:
    """A dry run does not write over anything."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(ConfigError, match="not empty"):
        send(run, hub, None, dry_run=tmp_path / "full")


# ---- loading back ------------------------------------------------------------------------------


def test_published_adapter_loads_by_the_cards_own_lines(
    run: Run, hub: Hub, token: str, tmp_path: Path
) -> None:
    """The check passes in a fresh process, and the card's two snippets run with nothing of ours."""
    receipt = send(on_pocket(run), hub, token, load_back="logits")
    assert receipt.load_back is not None
    assert (receipt.load_back.status, receipt.load_back.kind) == ("passed", "logits")
    assert receipt.load_back.on == pytest.approx(0, abs=1e-4)
    blocks = [b.split("```")[0] for b in receipt.card.split("```python\n")[1:]]
    code = "\n".join([*blocks, "import sys", "assert 'ditto_hub' not in sys.modules"])
    code = code.replace("max_new_tokens=256", "max_new_tokens=4")
    env = {
        "PATH": os.environ["PATH"], "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": token,
        "HF_ENDPOINT": hub.endpoint, "HF_HUB_DISABLE_XET": "1",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, env=env, text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "merged" / "model.safetensors").is_file()


def test_a_mismatch_is_loud_and_stays_private(
    run: Run, hub: Hub, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other logits than the run's fail the check, and the repo is not made public."""
    answer = {"on": 0.4, "off": 0.0, "effect": 2.0, "dtype": "float32", "versions": {}}
    monkeypatch.setattr("ditto_hub.hub.publishing.loadback._ask", lambda *_: answer)
    receipt = send(run, hub, token, load_back="logits", public=True)
    assert not receipt.good
    assert "LOAD-BACK CHECK FAILED" in render_receipt(receipt)
    assert hub.state.repos["model", ADAPTER].private


def test_a_process_that_fails_is_told(run: Run, hub: Hub, token: str, tmp_path: Path) -> None:
    """Where the fresh process cannot load it, its last words are in the receipt."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\ncat > /dev/null\necho 'OSError: no such model' >&2\nexit 1\n")
    python.chmod(0o755)
    receipt = send(run, hub, token, load_back="logits", python=python)
    assert receipt.load_back is not None
    assert receipt.load_back.status == "failed"
    assert "no such model" in str(receipt.load_back.message)


def test_another_candidate_is_compared_off_only(
    run: Run, hub: Hub, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probe is of the chosen adapter, so for another one the check says what it left out."""
    answer = {"on": 9.0, "off": 0.0, "effect": 2.0, "dtype": "float32", "versions": {}}
    monkeypatch.setattr("ditto_hub.hub.publishing.loadback._ask", lambda *_: answer)
    receipt = send(run, hub, token, load_back="logits", candidate="sft")
    assert receipt.load_back is not None
    assert receipt.load_back.status == "passed"
    assert "another candidate" in str(receipt.load_back.message)


def test_cleaned_config_means_the_same(made: Path) -> None:
    """What is left out of adapter_config.json is what PEFT assumes without it."""
    config = json.loads((made / "adapter" / "adapter_config.json").read_text())
    cleaned = json.loads(clean_config(config, "base/tiny", None))
    told = {"base_model_name_or_path": "base/tiny", "inference_mode": True}
    whole = LoraConfig(**{k: v for k, v in config.items() if k != "peft_version"} | told)
    assert LoraConfig(**cleaned).to_dict() == whole.to_dict()
    assert None not in cleaned.values()
