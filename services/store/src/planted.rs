//! Bugs planted on purpose, to prove that the checks of the tests find them: see
//! `tests/faults/PLANTED.md`. Only builds with the feature `planted-bugs` and this crate's own unit
//! tests have them; elsewhere `planted!(…)` is `false`, and neither a name nor a bug is compiled in.
//!
//! One bug at most is on: in a program from its start to its end, in a unit test for as long as the
//! test's thread holds it.

/// Whether a bug is on, or one of several: `if planted!(SkipSweep | SwallowBell) { … }`.
#[cfg(any(test, feature = "planted-bugs"))]
macro_rules! planted {
    ($($bug:ident)|+) => {
        $($crate::planted::is($crate::planted::Bug::$bug))||+
    };
}

/// Without the feature no bug is on.
#[cfg(not(any(test, feature = "planted-bugs")))]
macro_rules! planted {
    ($($bug:ident)|+) => {
        false
    };
}

/// A statement, with a bug in it where that is on.
#[cfg(any(test, feature = "planted-bugs"))]
macro_rules! planted_sql {
    ($bug:ident, $statement:expr, $right:literal => $wrong:literal) => {
        &$crate::planted::statement($statement, planted!($bug), $right, $wrong)
    };
}

/// Without the feature it is the statement.
#[cfg(not(any(test, feature = "planted-bugs")))]
macro_rules! planted_sql {
    ($bug:ident, $statement:expr, $right:literal => $wrong:literal) => {
        $statement
    };
}

#[cfg(any(test, feature = "planted-bugs"))]
pub(crate) fn statement(right: &str, with_bug: bool, of: &str, by: &str) -> String {
    assert!(right.contains(of), "the place of a planted bug has changed");
    match with_bug {
        true => right.replacen(of, by, 1),
        false => right.to_owned(),
    }
}

/// Makes the bugs of a crate: the enum `Bug`, and what turns one of them on.
#[macro_export]
#[doc(hidden)]
macro_rules! planted_bugs {
    ($($bug:ident = $name:literal,)+) => {
        /// The bugs of this crate.
        #[allow(missing_docs, reason = "the table of bugs describes them")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug {
            $($bug,)+
        }

        static PLANTED: std::sync::OnceLock<Bug> = std::sync::OnceLock::new();

        /// Turns a bug on until the program ends; whether there is one of that name.
        pub fn plant(name: &str) -> bool {
            let bug = match name {
                $($name => Bug::$bug,)+
                _ => return false,
            };
            *PLANTED.get_or_init(|| bug) == bug
        }

        #[cfg(test)]
        thread_local! {
            static HELD: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
        }

        /// Turns a bug on while `run` runs on this thread.
        #[cfg(test)]
        pub(crate) fn with<T>(bug: Bug, run: impl FnOnce() -> T) -> T {
            struct Held;
            impl Drop for Held {
                fn drop(&mut self) {
                    HELD.set(None);
                }
            }
            HELD.set(Some(bug));
            let _held = Held;
            run()
        }

        pub(crate) fn is(bug: Bug) -> bool {
            #[cfg(test)]
            if HELD.get() == Some(bug) {
                return true;
            }
            PLANTED.get() == Some(&bug)
        }
    };
}

#[cfg(any(test, feature = "planted-bugs"))]
planted_bugs! {
    DrawBeforeLock = "draw-before-lock",
    SequenceCache = "sequence-cache",
    AnswerBeforeCommit = "answer-before-commit",
    DeliverUncommitted = "deliver-uncommitted",
    ForgetIdempotency = "forget-idempotency",
    TornStatus = "torn-status",
    AckBackwards = "ack-backwards",
    LoseOnCrash = "lose-on-crash",
    NoEpoch = "no-epoch",
    ForgetExclusive = "forget-exclusive",
    ForgetPutBack = "forget-put-back",
    ReorderHalves = "reorder-halves",
    SkipSettling = "skip-settling",
}
