"""What a profile lets in, whoever wrote it: base model, settings and demonstrations of a run.

A run's record may come from a repo of its visitor's, who can have edited it by hand. So what the
app's form is held to, a run that is brought, resumed or leased for is held to as well.
"""

from __future__ import annotations

import re
from pathlib import Path

from ditto_hub.config import RunConfig
from ditto_hub.cost.profiles import Profile
from ditto_hub.demos.demonstrations import DemoSet
from ditto_hub.errors import BaseModelError, ConfigError, DemoError
from ditto_hub.runs.folder import Run
from ditto_hub.runs.record import RunRecord
from ditto_hub.runs.storage import is_folder

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)


def require_base(base_model: str, profile: Profile) -> str:
    """Return a base model's id if a visitor may name it here.

    Raises:
        BaseModelError: it is not offered, or no id; a folder may be named on one's own machine.
    """
    name = (base_model or "").strip()
    if profile.base(name) is not None:
        return name
    if not profile.any_base_model:
        offered = ", ".join(base.id for base in profile.base_models)
        raise BaseModelError("cost.not_offered", name=name[:100], offered=offered)
    if profile.name == "own" and name and is_folder(name):
        return name
    if not HUB_ID.fullmatch(name) or Path(name).exists():
        raise BaseModelError("cost.no_model_id", name=name[:100])
    return name


def require_settings(config: RunConfig, profile: Profile) -> RunConfig:
    """Return settings, unless one is above what the profile's `most` allows.

    Raises:
        ConfigError: naming the setting and its cap.
    """
    for path, most in profile.most.items():
        section, _, name = path.partition(".")
        value = getattr(getattr(config, section), name)
        if value > most:
            raise ConfigError("cost.setting_above", path=path, value=value, most=most)
    return config


def require_demos(demos: DemoSet, profile: Profile) -> DemoSet:
    """Return demonstrations, unless they are more or longer than the profile allows.

    Raises:
        DemoError: with the cap.
    """
    if len(demos) > profile.max_demos:
        raise DemoError(
            "cost.demonstrations_run_takes", count=len(demos), max_demos=profile.max_demos
        )
    for number, demo in enumerate(demos, start=1):
        longest = max(map(len, (demo.prompt_text, demo.completion, demo.original or "")))
        if longest > profile.max_text_chars:
            raise DemoError(
                "cost.demonstration_holds_characters",
                number=number,
                longest=longest,
                max_text_chars=profile.max_text_chars,
            )
    return demos


def require_record(record: RunRecord, profile: Profile) -> None:
    """Refuse a run by its record alone, before anything of it is fetched or loaded.

    Raises:
        BaseModelError, ConfigError: the app would not have made such a run here.
    """
    require_base(str(record.base_model["id"]), profile)
    require_settings(RunConfig.from_record(record.config), profile)


def require_run(run: Run, profile: Profile) -> None:
    """Refuse a run that the app would not have made here.

    Raises:
        BaseModelError, ConfigError, DemoError: what is not allowed.
        RunError: it is damaged.
    """
    require_record(run.record, profile)
    require_demos(run.demos(), profile)
