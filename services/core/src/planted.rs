//! Bugs planted on purpose in this crate: see [`handoff_store::planted`] and
//! `tests/faults/PLANTED.md`.

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

#[cfg(any(test, feature = "planted-bugs"))]
handoff_store::planted_bugs! {
    DropFrameAtHandover = "drop-frame-at-handover",
    UnsettledStart = "unsettled-start",
    MergeWithoutWatermark = "merge-without-watermark",
    SkipSweep = "skip-sweep",
    ForgetRevocation = "forget-revocation",
    DisorderBatch = "disorder-batch",
    SwallowBell = "swallow-bell",
    SkipOnResume = "skip-on-resume",
    FreeShares = "free-shares",
    VoidGrants = "void-grants",
}
