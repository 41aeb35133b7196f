/**
 * The team's secrets: all of them read, the first one writes. So a team changes its secret by putting
 * the new one first, and keeps the old one as long as there is something to read with it.
 */

import { EncryptionError } from "../errors.ts";
import {
  SecretKey,
  V2_PREFIX,
  parseEnvelope,
  randomness,
  type EncryptionVersion,
  type Place,
  type Randomness,
} from "./envelope.ts";

/** What was found in a text. */
export type Opened = { plain: true } | { plain: false; text: string };

/** The team's secrets. */
export class Keyring {
  /** The version that it writes. */
  readonly version: EncryptionVersion;
  readonly #secrets: readonly [string, ...string[]];
  #keys: Promise<readonly [SecretKey, ...SecretKey[]]> | undefined;

  /** A keyring that writes with the first secret and reads with all. */
  constructor(secrets: readonly string[], version: EncryptionVersion = 1) {
    const [writing, ...reading] = secrets;
    if (writing === undefined || secrets.includes("")) {
      throw new EncryptionError("The encryption key has an empty key in it");
    }
    this.#secrets = [writing, ...reading];
    this.version = version;
  }

  /**
   * Reads secrets separated by commas, the first of which writes. `v2:` before the first opts into
   * writing version 2, unless a version is given. A secret with a comma in it can't be said this way.
   */
  static parse(text: string, version?: EncryptionVersion): Keyring {
    const secrets = text.split(",").map((secret) => {
      if (secret !== secret.trim()) {
        throw new EncryptionError(
          "The encryption key has a key that begins or ends with white space",
        );
      }
      // Once a newer secret is put before it, the prefix stays where it was and says nothing.
      return secret.startsWith("v2:") ? secret.slice("v2:".length) : secret;
    });
    return new Keyring(secrets, version ?? (text.startsWith("v2:") ? 2 : 1));
  }

  /** Whether it must know the team to encrypt. */
  get writesForTeam(): boolean {
    return this.version === 2;
  }

  /** Whether it must know the team to decrypt this text. */
  needsTeam(text: string): boolean {
    return text.startsWith(V2_PREFIX);
  }

  /** The IDs of all keys, the writing one first: what version 2 names in its envelopes. */
  async keyIds(): Promise<string[]> {
    return (await this.#all()).map((key) => key.id);
  }

  /**
   * Encrypts a text for its place. Salt and nonce are fresh for every text; only test vectors bring
   * their own.
   */
  async encrypt(place: Place, text: string, random: Randomness = randomness()): Promise<string> {
    const [writing] = await this.#all();
    return writing.seal(this.version, place, text, random);
  }

  /** Decrypts a text that was found in this place. Plain text is told apart, not refused. */
  async decrypt(place: Place, text: string): Promise<Opened> {
    const sealed = parseEnvelope(text);
    if (sealed === undefined) return { plain: true };
    const keys = await this.#all();
    const fitting =
      sealed.key_id === undefined ? keys : keys.filter((key) => key.id === sealed.key_id);
    for (const key of fitting) {
      const opened = await key.open(sealed, place);
      if (opened !== undefined) return { plain: false, text: opened };
    }
    if (sealed.key_id === undefined) {
      throw new EncryptionError(
        "No encryption key decrypts it: the key is another or it was altered",
      );
    }
    if (fitting.length === 0) {
      const known = keys.map((key) => key.id).join(", ");
      throw new EncryptionError(
        `It was encrypted with key ${sealed.key_id}, and the encryption key has ${known}`,
      );
    }
    throw new EncryptionError(
      `Key ${sealed.key_id} does not decrypt it: it was altered, or moved here from another team, ` +
        "channel or status entry",
    );
  }

  #all(): Promise<readonly [SecretKey, ...SecretKey[]]> {
    this.#keys ??= (async () => {
      const [writing, ...reading] = this.#secrets;
      return [await SecretKey.from(writing), ...(await Promise.all(reading.map((secret) => SecretKey.from(secret))))] as const;
    })();
    return this.#keys;
  }
}
