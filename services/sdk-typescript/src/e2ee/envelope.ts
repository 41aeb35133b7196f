/**
 * One envelope and one key: how bytes are laid out, and the cipher over them. Does no I/O.
 *
 *     version 1: "e2ee:" base64(salt[32] nonce[12] ciphertext tag[16])
 *                key = HKDF-SHA256(secret, salt, "handoff-e2ee-v1"), AES-256-GCM
 *     version 2: "e2ee2:" key_id ":" base64(as above), key with "handoff-e2ee-v2",
 *                and with associated data that bind it to key, team, channel and kind
 */

import { EncryptionError } from "../errors.ts";

/** Which envelope is written. All are read. */
export type EncryptionVersion = 1 | 2;

/** Where a text stands: version 2 binds it to this. */
export interface Place {
  /** The team's ID. Version 1 doesn't look. */
  team_id: string;
  channel: string;
  /** The key of a status entry; none: the text is a message's content. */
  status_key?: string;
}

export const V1_PREFIX = "e2ee:";
export const V2_PREFIX = "e2ee2:";
const KEY_ID_LENGTH = 8;
const SALT_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
/** What an envelope adds to a text, before base64. */
const OVERHEAD_BYTES = SALT_BYTES + NONCE_BYTES + TAG_BYTES;
/** The longest text that the relay takes. */
const CONTENT_MAX_BYTES = 32_768;

const utf8 = new TextEncoder();

/** Bytes of plain text at most, so that the envelope stays within the relay's limit. */
export function maxPlainBytes(version: EncryptionVersion): number {
  const prefix = version === 1 ? V1_PREFIX.length : V2_PREFIX.length + KEY_ID_LENGTH + 1;
  return Math.floor((CONTENT_MAX_BYTES - prefix) / 4) * 3 - OVERHEAD_BYTES;
}

/** Salt and nonce of an envelope. Two texts under the same ones would give each other away. */
export interface Randomness {
  salt: Uint8Array<ArrayBuffer>;
  nonce: Uint8Array<ArrayBuffer>;
}

/** An envelope taken apart, not yet decrypted. */
export interface Sealed {
  version: EncryptionVersion;
  /** Version 1 names none. */
  key_id: string | undefined;
  bytes: Uint8Array<ArrayBuffer>;
}

/** A secret, with the ID that follows from it. */
export class SecretKey {
  readonly id: string;
  readonly #base: CryptoKey;

  private constructor(id: string, base: CryptoKey) {
    this.id = id;
    this.#base = base;
  }

  static async from(secret: string): Promise<SecretKey> {
    const subtle = webCrypto();
    // The prefix keeps this hash apart from every other use of the secret.
    const hash = await subtle.digest("SHA-256", utf8.encode(`handoff-e2ee-key-id\0${secret}`));
    const id = hex(new Uint8Array(hash)).slice(0, KEY_ID_LENGTH);
    const base = await subtle.importKey("raw", utf8.encode(secret), "HKDF", false, ["deriveKey"]);
    return new SecretKey(id, base);
  }

  /** Encrypts a text for its place. */
  async seal(
    version: EncryptionVersion,
    place: Place,
    text: string,
    { salt, nonce }: Randomness,
  ): Promise<string> {
    if (/\p{Surrogate}/u.test(text)) {
      throw new EncryptionError("The text is not well-formed: it has half a character in it");
    }
    const plain = utf8.encode(text);
    const limit = maxPlainBytes(version);
    if (plain.length > limit) {
      throw new EncryptionError(
        `Too long to be encrypted: ${plain.length} bytes, and at most ${limit} can be`,
      );
    }
    const key = await this.#cipherKey(version, salt, "encrypt");
    const ciphertext = await webCrypto().encrypt(this.#cipher(version, place, nonce), key, plain);
    const prefix = version === 1 ? V1_PREFIX : `${V2_PREFIX}${this.id}:`;
    return prefix + toBase64(concat([salt, nonce, new Uint8Array(ciphertext)]));
  }

  /** Decrypts. Undefined: this key does not fit, or the text is not what was written. */
  async open(sealed: Sealed, place: Place): Promise<string | undefined> {
    const salt = sealed.bytes.slice(0, SALT_BYTES);
    const nonce = sealed.bytes.slice(SALT_BYTES, SALT_BYTES + NONCE_BYTES);
    const ciphertext = sealed.bytes.slice(SALT_BYTES + NONCE_BYTES);
    const key = await this.#cipherKey(sealed.version, salt, "decrypt");
    try {
      const plain = await webCrypto().decrypt(
        this.#cipher(sealed.version, place, nonce),
        key,
        ciphertext,
      );
      // A byte order mark is a part of the text like any other character.
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(plain);
    } catch {
      return undefined;
    }
  }

  #cipherKey(
    version: EncryptionVersion,
    salt: Uint8Array<ArrayBuffer>,
    usage: "encrypt" | "decrypt",
  ): Promise<CryptoKey> {
    return webCrypto().deriveKey(
      { name: "HKDF", hash: "SHA-256", salt, info: utf8.encode(label(version)) },
      this.#base,
      { name: "AES-GCM", length: 256 },
      false,
      [usage],
    );
  }

