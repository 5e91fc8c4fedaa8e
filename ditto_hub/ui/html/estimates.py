"""What a run will take, in words; pure."""

from __future__ import annotations

import datetime
from html import escape

from ditto_hub.cost.devices import DEVICES, QUOTAS
from ditto_hub.cost.estimates import Budget, Estimate
from ditto_hub.cost.job_price import SETUP_S, job_usd
from ditto_hub.cost.profiles import BaseChoice, Profile
from ditto_hub.words import for_page, say, told


def estimate_words(found: Estimate, profile: Profile, locale: str) -> str:
    """Say what a run will take: time, leases, quota or money, memory, and what would fit."""
    job = found.price_usd is not None and found.device != (profile.hardware or "cpu-basic")
    facts = {"time": about_time(found.total_seconds + job * SETUP_S, locale)}
    if found.budget is not None and profile.backend == "zerogpu":
        facts["leases"] = str(found.budget.leases + bool(found.budget.prompts))
        facts["quota"] = say("estimate.seconds", locale, n=round(found.budget.total))
    if job:
        facts["price"] = f"${usd_as_job(found):.2f}"
    elif found.price_usd is not None and profile.backend == "local" and profile.hardware is None:
        facts["price"] = say("estimate.nothing", locale)
    facts["memory"] = f"{found.memory_bytes / 1e9:.1f} GB"
    rows = "".join(
        f"<div><dt>{escape(say(f'estimate.{k}', locale))}</dt><dd>{escape(v)}</dd></div>"
        for k, v in facts.items()
    )
    notes = [say("estimate.on", locale, device=told(found.words, locale))]
    if found.prompts_seconds:
        time = about_time(found.prompts_seconds, locale)
        notes.append(say("estimate.prompts", locale, time=time))
    if job:
        notes.append(say("estimate.setup", locale, minutes=round(SETUP_S / 60)))
    if found.budget is not None and profile.backend == "zerogpu":
        notes.append(day_words(found.budget, locale))
    if not found.fits:
        key = "estimate.tight" if found.possible else "estimate.too_large"
        notes.append(say(key, locale, what=told(for_page(found.remedy), locale)))
    about = "".join(f'<p class="d-note">{escape(note)}</p>' for note in notes)
    return f'<div class="d-estimate"><dl class="d-facts">{rows}</dl>{about}</div>'


LONG_S = 3600.0


def base_card(offer: BaseChoice, found: Estimate | None, profile: Profile, locale: str) -> str:
    """Return what a base model's choice says, a line each: name, what it takes here, what it is.

    Args:
        found: of a run on the demonstrations there are; None where nothing is computed.
    """
    lines = [offer.id.rpartition("/")[2], told(offer.words, locale)]
    if found is not None:
        lines.insert(1, _taking(found, profile, locale))
    return "\n".join(lines)


def _taking(found: Estimate, profile: Profile, locale: str) -> str:
    if not found.possible:
        return say("train.no_fit", locale)
    time = about_time(found.total_seconds, locale)
    if profile.hardware is None and found.device in ("", "cpu-basic"):
        key = "train.hours" if found.total_seconds > LONG_S else "train.fits_free"
        return say(key, locale, time=time)
    return say("train.fits", locale, time=time)


def usd_as_job(found: Estimate) -> float:
    """Return what a run costs as a Hub Job, setting up counted in."""
    rate = DEVICES[found.device].price_usd_h
    return job_usd(found.total_seconds, rate) if rate is not None else 0.0


def day_words(found: Budget, locale: str) -> str:
    """Say what of a day's quota goes where, and what a free account has."""
    parts = {n: round(getattr(found, n)) for n in ("drafting", "training", "comparing", "trying")}
    free = QUOTAS["free"].seconds
    day = say("estimate.day", locale, free=free, **parts)
    if found.prompts:
        day += " " + say("estimate.day_prompts", locale, prompts=round(found.prompts))
    if found.fits(free):
        return day
    days = int(-(-found.total // free))
    return f"{day} {say('estimate.days', locale, days=days)}"


def quota_words(left_s: float, resets_at: float | None, name: str, locale: str) -> str:
    """Say what somebody has left of the day's GPU quota, when it is whole again, and whose it is.

    Args:
        resets_at: seconds since the epoch; None where nothing of it is used.
        name: of the signed-in user.
    """
    whole = resets_at is None
    moment = datetime.datetime.fromtimestamp(resets_at or 0.0, datetime.UTC)
    left = say(
        "quota.whole" if whole else "quota.left", locale,
        left=int(left_s), time=f"{moment:%Y-%m-%d %H:%M}",
    )  # fmt: skip
    return f"{left} {say('quota.whose', locale, name=name)}"


def about_time(seconds: float, locale: str) -> str:
    """Return seconds in the unit a person would use."""
    if seconds < 90:
        return say("estimate.seconds", locale, n=max(1, round(seconds)))
    if seconds < 5400:
        return say("estimate.minutes", locale, n=round(seconds / 60))
    return say("estimate.hours", locale, n=f"{seconds / 3600:.1f}")
