//! Runs a simulation for one seed after the other. What a run draws comes from its seed alone, so a
//! seed that fails fails again; it is named, and run alone with
//! `HANDOFF_SIMULATION_SEED=SEED cargo test -p PACKAGE simulation`. Ordinary test runs do a modest
//! number of seeds; `HANDOFF_SIMULATION_SEEDS=100000 cargo test --release -p PACKAGE simulation`
//! does as many as one likes, and says how many steps that were.

use rand::{SeedableRng, rngs::StdRng};
use std::{
    env,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::Instant,
};

const ONE: &str = "HANDOFF_SIMULATION_SEED";
const MANY: &str = "HANDOFF_SIMULATION_SEEDS";

fn number(name: &str) -> Option<u64> {
    let value = env::var(name).ok()?;
    let number = value.parse();
    Some(number.unwrap_or_else(|_| panic!("{name} is no number: {value:?}")))
}

fn seeds(usually: u64) -> Range<u64> {
    match number(ONE) {
        Some(seed) => seed..seed + 1,
        None => 0..number(MANY).unwrap_or(usually),
    }
}

/// Runs the simulation for each seed; a run answers how many steps it took, and panics when it
/// finds something wrong.
pub fn simulate(name: &str, usually: u64, run: impl Fn(StdRng) -> u64) {
    let (began, mut steps, seeds) = (Instant::now(), 0, seeds(usually));
    let count = seeds.end - seeds.start;
    for seed in seeds {
        match catch_unwind(AssertUnwindSafe(|| run(StdRng::seed_from_u64(seed)))) {
            Ok(taken) => steps += taken,
            Err(panic) => {
                eprintln!("{name}: seed {seed} failed; {ONE}={seed} runs it again");
                resume_unwind(panic);
            }
        }
    }
    let took = began.elapsed();
    println!("{name}: {count} seeds, {steps} steps, {took:.1?}");
}

/// The first of so many seeds that fails: a simulation must find what is broken on purpose.
///
/// # Panics
/// When none does.
pub fn finds(name: &str, most: u64, run: impl Fn(StdRng) -> u64) {
    let failed =
        |seed: &u64| catch_unwind(AssertUnwindSafe(|| run(StdRng::seed_from_u64(*seed)))).is_err();
    let found = (0..most).find(failed);
    assert!(found.is_some(), "{name}: none of {most} seeds finds it");
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    #[test]
    fn a_seed_draws_the_same_again_and_what_is_broken_is_found() {
        let draw = |mut random: StdRng| random.random_range(0..1_000_u64);
        let draws: Vec<u64> = (0..50)
            .map(|seed| draw(StdRng::seed_from_u64(seed)))
            .collect();
        let again: Vec<u64> = (0..50)
            .map(|seed| draw(StdRng::seed_from_u64(seed)))
            .collect();
        assert_eq!(draws, again);
        finds("a draw above 500", 50, |random| {
            let drawn = draw(random);
            assert!(drawn <= 500);
            drawn
        });
    }

    #[test]
    #[should_panic(expected = "none of 5 seeds finds it")]
    fn what_is_not_found_fails() {
        finds("nothing", 5, |_| 1);
    }
}
