//! Waiting for a condition with a deadline, instead of sleeping for luck.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// How long anything may take before a test calls it broken: far more than a busy machine needs.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Asks again and again until there is an answer, and panics when none came before the deadline.
pub async fn eventually<T, F, Fut>(what: &str, mut ask: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = within(what, ask()).await {
            return answer;
        }
        assert!(Instant::now() < end, "waited {DEADLINE:?} in vain: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// The future's outcome, or a panic that names what did not come before the deadline.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(DEADLINE, future).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("waited {DEADLINE:?} in vain: {what}"),
    }
}
