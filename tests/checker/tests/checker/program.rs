//! The program: its exit status, and what it prints.

use std::fs;
use std::process::{Command, Output};

use handoff_checker::history::{Answer, Line};
use handoff_checker::{Options, Recorder, check};

use crate::story::{forget, post, sound};

fn run(lines: &[Line], more: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.jsonl");
    let text: Vec<String> = lines
        .iter()
        .map(|line| serde_json::to_string(line).unwrap() + "\n")
        .collect();
    fs::write(&path, text.concat()).unwrap();
    Command::new(env!("CARGO_BIN_EXE_handoff-checker"))
        .arg(&path)
        .args(more)
        .output()
        .unwrap()
}

#[test]
fn the_exit_status_is_the_verdict() {
    let mut history = sound();
    let output = run(&history.lines, &[]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.starts_with("sound: 100.0 s, seed 7, by hand"),
        "{text}"
    );

    forget(&mut history.lines, 16);
    let output = run(&history.lines, &["--json"]);
    assert_eq!(output.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["sound"], false);
    assert_eq!(json["anomalies"]["lost"]["count"], 1);
    assert_eq!(json["operations"]["post"]["ok"], 6);

    let missing = Command::new(env!("CARGO_BIN_EXE_handoff-checker"))
        .arg("/nowhere")
        .output()
        .unwrap();
    assert_eq!(missing.status.code(), Some(2));
}

#[test]
fn what_is_no_history_is_told_by_its_line() {
    let error = check(
        "{\"run\":{\"format\":1}}\nnonsense\n".as_bytes(),
        &Options::default(),
    );
    assert!(error.unwrap_err().to_string().contains("line 2"));
}

#[test]
fn a_recorded_history_is_read_as_it_was_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.jsonl");
    let recorder = Recorder::to_file(&path, 3, "a test").unwrap();
    let ops = recorder.channel("ops");
    assert_eq!(recorder.channel("ops"), ops);
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let recorder = recorder.clone();
            std::thread::spawn(move || {
                let mut log = recorder.process();
                for n in 0..1_000 {
                    log.invoke(post(ops, 1_000 * writer + n));
                    log.info(503);
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
    let mut log = recorder.process();
    log.invoke(post(ops, 9_999));
    log.ok(Answer::Posted { id: 1, seq: 1 });
    recorder.stands(handoff_checker::history::Final::Messages {
        c: ops,
        items: vec![(1, ops, 1, 9_999).into()],
        done: true,
    });
    // run, channel, 2 a post, the final read, close
    assert_eq!(recorder.close().unwrap(), 2 + 2 * 4_001 + 2);
    assert!(recorder.close().is_err() && !recorder.has_failed());
    let text = fs::read(&path).unwrap();
    let verdict = check(&text[..], &Options::default()).unwrap();
    assert!(verdict.is_sound(), "{verdict}");
    assert_eq!(verdict.operations["post"].unknown, 4_000);
}
