"""Profiles of machines, and the caps that their owners set."""

from __future__ import annotations

import threading

import pytest

from ditto_hub.config import PRESETS
from ditto_hub.cost.devices import DEVICES
from ditto_hub.cost.limits import DAY_S, Start, claim_start, may_start, require_start, starting
from ditto_hub.cost.profiles import PROFILE_NAMES, Profile, load_profile
from ditto_hub.errors import ConfigError, RunError
from ditto_hub.runs.folder import home

NOW = 1_000_000.0


@pytest.mark.parametrize("name", PROFILE_NAMES)
def test_a_profile_is_whole(name: str) -> None:
    """Each offers pocket and its default, known presets and hardware, and outlives a day."""
    profile = load_profile(name)
    assert profile.base("pocket")
    assert profile.base(profile.default_base_model)
    assert all(base.preset in PRESETS for base in profile.base_models)
    assert profile.hardware is None or profile.hardware in DEVICES
    assert profile.keep_hours >= 48
    assert profile.backend == ("zerogpu" if name == "zerogpu" else "local")
    assert (profile.lease_cap_s > 0) == (profile.backend == "zerogpu")
    assert ("jobs" in profile.scopes) == (profile.offers_jobs and name != "own")


def test_the_default_bases() -> None:
    """pocket and SmolLM2 on a CPU, Qwen3 4B on GPUs, Mistral offered there."""
    for name in ("gpu", "zerogpu"):
        profile = load_profile(name)
        assert profile.default_base_model == "Qwen/Qwen3-4B-Instruct-2507"
        assert profile.base("mistralai/Mistral-7B-Instruct-v0.2")
    assert load_profile("cpu").default_base_model == "pocket"
    assert load_profile("cpu").base("HuggingFaceTB/SmolLM2-360M-Instruct")


def test_a_paid_space_is_guarded() -> None:
    """Where the owner pays, visitors sign in and are capped, and the Space sleeps."""
    gpu = load_profile("gpu")
    assert gpu.sign_in == "required"
    assert 0 < gpu.runs_per_visitor <= gpu.runs_per_day
    assert 0 < gpu.sleep_time_s <= 3600


def test_an_unknown_profile_is_refused() -> None:
    """The names there are are told."""
    with pytest.raises(ConfigError, match="zerogpu"):
        load_profile("tpu")


# ---- caps --------------------------------------------------------------------------------------


def starts(*ages_h: float, owner: str = "a") -> list[Start]:
    """Return starts of so many hours ago."""
    return [Start(owner, NOW - 3600 * age) for age in ages_h]


def asks(have: list[Start], profile: Profile, owner: str = "a") -> str:
    """Return the code of the refusal, or nothing."""
    found = may_start(have, owner, True, profile, NOW)
    return found.code if found else ""


def test_sign_in_comes_first() -> None:
    """Signed out, a paid Space starts nothing; a free one does."""
    refused = may_start([], "a", False, load_profile("gpu"), NOW)
    assert refused is not None
    assert refused.code == "sign-in"
    assert may_start([], "a", False, load_profile("zerogpu"), NOW) is None


@pytest.mark.parametrize(
    ("ages", "code"),
    [((), ""), ((1,), ""), ((1, 2), "visitor"), ((1, 25), ""), ((23.9, 23.8), "visitor")],
)
def test_a_visitor_has_two_runs_a_day(ages: tuple[float, ...], code: str) -> None:
    """Two in 24 hours on a paid Space, however they lie in it."""
    assert asks(starts(*ages), load_profile("gpu")) == code


def test_all_visitors_share_the_machine() -> None:
    """Twenty runs of others in a day leave none; the visitor's own cap is not the reason."""
    others = [start for n in range(10) for start in starts(1, 2, owner=f"v{n}")]
    assert asks(others, load_profile("gpu")) == "machine"
    assert asks(others[1:], load_profile("gpu")) == ""


def test_a_refusal_says_when() -> None:
    """The next run may start a day after the older of the two."""
    found = may_start(starts(5, 1), "a", True, load_profile("gpu"), NOW)
    assert found is not None
    assert found.retry_at == NOW - 5 * 3600 + DAY_S


def test_a_clock_set_back_gives_nothing_away() -> None:
    """Starts that lie in the future count as just made."""
    assert asks(starts(-5, -1), load_profile("gpu")) == "visitor"


def test_one_s_own_machine_has_no_caps() -> None:
    """Nothing is counted, and nothing is written, where no cap is set."""
    for _ in range(5):
        assert claim_start("me", False, load_profile("own"), NOW) is None
    assert not (home() / "starts.json").exists()


def test_claims_last_and_hide_their_owner() -> None:
    """What is written down holds hashes alone, and a third claim in a day is refused in words."""
    gpu = load_profile("gpu")
    for hour in (0, 1):
        require_start("hub:alice", True, gpu, NOW + 3600 * hour)
    assert "alice" not in (home() / "starts.json").read_text("utf-8")
    with pytest.raises(RunError, match="in 22 hours"):
        require_start("hub:alice", True, gpu, NOW + 2 * 3600)
    require_start("hub:bob", True, gpu, NOW + 2 * 3600)
    require_start("hub:alice", True, gpu, NOW + 25 * 3600)


def test_a_failed_start_is_given_back() -> None:
    """A run that could not be made counts for nothing; one that was made counts."""
    gpu = load_profile("gpu")
    for _ in range(5):
        with pytest.raises(ZeroDivisionError), starting("hub:alice", True, gpu, NOW):
            raise ZeroDivisionError
    for hour in (1, 2):
        with starting("hub:alice", True, gpu, NOW + hour):
            pass
    with pytest.raises(RunError), starting("hub:alice", True, gpu, NOW + 3):
        pass


def test_two_at_once_are_one_too_many() -> None:
    """Of eight claims at the same moment exactly the cap's two are given."""
    given: list[bool] = []
    gpu = load_profile("gpu")

    def claim() -> None:
        given.append(claim_start("hub:alice", True, gpu, NOW) is None)

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(given) == gpu.runs_per_visitor


def test_a_damaged_book_is_begun_anew() -> None:
    """A file that is no JSON counts as empty and is replaced."""
    home().mkdir(parents=True)
    (home() / "starts.json").write_text("{", "utf-8")
    assert claim_start("hub:alice", True, load_profile("gpu"), NOW) is None
