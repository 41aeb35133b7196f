/** Runs the scenario in Node, Deno or Bun: run.mjs API_URL API_KEY CHANNEL */

import * as sdk from "../../dist/index.js";
import { scenario } from "./scenario.mjs";

const [apiUrl, apiKey, channel] = globalThis.Deno?.args ?? process.argv.slice(2);
console.log(await scenario(sdk, { apiUrl, apiKey, channel }));
