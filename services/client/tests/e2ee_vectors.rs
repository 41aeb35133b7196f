//! The test vectors that every implementation of the envelopes must agree with.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use handoff_client::e2ee::{Context, E2eeError, Keyring, Kind, Opened, Version};
use serde::{Deserialize, Serialize};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2ee-vectors.json");

#[derive(Serialize, Deserialize)]
struct Vectors {
    about: String,
    encrypt: Vec<Encrypted>,
    reject: Vec<Rejected>,
    plain: Vec<String>,
}

/// With this salt and nonce the text gives exactly the envelope, and the envelope the text.
#[derive(Serialize, Deserialize)]
struct Encrypted {
    name: String,
    version: u8,
    secret: String,
    key_id: String,
    place: Place,
    salt_hex: String,
    nonce_hex: String,
    text: String,
    envelope: String,
}

/// With these secrets, in this place, the envelope must not decrypt.
#[derive(Serialize, Deserialize)]
struct Rejected {
    name: String,
    secrets: Vec<String>,
    place: Place,
    envelope: String,
    reason: String,
}

#[derive(Clone, Serialize, Deserialize)]
struct Place {
    team_id: String,
    channel: String,
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status_key: Option<String>,
}

impl Place {
    fn message(channel: &str) -> Self {
        Self {
            team_id: "7b1f6a4e-3c0d-4a52-9d5e-0f2a6c1b8e77".into(),
            channel: channel.into(),
            kind: "message".into(),
            status_key: None,
        }
    }

    fn status(channel: &str, key: &str) -> Self {
        Self {
            kind: "status".into(),
            status_key: Some(key.into()),
            ..Self::message(channel)
        }
    }

    fn context(&self) -> Context<'_> {
        let kind = match self.kind.as_str() {
            "message" => Kind::Message,
            "status" => Kind::Status {
                key: self.status_key.as_deref().unwrap(),
            },
            other => panic!("unknown kind {other}"),
        };
        Context {
            team_id: &self.team_id,
            channel: &self.channel,
            kind,
        }
    }
}

fn keyring(secrets: &[String]) -> Keyring {
    let mut secrets = secrets.iter().map(|secret| secret.as_str().into());
    Keyring::new(secrets.next().unwrap(), secrets).unwrap()
}

fn seal(vector: &Encrypted) -> String {
    keyring(std::slice::from_ref(&vector.secret))
        .writing_version(vector.version.to_string().parse().unwrap())
        .encrypt_with(
            &vector.place.context(),
            &vector.text,
            &hex::decode(&vector.salt_hex).unwrap().try_into().unwrap(),
            &hex::decode(&vector.nonce_hex).unwrap().try_into().unwrap(),
        )
        .unwrap()
}

fn reason(error: &E2eeError) -> &'static str {
    match error {
        E2eeError::WrongKey => "wrong_key",
        E2eeError::UnknownKey { .. } => "unknown_key",
        E2eeError::Moved { .. } => "altered_or_moved",
        E2eeError::Malformed(_) => "malformed",
        other => panic!("not an error of decryption: {other:?}"),
    }
}

#[test]
fn every_vector_holds_both_ways() {
    let vectors: Vectors = serde_json::from_str(&std::fs::read_to_string(FILE).unwrap()).unwrap();
    assert!(vectors.encrypt.len() >= 12 && vectors.reject.len() >= 15);
    for vector in &vectors.encrypt {
        let name = &vector.name;
        assert_eq!(seal(vector), vector.envelope, "{name}");
        let keyring = keyring(std::slice::from_ref(&vector.secret));
        assert_eq!(keyring.key_id(), vector.key_id, "{name}");
        let opened = keyring.decrypt(&vector.place.context(), &vector.envelope);
        assert_eq!(opened, Ok(Opened::Text(vector.text.clone())), "{name}");
    }
    for vector in &vectors.reject {
        let opened = keyring(&vector.secrets).decrypt(&vector.place.context(), &vector.envelope);
        let error = opened.expect_err(&vector.name);
        assert_eq!(reason(&error), vector.reason, "{}", vector.name);
    }
    for text in &vectors.plain {
        let opened = Keyring::parse("secret")
            .unwrap()
            .decrypt(&Place::message("ops").context(), text);
        assert_eq!(opened, Ok(Opened::Plain), "{text}");
    }
}