  #cipher(
    version: EncryptionVersion,
    place: Place,
    nonce: Uint8Array<ArrayBuffer>,
  ): AesGcmParams {
    const cipher = { name: "AES-GCM", iv: nonce, tagLength: TAG_BYTES * 8 };
    if (version === 1) return cipher;
    const kind = place.status_key === undefined ? ["message"] : ["status", place.status_key];
    const fields = [label(version), this.id, place.team_id, place.channel, ...kind];
    return { ...cipher, additionalData: concat(fields.flatMap(field)) };
  }
}

/** Takes an envelope apart. Undefined: this is plain text. */
export function parseEnvelope(text: string): Sealed | undefined {
  if (text.startsWith(V1_PREFIX)) {
    return { version: 1, key_id: undefined, bytes: body(text.slice(V1_PREFIX.length)) };
  }
  if (!text.startsWith(V2_PREFIX)) return undefined;
  // Anything may stand there, and it is repeated in an error for people and models to read.
  const named = /^([0-9a-f]{8}):/.exec(text.slice(V2_PREFIX.length));
  if (named === null) throw new EncryptionError("This is no whole envelope: it names no key");
  const [start, key_id] = named;
  return { version: 2, key_id, bytes: body(text.slice(V2_PREFIX.length + start.length)) };
}

/** A new salt and nonce. */
export function randomness(): Randomness {
  return {
    salt: crypto.getRandomValues(new Uint8Array(SALT_BYTES)),
    nonce: crypto.getRandomValues(new Uint8Array(NONCE_BYTES)),
  };
}

/** A new secret: 32 random bytes in base64url. */
export function generateEncryptionKey(): string {
  const text = toBase64(crypto.getRandomValues(new Uint8Array(32)));
  return text.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function label(version: EncryptionVersion): string {
  return `handoff-e2ee-v${version}`;
}

/** With its length before it, no field can pass for the end of another. */
function field(text: string): Uint8Array[] {
  const bytes = utf8.encode(text);
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, bytes.length);
  return [length, bytes];
}

function body(text: string): Uint8Array<ArrayBuffer> {
  const bytes = fromBase64(text);
  if (bytes === undefined) throw new EncryptionError("This is no whole envelope: it is not base64");
  if (bytes.length < OVERHEAD_BYTES) {
    throw new EncryptionError("This is no whole envelope: it is too short");
  }
  return bytes;
}

/** Browsers have no WebCrypto on pages that came in the clear from another machine. */
function webCrypto(): SubtleCrypto {
  // The types say that it is always there.
  const { subtle } = globalThis.crypto as { subtle?: SubtleCrypto };
  if (subtle === undefined) {
    throw new EncryptionError("Encryption needs WebCrypto, which browsers have on https:// pages only");
  }
  return subtle;
}

function concat(parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function toBase64(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

/** Standard base64, with its padding or without; undefined where it is anything else. */
function fromBase64(text: string): Uint8Array<ArrayBuffer> | undefined {
  const digits = text.replace(/={1,2}$/, "");
  // `atob` would pass over white space, and over bits that belong to no byte.
  if (!/^[A-Za-z0-9+/]*$/.test(digits) || digits.length % 4 === 1) return undefined;
  if (digits.length !== text.length && text.length % 4 !== 0) return undefined;
  const decoded = atob(digits);
  if (btoa(decoded).replace(/=+$/, "") !== digits) return undefined;
  return Uint8Array.from(decoded, (character) => character.charCodeAt(0));
}
