"""A Space of one's own: what goes into its folder, and putting it on the Hub."""

from __future__ import annotations

from ditto_hub.hub.spaces.deploy import deploy_steps
from ditto_hub.hub.spaces.folder import plan_space

__all__ = ["deploy_steps", "plan_space"]
