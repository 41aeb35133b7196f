//! Packets that vanish, by rules of the kernel's packet filter, in a network of this process's own.
//! What is lost here is lost to TCP: it is sent again, ever later, as on a real link.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use harness::run;

use super::{blocking, program};

/// The packet filter.
#[derive(Clone, Copy, Debug)]
pub struct Packets;

/// Where the port stands in a rule.
const PORT: usize = 7;

/// Rules that are in force. They end with [`Rules::end`].
#[derive(Debug)]
pub struct Rules {
    rules: Vec<Vec<String>>,
}

impl Packets {
    /// Drops this share of the packets (1: all) from and to these addresses.
    pub async fn drop(self, addresses: &[SocketAddr], share: f64) -> Result<Rules> {
        let mut rules = Vec::new();
        for address in addresses {
            for (end, port) in [("-d", "--dport"), ("-s", "--sport")] {
                let mut rule: Vec<String> = ["-i", "lo", "-p", "tcp", end].map(String::from).into();
                rule.extend([
                    address.ip().to_string(),
                    port.to_owned(),
                    address.port().to_string(),
                ]);
                if share < 1.0 {
                    let chance = ["-m", "statistic", "--mode", "random", "--probability"];
                    rule.extend(chance.map(String::from));
                    rule.push(format!("{share:.4}"));
                }
                rule.extend(["-j", "DROP"].map(String::from));
                rules.push(rule);
            }
        }
        for rule in &rules {
            iptables([&["-A".to_owned(), "INPUT".to_owned()], &rule[..]].concat()).await?;
        }
        Ok(Rules { rules })
    }
}

impl Rules {
    /// How many packets they have dropped.
    pub async fn dropped(&self) -> Result<u64> {
        let listing = ["-n", "-v", "-x", "-L", "INPUT"].map(String::from);
        let listed = iptables(listing.into()).await?;
        let ports: Vec<&String> = self.rules.iter().map(|rule| &rule[PORT]).collect();
        let ours = listed.lines().filter(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let port = fields.iter().find_map(|field| {
                field
                    .strip_prefix("dpt:")
                    .or_else(|| field.strip_prefix("spt:"))
            });
            port.is_some_and(|port| ports.iter().any(|ours| *ours == port))
        });
        let counts = ours.filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Ok(counts.sum())
    }

    /// Lets everything through again.
    pub async fn end(self) -> Result<()> {
        for rule in self.rules {
            iptables([&["-D".to_owned(), "INPUT".to_owned()], &rule[..]].concat()).await?;
        }
        Ok(())
    }
}

async fn iptables(arguments: Vec<String>) -> Result<String> {
    let iptables = program("iptables").context("root needs `iptables`")?;
    let mut command = Command::new(iptables);
    command.arg("-w").args(&arguments);
    let finished = blocking(move || run(command))
        .await?
        .context("run iptables")?;
    ensure!(
        finished.status.success(),
        "iptables {arguments:?}: {}",
        finished.stderr
    );
    Ok(finished.stdout)
}