/// Writes the file anew: only for a new version of the envelope, as the old ones hold for ever.
#[test]
#[ignore = "writes the vectors that the other tests read"]
fn write_vectors() {
    let vectors = make();
    let json = serde_json::to_string_pretty(&vectors).unwrap() + "\n";
    std::fs::write(FILE, json).unwrap();
}

fn make() -> Vectors {
    const SECRET: &str = "b8q0mQm3Jp1vX2yR5t7uW9zC4eF6hK8nL0oP2sT4vY0";
    let long = "ünï ✓ 🦀 ".repeat(200);
    let cases = [
        (
            "ascii message",
            SECRET,
            Place::message("ops"),
            "Deploy 42 is out.",
        ),
        (
            "unicode message",
            SECRET,
            Place::message("ops"),
            "Grüße, 世界 🦀\n\ttab \"quoted\" \\",
        ),
        ("one byte", SECRET, Place::message("ops"), "x"),
        ("long message", SECRET, Place::message("a.b-c_d"), &long),
        (
            "a text that looks like an envelope",
            SECRET,
            Place::message("ops"),
            "e2ee:AAAA",
        ),
        (
            "empty status value",
            SECRET,
            Place::status("ops", "build"),
            "",
        ),
        (
            "status value",
            SECRET,
            Place::status("ops", "build"),
            "green",
        ),
        (
            "unicode status key",
            SECRET,
            Place::status("ops", "Zoo/ü 🦀"),
            "{\"a\":1}",
        ),
        (
            "unicode secret",
            "pässwörd 🔑, with a comma",
            Place::message("ops"),
            "hi",
        ),
    ];
    let mut encrypt = Vec::new();
    for version in [1_u8, 2] {
        for (name, secret, place, text) in &cases {
            // Anything that differs from vector to vector will do, as long as it is written down.
            let seed = (encrypt.len() as u8).wrapping_mul(13);
            let bytes = |step: u8, start: u8| {
                (0..)
                    .map(move |at: u8| seed.wrapping_add(at.wrapping_mul(step)).wrapping_add(start))
            };
            let salt: Vec<u8> = bytes(7, 0).take(32).collect();
            let nonce: Vec<u8> = bytes(11, 3).take(12).collect();
            let mut vector = Encrypted {
                name: format!("v{version}: {name}"),
                version,
                secret: (*secret).into(),
                key_id: keyring(&[(*secret).into()]).key_id().into(),
                place: place.clone(),
                salt_hex: hex::encode(salt),
                nonce_hex: hex::encode(nonce),
                text: (*text).into(),
                envelope: String::new(),
            };
            vector.envelope = seal(&vector);
            encrypt.push(vector);
        }
    }
    let reject = make_rejected(&encrypt);
    Vectors {
        about: "Envelopes of end-to-end encryption, versions 1 and 2. \
                `encrypt`: with this salt and nonce the text gives exactly the envelope, and the \
                envelope gives the text. `reject`: with these secrets, found in this place, the \
                envelope must not decrypt. `plain`: texts that are no envelopes and pass as they \
                are."
            .into(),
        encrypt,
        reject,
        plain: [
            "",
            "hi",
            "E2EE:AAAA",
            " e2ee:AAAA",
            "e2ee",
            "e2ee2",
            "e2ee3:x",
            "see e2ee:AAAA",
        ]
        .map(Into::into)
        .into(),
    }
}

