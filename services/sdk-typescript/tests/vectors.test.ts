/** The same vectors that the Rust client is held against. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import type { Place } from "../src/e2ee/envelope.ts";
import { Keyring } from "../src/e2ee/keyring.ts";
import { EncryptionError } from "../src/index.ts";
import { environment } from "./support.ts";

interface WrittenPlace {
  team_id: string;
  channel: string;
  kind: string;
  status_key?: string;
}

const vectors = JSON.parse(readFileSync(environment.vectors, "utf8")) as {
  encrypt: {
    name: string;
    version: 1 | 2;
    secret: string;
    key_id: string;
    place: WrittenPlace;
    salt_hex: string;
    nonce_hex: string;
    text: string;
    envelope: string;
  }[];
  reject: { name: string; secrets: string[]; place: WrittenPlace; envelope: string }[];
  plain: string[];
};

function place({ team_id, channel, kind, status_key }: WrittenPlace): Place {
  if (kind === "message") return { team_id, channel };
  assert.ok(status_key !== undefined);
  return { team_id, channel, status_key };
}

function bytes(hex: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(hex.match(/../g) ?? [], (digits) => parseInt(digits, 16));
}

test("there are as many as there were", () => {
  assert.ok(vectors.encrypt.length >= 18);
  assert.ok(vectors.reject.length >= 23);
  assert.ok(vectors.plain.length >= 8);
});

for (const vector of vectors.encrypt) {
  test(`encrypt: ${vector.name}`, async () => {
    const keyring = new Keyring([vector.secret], vector.version);
    assert.deepEqual(await keyring.keyIds(), [vector.key_id]);
    const envelope = await keyring.encrypt(place(vector.place), vector.text, {
      salt: bytes(vector.salt_hex),
      nonce: bytes(vector.nonce_hex),
    });
    assert.equal(envelope, vector.envelope);
    const opened = await keyring.decrypt(place(vector.place), envelope);
    assert.deepEqual(opened, { plain: false, text: vector.text });
    // Encoders differ in whether they pad.
    const bare = await keyring.decrypt(place(vector.place), envelope.replace(/=+$/, ""));
    assert.deepEqual(bare, { plain: false, text: vector.text });
    // Every other envelope of the same text is another.
    assert.notEqual(await keyring.encrypt(place(vector.place), vector.text), envelope);
  });
}

for (const vector of vectors.reject) {
  test(`reject: ${vector.name}`, async () => {
    const keyring = new Keyring(vector.secrets);
    await assert.rejects(keyring.decrypt(place(vector.place), vector.envelope), EncryptionError);
  });
}

for (const text of vectors.plain) {
  test(`plain: ${JSON.stringify(text)}`, async () => {
    const opened = await new Keyring(["any"]).decrypt({ team_id: "1", channel: "ops" }, text);
    assert.deepEqual(opened, { plain: true });
  });
}
