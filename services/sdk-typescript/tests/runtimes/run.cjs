/** Runs the scenario on the CommonJS build: run.cjs API_URL API_KEY CHANNEL */

const sdk = require("../../dist/index.cjs");

const [apiUrl, apiKey, channel] = process.argv.slice(2);
import("./scenario.mjs")
  .then(({ scenario }) => scenario(sdk, { apiUrl, apiKey, channel }))
  .then(console.log);
