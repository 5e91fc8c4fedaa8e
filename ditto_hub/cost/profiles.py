"""Where the app runs and what it offers there: one profile a kind of machine, read from TOML.

The files stand in `space_config/profiles`, beside what else a Space needs; a wheel carries that
folder as `ditto_hub/space_config`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ditto_hub.config import SECTIONS, dials
from ditto_hub.errors import ConfigError
from ditto_hub.words import Message, Text, known

PROFILE_NAMES = ("own", "cpu", "gpu", "zerogpu")
_HERE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class BaseChoice:
    """Offer a base model.

    Args:
        id: pocket, or a Hub id.
        words: what a person should know before choosing it: size, licence, what it is good for.
        preset: of settings that it starts from.
    """

    id: str
    words: Text
    preset: str


@dataclass(frozen=True)
class Profile:
    """Say what the app offers on one kind of machine. A cap of 0 is no cap.

    Args:
        name: own (one's own machine), cpu, gpu (a paid Space) or zerogpu.
        backend: local or zerogpu: where training and writing happen.
        base_models: offered, the default among them.
        default_base_model: id of the one that is chosen at first.
        any_base_model: whether a visitor may name another one.
        hardware: the Space's, by the Hub's name, or None off a Space.
        scopes: OAuth scopes asked for, beside openid and profile.
        offers_jobs: whether a visitor may send a run to a Hub Job, paid by that visitor.
        sign_in: "optional" or "required" before a run may start.
        runs_per_visitor: runs a visitor may start in 24 hours.
        runs_per_day: runs all visitors together may start in 24 hours.
        max_demos: demonstrations a run.
        max_text_chars: characters of one prompt or completion.
        max_upload_bytes: of one file.
        keep_hours: age from which a finished or idle run and its files are removed.
        lease_cap_s: seconds of GPU that one lease may ask for; 0 where there are no leases.
        sleep_time_s: idle seconds after which the Space sleeps; 0 leaves it to the platform.
        cache_bytes: of base models on disk; 0 leaves the cache alone.
        queue_size: events that may wait.
        max_run_bytes: of a run that a visitor brings from the Hub.
        visitor_bytes: of one visitor's runs on the disk, all together.
        most: setting -> the highest value a visitor's run may have.
    """

    name: str
    backend: str
    base_models: tuple[BaseChoice, ...]
    default_base_model: str
    any_base_model: bool
    hardware: str | None
    scopes: tuple[str, ...]
    offers_jobs: bool
    sign_in: str
    runs_per_visitor: int
    runs_per_day: int
    max_demos: int
    max_text_chars: int
    max_upload_bytes: int
    keep_hours: int
    lease_cap_s: int
    sleep_time_s: int
    cache_bytes: int
    queue_size: int
    max_run_bytes: int
    visitor_bytes: int
    most: Mapping[str, float]

    def base(self, base_model: str) -> BaseChoice | None:
        """Return the offer of a base model, or None where it is not offered."""
        return next((b for b in self.base_models if b.id == base_model), None)


def space_file(path: str = "") -> Path:
    """Return where a file of `space_config` is: inside an installed package, else beside it."""
    inside = _HERE / "space_config"
    return (inside if inside.is_dir() else _HERE.parent / "space_config") / path


def load_profile(name: str) -> Profile:
    """Return a profile by its name.

    Raises:
        ConfigError: there is none of that name, or its file is damaged.
    """
    if name not in PROFILE_NAMES:
        raise ConfigError("cost.no_profile", name=name, profile_names=", ".join(PROFILE_NAMES))
    path = space_file(f"profiles/{name}.toml")
    try:
        return _build(name, tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, KeyError, TypeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError("cost.profile_unreadable", name=name, path=path, error=error) from error


def _offer(id: str, words: str, preset: str) -> BaseChoice:
    """Return an offer; its words are a code of the catalogues, or a text of the Space's owner."""
    return BaseChoice(id, Message(words) if known(words) else words, preset)


def _build(name: str, data: Mapping[str, Any]) -> Profile:
    values = {**data, "name": name, "hardware": data.get("hardware")}
    values["base_models"] = tuple(_offer(**row) for row in data["base_models"])
    values["scopes"] = tuple(data["scopes"])
    known = {f.name for f in fields(Profile)}
    if set(values) != known:
        raise KeyError(", ".join(sorted(set(values) ^ known)))
    profile = Profile(**values)
    unknown = set(profile.most) - {f"{s}.{name}" for s in SECTIONS for name in dials(s)}
    if unknown:
        raise KeyError(f"most: {', '.join(sorted(unknown))}")
    if profile.base(profile.default_base_model) is None:
        raise KeyError(f"default_base_model {profile.default_base_model}")
    return profile
