/**
 * Runs the scenario in Chromium: browser.mjs API_URL API_KEY CHANNEL same|other
 *
 * `same`: the page comes from the relay's own origin, through a proxy that also serves the files;
 * `other`: from another origin, so that the relay must allow it.
 */

import { readFileSync } from "node:fs";
import http from "node:http";
import { chromium } from "playwright-core";

const [apiUrl, apiKey, channel, origin] = process.argv.slice(2);
const files = {
  "/": ["text/html", "<!doctype html><title>Handoff</title>"],
  "/sdk.js": ["text/javascript", read("../../dist/index.js")],
  "/scenario.mjs": ["text/javascript", read("./scenario.mjs")],
};

const server = http.createServer((request, response) => {
  const file = files[request.url];
  if (file !== undefined) {
    response.writeHead(200, { "content-type": file[0] }).end(file[1]);
    return;
  }
  const target = new URL(request.url, apiUrl);
  const { method, headers } = request;
  const onward = http.request(target, { method, headers: { ...headers, host: target.host } }, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    response.flushHeaders();
    answer.pipe(response);
  });
  onward.on("error", () => response.destroy());
  response.on("close", () => onward.destroy());
  request.pipe(onward);
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const page_url = `http://127.0.0.1:${server.address().port}/`;

const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
});
try {
  const page = await browser.newPage();
  page.on("console", (message) => console.error("page:", message.text()));
  await page.goto(page_url);
  const where = { apiUrl: origin === "same" ? page_url : apiUrl, apiKey, channel };
  const outcome = await page.evaluate(async (where) => {
    const [sdk, { scenario }] = await Promise.all([import("/sdk.js"), import("/scenario.mjs")]);
    return scenario(sdk, where);
  }, where);
  console.log(outcome);
} finally {
  await browser.close();
  server.closeAllConnections();
  server.close();
}

function read(path) {
  return readFileSync(new URL(path, import.meta.url));
}
