//! A home folder to run the program in, and a stand-in for a relay.

use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
};
use tempfile::TempDir;

/// The built program.
pub(crate) const HANDOFF: &str = env!("CARGO_BIN_EXE_handoff");

/// A home folder of its own, and nothing of the environment of whoever runs the tests.
pub(crate) struct Home {
    folder: TempDir,
    variables: Vec<(String, String)>,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            variables: Vec::new(),
        }
    }

    /// A home whose environment names this relay, and a key.
    pub(crate) fn at(relay: &StandIn) -> Self {
        Self::new()
            .with("RELAY_API_URL", &relay.url)
            .with("RELAY_API_KEY", "relay_environment")
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    pub(crate) fn write(&self, below: &str, text: &str) {
        let path = self.path(below);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.folder.path())
            .envs(self.variables.clone())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with_input(arguments, "")
    }

    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &str) -> Ran {
        let mut command = self.command(Path::new(HANDOFF), arguments);
        let mut process = command.stdin(Stdio::piped()).spawn().unwrap();
        // A program that doesn't read its input closes it.
        let _ = process.stdin.take().unwrap().write_all(input.as_bytes());
        Ran::new(process.wait_with_output().unwrap())
    }
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn new(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The output of a success.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// What a failure with this code says; nothing of it is on standard output.
    #[track_caller]
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.out, "");
        self.err
    }

    /// The one line of JSON of a success.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        let out = self.ok();
        assert_eq!(out.lines().count(), 1, "{out}");
        serde_json::from_str(&out).unwrap()
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// `METHOD /path?query`.
    pub(crate) line: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: String,
}

/// An answer: none leaves the caller without one.
pub(crate) type Answer = Option<(u16, Value)>;

/// Answers as it is told.
pub(crate) struct StandIn {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl StandIn {
    pub(crate) fn new(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (noted, answer) = (Arc::clone(&asked), Arc::new(answer));
        thread::spawn(move || {
            for connection in listener.incoming() {
                let (noted, answer) = (Arc::clone(&noted), Arc::clone(&answer));
                thread::spawn(move || {
                    let Some((asked, connection)) = read_request(connection.unwrap()) else {
                        return;
                    };
                    noted.lock().unwrap().push(asked.clone());
                    if let Some((status, body)) = answer(&asked) {
                        write_answer(connection, status, &body);
                    }
                });
            }
        });
        Self { url, asked }
    }

    /// A relay that refuses everything so.
    pub(crate) fn refusing(status: u16, code: &'static str) -> Self {
        Self::new(move |_| Some((status, json!({"error": "No such luck", "code": code}))))
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn read_request(connection: TcpStream) -> Option<(Asked, TcpStream)> {
    let mut reader = BufReader::new(connection);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let line = line.rsplit_once(" HTTP/")?.0.to_owned();
    let (mut authorization, mut length) = (None, 0);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => authorization = Some(value.to_owned()),
            "content-length" => length = value.parse().unwrap(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let asked = Asked {
        line,
        authorization,
        body: String::from_utf8(body).unwrap(),
    };
    Some((asked, reader.into_inner()))
}

fn write_answer(mut connection: TcpStream, status: u16, body: &Value) {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} So\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    // Who asked may have gone.
    let _ = connection.write_all((head + &body).as_bytes());
}

/// A message to bob in the channel `build`.
pub(crate) fn mention(id: u64, content: &str) -> Value {
    json!({"id": id.to_string(), "channel": "build", "seq": id, "sender": "alice",
        "content": content, "mention": "bob", "thread_id": null, "reply_count": 0,
        "created_at": "2026-01-01T12:00:00.000001Z"})
}

/// An inbox of these mentions.
pub(crate) fn inbox(mentions: &[Value]) -> Value {
    let newest = mentions
        .last()
        .map_or(json!("0"), |last| last["id"].clone());
    json!({"mentions": mentions, "messages": [], "has_more": false, "next_after_id": newest,
        "unread": {"mentions": mentions.len(), "channels": {"build": mentions.len()}}})
}

/// The number in a query.
pub(crate) fn query_number(line: &str, name: &str) -> u64 {
    let (_, query) = line.split_once('?').unwrap_or_default();
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let pair = pairs.find(|(key, _)| *key == name);
    pair.map_or(0, |(_, value)| value.parse().unwrap())
}
