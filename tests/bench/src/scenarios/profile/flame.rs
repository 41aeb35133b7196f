//! Samples come in, stacks with their counts go out: as a flame graph, and as a table of what they
//! were doing.

use std::collections::HashMap;

use anyhow::{Context, Result};
use inferno::collapse::Collapse;
use inferno::collapse::perf::{Folder, Options};
use inferno::flamegraph;
use inferno::flamegraph::Palette;
use inferno::flamegraph::color::MultiPalette;

/// Frames below this share of the whole, in percent, are left out of the graph: they can't be read,
/// and make it several times as large.
const MIN_WIDTH: f64 = 0.2;
/// Where a stack was longer than what was kept of it.
const CUT: &str = ";[unknown];";
/// How the kernel's functions are marked.
const KERNEL: &str = "_[k]";

/// Stacks, the outermost frame first, and how many samples each has.
pub(super) struct Stacks(Vec<(String, u64)>);

/// Who is at the bottom of the stacks.
pub(super) enum Bottom<'names> {
    /// The thread's name.
    Thread,
    /// What the process is for.
    Process(&'names HashMap<u32, String>),
}

impl Stacks {
    /// Folds what `perf script` printed.
    pub(super) fn fold(samples: &[u8], bottom: &Bottom<'_>) -> Result<Self> {
        let mut options = Options::default();
        options.annotate_kernel = true;
        options.include_pid = matches!(bottom, Bottom::Process(_));
        let mut folded = Vec::new();
        Folder::from(options)
            .collapse(samples, &mut folded)
            .context("the samples can't be read")?;
        let folded = String::from_utf8_lossy(&folded);
        let stacks = folded.lines().filter_map(|line| {
            let (stack, count) = line.rsplit_once(' ')?;
            let stack = match bottom {
                Bottom::Thread => stack.to_owned(),
                Bottom::Process(names) => renamed(stack, names),
            };
            let stack = stack.replacen(CUT, ";", 1);
            Some((stack, count.parse().ok()?))
        });
        Ok(Self(stacks.collect()))
    }

    pub(super) fn samples(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// The graph, as SVG.
    pub(super) fn draw(&self, title: String) -> Result<Vec<u8>> {
        let mut options = flamegraph::Options::default();
        options.title = title;
        options.count_name = "samples".to_owned();
        options.min_width = MIN_WIDTH;
        options.colors = Palette::Multi(MultiPalette::Rust);
        // The same stacks give the same colours, so that a new graph differs where something changed.
        options.deterministic = true;
        let lines: Vec<_> = self
            .0
            .iter()
            .map(|(stack, count)| format!("{stack} {count}"))
            .collect();
        let mut graph = Vec::new();
        flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut graph)
            .context("the flame graph can't be drawn")?;
        Ok(graph)
    }

    /// What the processor was busy with, and its share of all samples, the largest first. In user
    /// mode that is the function itself, in the kernel the syscall: the kernel's own functions are
    /// where the timer's interrupt came through, rather than what took the time.
    pub(super) fn shares(&self) -> Vec<(String, f64)> {
        let all = self.samples() as f64;
        let mut sums = HashMap::<String, u64>::new();
        for (stack, count) in &self.0 {
            *sums.entry(busy_with(stack)).or_default() += count;
        }
        let mut shares: Vec<_> = sums
            .into_iter()
            .map(|(name, count)| (name, count as f64 / all))
            .collect();
        shares.sort_by(|(a, one), (b, other)| other.total_cmp(one).then_with(|| a.cmp(b)));
        shares
    }

    /// The kernel's share of all samples.
    pub(super) fn kernel_share(&self) -> f64 {
        let kernel = self.0.iter().filter(|(stack, _)| stack.ends_with(KERNEL));
        kernel.map(|(_, count)| count).sum::<u64>() as f64 / self.samples() as f64
    }
}

/// A stack of `postgres-4711` with what that process is for.
fn renamed(stack: &str, names: &HashMap<u32, String>) -> String {
    let (process, rest) = stack.split_once(';').unwrap_or((stack, ""));
    let id = process.rsplit('-').next().and_then(|id| id.parse().ok());
    let name = id.and_then(|id: u32| names.get(&id));
    format!("{};{rest}", name.map_or(process, String::as_str))
}

fn busy_with(stack: &str) -> String {
    let last = stack.rsplit(';').next().unwrap_or(stack);
    if !last.ends_with(KERNEL) {
        return last.to_owned();
    }
    let mut frames = stack.split(';');
    // The frame after it is the syscall's, by its own name or by that of what it calls last.
    let syscall = frames
        .find(|frame| frame.starts_with("do_syscall_64"))
        .and_then(|_| frames.next());
    let Some(syscall) = syscall else {
        return "kernel: interrupts and faults".to_owned();
    };
    let name = syscall.trim_end_matches(KERNEL);
    let name = ["__x64_sys_", "__do_sys_", "__se_sys_", "ksys_", "do_"]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))
        .unwrap_or(name);
    if name.starts_with("syscall") || name.starts_with("exit_to_user_mode") {
        return "kernel: way into and out of syscalls".to_owned();
    }
    format!("kernel: {name}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::collections::HashMap;

    use super::{Bottom, Stacks};

    const SAMPLES: &str = "\
postgres     446/446   16627.075871: cpu-clock: 
\tffffffff816b9563 __x64_sys_pwrite64 ([kernel.kallsyms])
\tffffffff821ecc51 do_syscall_64 ([kernel.kallsyms])
\t          1ead7f XLogFlush (/usr/lib/postgresql/15/bin/postgres)
\t          152b05 main (/usr/lib/postgresql/15/bin/postgres)

postgres     447/447   16627.094357: cpu-clock: 
\t          1616dd _bt_compare (/usr/lib/postgresql/15/bin/postgres)
\t          152b05 main (/usr/lib/postgresql/15/bin/postgres)

postgres     447/447   16627.095357: cpu-clock: 
\t          1616dd _bt_compare (/usr/lib/postgresql/15/bin/postgres)
\t          152b05 main (/usr/lib/postgresql/15/bin/postgres)

";

    #[test]
    fn samples_become_shares_and_a_graph() {
        let names = HashMap::from([(446, "lane".to_owned()), (447, "reader".to_owned())]);
        let stacks = Stacks::fold(SAMPLES.as_bytes(), &Bottom::Process(&names)).unwrap();
        assert_eq!(stacks.samples(), 3);
        let shares = stacks.shares();
        assert_eq!(shares[0].0, "_bt_compare");
        assert_eq!(shares[1].0, "kernel: pwrite64");
        assert!((stacks.kernel_share() - 1.0 / 3.0).abs() < 1e-9);
        let graph = String::from_utf8(stacks.draw("a title".to_owned()).unwrap()).unwrap();
        for part in ["<svg", "a title", "lane", "reader", "XLogFlush"] {
            assert!(graph.contains(part), "{part:?} is not in the graph");
        }
        let stacks = Stacks::fold(SAMPLES.as_bytes(), &Bottom::Thread).unwrap();
        assert!(
            stacks
                .0
                .iter()
                .all(|(stack, _)| stack.starts_with("postgres;"))
        );
    }
}
