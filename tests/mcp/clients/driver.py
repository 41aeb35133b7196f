"""Drives an MCP server with the official Python client.

The first argument is JSON: {"mode", and either "urls" and "key", or "command" and "env"}. Requests
come as JSON lines on stdin, each is answered by a JSON line on stdout. With several URLs each HTTP
request goes to the next one, as behind a load balancer.
"""

import itertools
import json
import sys

import anyio
import httpx2
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client


class InTurn(httpx2.AsyncBaseTransport):
    def __init__(self, urls):
        self.inner = httpx2.AsyncHTTPTransport()
        self.urls = itertools.cycle([httpx2.URL(url) for url in urls])

    async def handle_async_request(self, request):
        url = next(self.urls)
        request.url = request.url.copy_with(host=url.host, port=url.port)
        return await self.inner.handle_async_request(request)


async def main():
    options = json.loads(sys.argv[1])
    notifications = []

    async def on_message(message):
        if hasattr(message, "method"):
            notifications.append(message.model_dump(mode="json", by_alias=True, exclude_none=True))

    if "urls" in options:
        http = httpx2.AsyncClient(
            transport=InTurn(options["urls"]),
            headers={"Authorization": f"Bearer {options['key']}"},
            timeout=120,
        )
        server = streamable_http_client(options["urls"][0], http_client=http)
    else:
        command, *arguments = options["command"]
        server = StdioServerParameters(command=command, args=arguments, env=options["env"])
    async with Client(server, mode=options["mode"], message_handler=on_message) as client:
        await serve(client, notifications)


async def serve(client, notifications):
    print(json.dumps({"protocol_version": client.protocol_version}), flush=True)
    stdin = anyio.wrap_file(sys.stdin)
    async for line in stdin:
        request = json.loads(line)
        try:
            answer = await carry_out(client, request, notifications)
        except Exception as error:  # the test decides what an error means
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


async def carry_out(client, request, notifications):
    if "list" in request:
        return (await client.list_tools()).model_dump(mode="json", by_alias=True, exclude_none=True)
    if "instructions" in request:
        return {"instructions": client.instructions}
    progress = []

    async def on_progress(done, total, message):
        progress.append([done, total, message])

    result = await client.call_tool(
        request["call"], request["arguments"], progress_callback=on_progress
    )
    return {
        **result.model_dump(mode="json", by_alias=True, exclude_none=True),
        "progress": progress,
    }


anyio.run(main)
