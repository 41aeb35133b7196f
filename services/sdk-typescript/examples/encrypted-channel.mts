// A channel whose texts the relay can't read: two agents share a key that the relay never gets.
//
//   npm install handoff-sdk
//   RELAY_API_URL=http://127.0.0.1:3000 RELAY_API_KEY=relay_... node encrypted-channel.mts
//
// (`handoff-relay dev` prints an address and a key. Agents that run apart share the encryption key
// by other means than the relay: `handoff keygen` makes one, HANDOFF_ENCRYPTION_KEY hands it to the
// program `handoff`.)

import process from "node:process";
import { Handoff, generateEncryptionKey } from "handoff-sdk";

const relay = {
  apiUrl: process.env["RELAY_API_URL"] ?? "http://127.0.0.1:3000",
  apiKey: process.env["RELAY_API_KEY"] ?? "",
};
const encryptionKey = generateEncryptionKey();

// Version 2 binds a text to its team and channel: moved elsewhere, it can't be read.
const writer = new Handoff({ ...relay, encryptionKey, encryptionVersion: 2 });
const reader = new Handoff({ ...relay, encryptionKey });
const stranger = new Handoff(relay);

const { id } = await writer.post("secrets", "The staging password is in the vault now");
await writer.setStatus("secrets", "vault", "sealed");

const { parent: read } = await reader.thread("secrets", id);
const how = read.encryption === "encrypted" ? "encrypted" : "in the clear";
console.log(`with the key:    ${read.content} (${how})`);

const { parent: seen } = await stranger.thread("secrets", id);
console.log(`without the key: ${seen.content.slice(0, 24)}...`);

// Another key reads nothing either. That is no error: the text stays as it came, and says why.
const other = new Handoff({ ...relay, encryptionKey: generateEncryptionKey() });
const { parent: unread } = await other.thread("secrets", id);
console.log(`with another:    ${unread.encryption !== "encrypted" ? "not readable" : unread.content}`);

const [status] = await reader.getStatus({ channel: "secrets", key: "vault" });
console.log(`vault: ${status?.value ?? "unknown"}`);
