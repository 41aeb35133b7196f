//! What a load does comes in, as it happens; the lines of its history go out, to a file or to
//! memory. The clock of a history is the recorder's. It judges nothing.
//!
//! A file is written by a thread of its own, through a queue of bounded length: who finds it full
//! waits, so a slow disk slows the load down and loses nothing. The thread ends when
//! [`Recorder::close`] is called, which waits for it, or at its first error, which `close` hands on.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::history::{
    Answer, Call, Close, Completion, Due, End, EndedBy, Events, FORMAT, Failure, Final, History,
    Id, Invoke, Line, Message, Named, Nemesis, Number, Process, Run, Time,
};

/// Lines that wait for the file at most.
const QUEUE: usize = 1 << 16;

/// Writes a history down. Clones write the same one.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
}

struct Shared {
    start: Instant,
    sink: Sink,
    processes: AtomicU32,
    channels: Mutex<HashMap<String, Number>>,
}

enum Sink {
    Memory(Mutex<Vec<Line>>),
    File {
        queue: SyncSender<Line>,
        /// The thread that holds the queue's other end; taken by who closes.
        thread: Mutex<Option<JoinHandle<io::Result<u64>>>>,
        failed: Arc<AtomicBool>,
    },
}

impl Recorder {
    /// A history in a file, which is made anew.
    ///
    /// # Errors
    /// The file can't be made.
    pub fn to_file(path: &Path, seed: u64, what: &str) -> io::Result<Recorder> {
        let file = File::create(path)?;
        let (queue, lines) = sync_channel(QUEUE);
        let failed = Arc::<AtomicBool>::default();
        let told = failed.clone();
        let thread = std::thread::Builder::new()
            .name("history".to_owned())
            .spawn(move || {
                let written = write(file, &lines);
                told.store(written.is_err(), Ordering::Relaxed);
                written
            })?;
        Ok(Recorder::new(
            seed,
            what,
            Sink::File {
                queue,
                thread: Mutex::new(Some(thread)),
                failed,
            },
        ))
    }

    /// A history in memory.
    pub fn in_memory(seed: u64, what: &str) -> Recorder {
        Recorder::new(seed, what, Sink::Memory(Mutex::default()))
    }

    fn new(seed: u64, what: &str, sink: Sink) -> Recorder {
        let shared = Shared {
            start: Instant::now(),
            sink,
            processes: AtomicU32::new(0),
            channels: Mutex::default(),
        };
        let recorder = Recorder {
            shared: Arc::new(shared),
        };
        recorder.line(Line::Run(Run {
            format: FORMAT,
            seed,
            what: what.to_owned(),
        }));
        recorder
    }