fn make_rejected(encrypt: &[Encrypted]) -> Vec<Rejected> {
    let find = |name: &str| encrypt.iter().find(|vector| vector.name == name).unwrap();
    let (v1, v2) = (find("v1: ascii message"), find("v2: ascii message"));
    let status = find("v2: status value");
    let mut reject = Vec::new();
    let mut add = |name: &str, secret: &str, place: &Place, envelope: String, reason: &str| {
        reject.push(Rejected {
            name: name.into(),
            secrets: vec![secret.into()],
            place: place.clone(),
            envelope,
            reason: reason.into(),
        });
    };
    let secret = v1.secret.as_str();
    let shorter = |text: &str, bytes: usize| text[..text.len() - bytes].to_owned();
    // Another character in the middle of the ciphertext.
    let altered = |text: &str| {
        let at = text.len() - 10;
        let other = if &text[at..=at] == "A" { "B" } else { "A" };
        format!("{}{other}{}", &text[..at], &text[at + 1..])
    };

    add(
        "v1: another key",
        "another",
        &v1.place,
        v1.envelope.clone(),
        "wrong_key",
    );
    add(
        "v1: altered",
        secret,
        &v1.place,
        altered(&v1.envelope),
        "wrong_key",
    );
    add(
        "v1: truncated by a group",
        secret,
        &v1.place,
        shorter(&v1.envelope, 8),
        "wrong_key",
    );
    add(
        "v1: shorter than salt, nonce and tag",
        secret,
        &v1.place,
        "e2ee:AAAA".into(),
        "malformed",
    );
    add(
        "v1: nothing but the prefix",
        secret,
        &v1.place,
        "e2ee:".into(),
        "malformed",
    );
    add(
        "v1: no base64",
        secret,
        &v1.place,
        "e2ee:*not base64*".into(),
        "malformed",
    );
    let spaced = v1.envelope.replace("e2ee:", "e2ee: ");
    add(
        "v1: white space inside",
        secret,
        &v1.place,
        spaced,
        "malformed",
    );
    let as_v1 = v2
        .envelope
        .replace(&format!("e2ee2:{}:", v2.key_id), "e2ee:");
    add("v2 passed off as v1", secret, &v2.place, as_v1, "wrong_key");

    add(
        "v2: another key",
        "another",
        &v2.place,
        v2.envelope.clone(),
        "unknown_key",
    );
    let renamed = v2
        .envelope
        .replace(&v2.key_id, keyring(&["another".into()]).key_id());
    add(
        "v2: another key under its name",
        "another",
        &v2.place,
        renamed,
        "altered_or_moved",
    );
    add(
        "v2: altered",
        secret,
        &v2.place,
        altered(&v2.envelope),
        "altered_or_moved",
    );
    let channel = Place::message("dev");
    add(
        "v2: moved to another channel",
        secret,
        &channel,
        v2.envelope.clone(),
        "altered_or_moved",
    );
    let team = Place {
        team_id: "another".into(),
        ..v2.place.clone()
    };
    add(
        "v2: moved to another team",
        secret,
        &team,
        v2.envelope.clone(),
        "altered_or_moved",
    );
    let as_status = Place::status("ops", "build");
    add(
        "v2: a message as a status",
        secret,
        &as_status,
        v2.envelope.clone(),
        "altered_or_moved",
    );
    add(
        "v2: a status as a message",
        secret,
        &v2.place,
        status.envelope.clone(),
        "altered_or_moved",
    );
    let other_key = Place::status("ops", "test");
    add(
        "v2: moved to another status key",
        secret,
        &other_key,
        status.envelope.clone(),
        "altered_or_moved",
    );
    let as_v2 = v1
        .envelope
        .replace("e2ee:", &format!("e2ee2:{}:", v2.key_id));
    add(
        "v1 passed off as v2",
        secret,
        &v1.place,
        as_v2,
        "altered_or_moved",
    );
    let truncated = shorter(&v2.envelope, 8);
    add(
        "v2: truncated by a group",
        secret,
        &v2.place,
        truncated,
        "altered_or_moved",
    );
    for (name, envelope) in [
        ("v2: nothing but the prefix", "e2ee2:".to_owned()),
        ("v2: no key ID", v2.envelope.replace(&v2.key_id, "")),
        (
            "v2: a key ID in capitals",
            v2.envelope.replace(&v2.key_id, &v2.key_id.to_uppercase()),
        ),
        ("v2: no base64", format!("e2ee2:{}:*", v2.key_id)),
        ("v2: too short", format!("e2ee2:{}:AAAA", v2.key_id)),
    ] {
        add(name, secret, &v2.place, envelope, "malformed");
    }
    reject
}

#[test]
fn the_file_is_what_the_writer_writes() {
    let written = serde_json::to_value(make()).unwrap();
    let file: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(FILE).unwrap()).unwrap();
    assert_eq!(written, file);
}

#[test]
fn versions_are_named_by_their_numbers() {
    assert_eq!("1".parse(), Ok(Version::V1));
    assert_eq!(" 2\n".parse(), Ok(Version::V2));
    assert!("v2".parse::<Version>().is_err());
}
