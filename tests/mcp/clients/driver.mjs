// Drives an MCP server with the official TypeScript clients: package `client` for the revisions
// since 2026-07-28, package `sdk` for those before. What it takes and gives: see driver.py.

import { createInterface } from "node:readline";

const options = JSON.parse(process.argv[2]);
const legacy = options.mode === "legacy";

let turn = 0;
function inTurn(url, init) {
  const next = new URL(options.urls[turn++ % options.urls.length]);
  const target = new URL(url);
  target.host = next.host;
  return fetch(target, init);
}

async function load() {
  if (legacy) {
    const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
    const { StreamableHTTPClientTransport } = await import(
      "@modelcontextprotocol/sdk/client/streamableHttp.js"
    );
    const { StdioClientTransport } = await import("@modelcontextprotocol/sdk/client/stdio.js");
    return { Client, StreamableHTTPClientTransport, StdioClientTransport };
  }
  const { Client, StreamableHTTPClientTransport } = await import("@modelcontextprotocol/client");
  const { StdioClientTransport } = await import("@modelcontextprotocol/client/stdio");
  return { Client, StreamableHTTPClientTransport, StdioClientTransport };
}

const { Client, StreamableHTTPClientTransport, StdioClientTransport } = await load();
const client = new Client(
  { name: "handoff-tests", version: "1.0.0" },
  legacy ? {} : { versionNegotiation: { mode: options.mode === "auto" ? "auto" : { pin: options.mode } } },
);
const transport = options.urls
  ? new StreamableHTTPClientTransport(new URL(options.urls[0]), {
      requestInit: { headers: { Authorization: `Bearer ${options.key}` } },
      fetch: inTurn,
    })
  : new StdioClientTransport({
      command: options.command[0],
      args: options.command.slice(1),
      env: options.env,
    });
await client.connect(transport);

function answer(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

async function carryOut(request) {
  if ("list" in request) return client.listTools();
  if ("instructions" in request) return { instructions: client.getInstructions() ?? null };
  const progress = [];
  const result = await (legacy
    ? client.callTool({ name: request.call, arguments: request.arguments }, undefined, {
        onprogress: (update) => progress.push(update),
        timeout: 120_000,
      })
    : client.callTool(
        { name: request.call, arguments: request.arguments },
        { onprogress: (update) => progress.push(update), timeout: 120_000 },
      ));
  return { ...result, progress };
}

answer({
  protocol_version: client.getNegotiatedProtocolVersion?.() ?? transport.protocolVersion ?? null,
});
for await (const line of createInterface({ input: process.stdin })) {
  try {
    answer(await carryOut(JSON.parse(line)));
  } catch (error) {
    answer({ error: `${error.name}: ${error.message}` });
  }
}
await client.close();
process.exit(0);