    /// The time since the run's start.
    pub fn now(&self) -> Time {
        u64::try_from(self.shared.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// A new process.
    pub fn process(&self) -> Log {
        Log {
            process: self.shared.processes.fetch_add(1, Ordering::Relaxed),
            recorder: self.clone(),
        }
    }

    /// A channel's number; a new one's name is written down.
    pub fn channel(&self, name: &str) -> Number {
        let mut channels = self
            .shared
            .channels
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = channels.get(name) {
            return *number;
        }
        let n = channels.len() as Number;
        channels.insert(name.to_owned(), n);
        drop(channels);
        self.line(Line::Channel(Named {
            n,
            name: name.to_owned(),
        }));
        n
    }

    /// A fault begins or ends; its time is the line's own.
    pub fn nemesis(&self, nemesis: Nemesis) {
        self.line(Line::Nemesis(nemesis));
    }

    /// A part of what stands in the end.
    pub fn stands(&self, part: Final) {
        self.line(Line::Final(part));
    }

    /// Any line.
    pub fn line(&self, line: Line) {
        match &self.shared.sink {
            Sink::Memory(lines) => lines
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(line),
            // The writer has ended: at an error, which `close` tells, or after `close`.
            Sink::File { queue, .. } => drop(queue.send(line)),
        }
    }

    /// Whether the file could not be written to.
    pub fn has_failed(&self) -> bool {
        match &self.shared.sink {
            Sink::Memory(_) => false,
            Sink::File { failed, .. } => failed.load(Ordering::Relaxed),
        }
    }

    /// Ends the history and waits until its file is whole; the number of its lines. What is
    /// recorded later is not part of it.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn close(&self) -> io::Result<u64> {
        let t = self.now();
        match &self.shared.sink {
            Sink::Memory(lines) => {
                let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                let before = lines.len() as u64;
                lines.push(Line::Close(Close { t, lines: before }));
                Ok(before + 1)
            }
            Sink::File { queue, thread, .. } => {
                // The thread counts the lines.
                drop(queue.send(Line::Close(Close { t, lines: 0 })));
                let thread = thread.lock().unwrap_or_else(PoisonError::into_inner).take();
                let thread = thread.ok_or_else(|| io::Error::other("it was closed before"))?;
                thread
                    .join()
                    .map_err(|_| io::Error::other("the writer of the history panicked"))?
            }
        }
    }

    /// What was recorded in memory, closed or not; of a file nothing.
    pub fn take(&self) -> History {
        let lines = match &self.shared.sink {
            Sink::Memory(lines) => {
                std::mem::take(&mut *lines.lock().unwrap_or_else(PoisonError::into_inner))
            }
            Sink::File { .. } => Vec::new(),
        };
        History { lines }
    }
}

fn write(file: File, queue: &Receiver<Line>) -> io::Result<u64> {
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let mut lines = 0;
    for mut line in queue {
        let closes = if let Line::Close(close) = &mut line {
            close.lines = lines;
            true
        } else {
            false
        };
        serde_json::to_writer(&mut out, &line)?;
        out.write_all(b"\n")?;
        lines += 1;
        if closes {
            break;
        }
    }
    out.into_inner()?.sync_all()?;
    Ok(lines)
}

/// One process's part of a history: one operation at a time.
pub struct Log {
    process: Process,
    recorder: Recorder,
}

impl Log {
    /// The process's number.
    pub fn number(&self) -> Process {
        self.process
    }

    /// The whole history's recorder.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// To be called before the request is sent.
    pub fn invoke(&mut self, op: Call) -> Time {
        let t = self.recorder.now();
        self.recorder.line(Line::Invoke(Invoke {
            t,
            p: self.process,
            op,
        }));
        t
    }

    /// The whole answer has come.
    pub fn ok(&mut self, op: Answer) -> Time {
        let t = self.recorder.now();
        self.recorder.line(Line::Ok(Completion {
            t,
            p: self.process,
            op,
        }));
        t
    }

    /// It was refused with that status code, and so changed nothing.
    pub fn fail(&mut self, status: u16) {
        let failure = self.failure(status);
        self.recorder.line(Line::Fail(failure));
    }

    /// It was answered with that 5xx, or (0) not at all.
    pub fn info(&mut self, status: u16) {
        let failure = self.failure(status);
        self.recorder.line(Line::Info(failure));
    }

    fn failure(&self, status: u16) -> Failure {
        Failure {
            t: self.recorder.now(),
            p: self.process,
            status,
        }
    }

    /// These came together on the open stream, and after them perhaps an ID alone.
    pub fn events(&mut self, items: Vec<Message>, cursor: Option<Id>) -> Time {
        let t = self.recorder.now();
        self.recorder.line(Line::Events(Events {
            t,
            p: self.process,
            items,
            cursor,
        }));
        t
    }

    /// As a reader it waited long enough for everything up to this ID.
    pub fn due(&mut self, id: Id) {
        let t = self.recorder.now();
        self.recorder.line(Line::Due(Due {
            t,
            p: self.process,
            id,
        }));
    }

    /// The open stream is over.
    pub fn end(&mut self, by: EndedBy) {
        let t = self.recorder.now();
        self.recorder.line(Line::End(End {
            t,
            p: self.process,
            by,
        }));
    }
}
