"""What a run will take, in words; pure."""

from __future__ import annotations

from html import escape

from ditto_hub.backends.job_order import SETUP_S, JobPlan
from ditto_hub.devices import DEVICES, QUOTAS
from ditto_hub.hardware import Budget, Estimate
from ditto_hub.profiles import Profile
from ditto_hub.ui.words import say, tell

WORDS = {
    "estimate.time": "Time, about",
    "estimate.leases": "GPU leases",
    "estimate.quota": "Of your GPU quota",
    "estimate.price": "Price",
    "estimate.memory": "Memory, about",
    "estimate.nothing": "nothing, it runs on this machine",
    "estimate.seconds": "{n} s",
    "estimate.minutes": "{n} min",
    "estimate.hours": "{n} h",
    "estimate.setup": "Setting up takes about {minutes} minutes of it, which are paid for too.",
    "estimate.day": "Of the quota: drafting {drafting} s, training {training} s, comparing"
    " {comparing} s, trying the result {trying} s. A free account has {free} s a day.",
    "estimate.days": "With a free account it takes {days} days: the run is kept in between.",
    "estimate.on": "Computed for: {device}. A run may end earlier.",
    "estimate.tight": "It fits only in smaller batches, which take longer. {what}",
    "estimate.too_large": "It does not fit here. What would: {what}",
}


def estimate_words(found: Estimate, profile: Profile, locale: str) -> str:
    """Say what a run will take: time, leases, quota or money, memory, and what would fit."""
    job = found.price_usd is not None and found.device != (profile.hardware or "cpu-basic")
    facts = {"time": about_time(found.total_seconds + job * SETUP_S, locale)}
    if found.budget is not None and profile.backend == "zerogpu":
        facts["leases"] = str(found.budget.leases)
        facts["quota"] = say("estimate.seconds", locale, n=round(found.budget.total))
    if job:
        facts["price"] = f"${job_usd(found):.2f}"
    elif found.price_usd is not None and profile.backend == "local" and profile.hardware is None:
        facts["price"] = say("estimate.nothing", locale)
    facts["memory"] = f"{found.memory_bytes / 1e9:.1f} GB"
    rows = "".join(
        f"<div><dt>{escape(say(f'estimate.{k}', locale))}</dt><dd>{escape(v)}</dd></div>"
        for k, v in facts.items()
    )
    notes = [say("estimate.on", locale, device=tell(found.words, locale))]
    if job:
        notes.append(say("estimate.setup", locale, minutes=round(SETUP_S / 60)))
    if found.budget is not None and profile.backend == "zerogpu":
        notes.append(day_words(found.budget, locale))
    if not found.fits:
        key = "estimate.tight" if found.possible else "estimate.too_large"
        notes.append(say(key, locale, what="; ".join(tell(r, locale) for r in found.remedies)))
    about = "".join(f'<p class="d-note">{escape(note)}</p>' for note in notes)
    return f'<div class="d-estimate"><dl class="d-facts">{rows}</dl>{about}</div>'


def job_usd(found: Estimate) -> float:
    """Return what a run costs as a Hub Job, setting up counted in."""
    rate = DEVICES[found.device].price_usd_h
    return JobPlan(found.device, found.total_seconds, rate).usd_expected or 0.0


def day_words(found: Budget, locale: str) -> str:
    """Say what of a day's quota goes where, and what a free account has."""
    parts = {n: round(getattr(found, n)) for n in ("drafting", "training", "comparing", "trying")}
    free = QUOTAS["free"].seconds
    told = say("estimate.day", locale, free=free, **parts)
    if found.fits(free):
        return told
    days = int(-(-found.total // free))
    return f"{told} {say('estimate.days', locale, days=days)}"


def about_time(seconds: float, locale: str) -> str:
    """Return seconds in the unit a person would use."""
    if seconds < 90:
        return say("estimate.seconds", locale, n=max(1, round(seconds)))
    if seconds < 5400:
        return say("estimate.minutes", locale, n=round(seconds / 60))
    return say("estimate.hours", locale, n=f"{seconds / 3600:.1f}")
