"""The app as an MCP server, asked by the official client; skipped where `mcp` is not installed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

mcp = pytest.importorskip("mcp")
sys.path.insert(0, str(Path(__file__).parents[1] / "ui"))
from pages import App  # noqa: E402
from test_agents import NAMES  # noqa: E402


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """Serve the app as an MCP server."""
    running = App(tmp_path_factory.mktemp("mcp") / "home", {"GRADIO_MCP_SERVER": "true"}).start()
    yield running
    running.stop()


@pytest.mark.filterwarnings("ignore")
def test_a_real_mcp_client_lists_and_calls_the_tools(served: App) -> None:
    """The official client finds each endpoint as a tool with its words, and calls one."""
    from mcp.client.streamable_http import streamablehttp_client

    async def ask() -> tuple[list[Any], Any]:
        async with (
            streamablehttp_client(f"{served.url}/gradio_api/mcp/") as (read, write, _),
            mcp.ClientSession(read, write) as client,
        ):
            await client.initialize()
            tools = (await client.list_tools()).tools
            name = next(tool.name for tool in tools if tool.name.endswith("check"))
            rows = [{"prompt": "Ask.", "completion": "Please?"}]
            return tools, await client.call_tool(name, {"demonstrations": rows})

    tools, answer = asyncio.run(ask())
    assert {tool.name.rsplit("__", 1)[-1] for tool in tools} >= NAMES
    assert all(tool.description for tool in tools)
    assert not any({"request", "user"} & set(tool.inputSchema["properties"]) for tool in tools)
    assert "usable" in answer.content[0].text
