//! The client's address: the last hop that isn't one of our own proxies.

use http::HeaderMap;
use ipnet::IpNet;
use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

/// The networks whose `X-Forwarded-For` is believed.
#[derive(Clone, Debug)]
pub struct TrustedProxies(Vec<IpNet>);

/// Loopback and private ranges (RFC 1918, RFC 4193, RFC 3927, RFC 4291).
pub const DEFAULT_TRUSTED_PROXIES: &str = "127.0.0.0/8,::1/128,10.0.0.0/8,172.16.0.0/12,\
     192.168.0.0/16,169.254.0.0/16,fc00::/7,fe80::/10";

impl FromStr for TrustedProxies {
    type Err = String;

    /// Networks or single addresses, separated by commas; `none` for no proxy at all.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "none" {
            return Ok(Self(Vec::new()));
        }
        let parse = |part: &str| {
            let part = part.trim();
            let network = part
                .parse::<IpNet>()
                .or_else(|_| part.parse::<IpAddr>().map(IpNet::from));
            network.map_err(|_| format!("{part:?} is no network like 10.0.0.0/8 or address"))
        };
        text.split(',')
            .map(parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl TrustedProxies {
    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Whose request this is: going back from the peer, the last hop that is no trusted proxy;
    /// where all are trusted, the first.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.trusts(client) {
            return client;
        }
        let hops = headers
            .get_all("x-forwarded-for")
            .iter()
            .filter_map(|value| value.to_str().ok());
        let hops: Vec<&str> = hops.flat_map(|value| value.split(',')).collect();
        for hop in hops.into_iter().rev() {
            // What stands before a hop that can't be read was written by nobody we know.
            let Some(address) = parse_hop(hop.trim()) else {
                break;
            };
            client = address;
            if !self.trusts(client) {
                break;
            }
        }
        client
    }
}

/// An address, with or without a port.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    let bare = hop.trim_start_matches('[').trim_end_matches(']');
    let address = bare
        .parse::<IpAddr>()
        .or_else(|_| hop.parse::<SocketAddr>().map(|a| a.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, forwarded: &[&str]) -> String {
        let proxies: TrustedProxies = DEFAULT_TRUSTED_PROXIES.parse().unwrap();
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().unwrap());
        }
        proxies.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn the_last_untrusted_hop_is_the_client() {
        assert_eq!(client("127.0.0.1", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(
            client("127.0.0.1", &["6.6.6.6, 203.0.113.9, 10.0.0.7"]),
            "203.0.113.9"
        );
        assert_eq!(
            client("127.0.0.1", &["6.6.6.6", "203.0.113.9:4711"]),
            "203.0.113.9"
        );
        assert_eq!(client("127.0.0.1", &["[2001:db8::1]:80"]), "2001:db8::1");
    }

    #[test]
    fn a_stranger_cannot_claim_to_be_another() {
        assert_eq!(client("203.0.113.9", &["6.6.6.6"]), "203.0.113.9");
        assert_eq!(client("127.0.0.1", &["6.6.6.6, rubbish"]), "127.0.0.1");
        assert_eq!(
            client("127.0.0.1", &["rubbish, 203.0.113.9"]),
            "203.0.113.9"
        );
    }

    #[test]
    fn where_all_are_trusted_the_first_counts() {
        assert_eq!(
            client("127.0.0.1", &["192.168.1.5, 10.0.0.7"]),
            "192.168.1.5"
        );
        assert_eq!(client("::ffff:10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn mistakes_are_named() {
        assert!(
            "10.0.0.0/8, nonsense"
                .parse::<TrustedProxies>()
                .unwrap_err()
                .contains("nonsense")
        );
        assert!("none".parse::<TrustedProxies>().unwrap().0.is_empty());
        assert!("192.0.2.1".parse::<TrustedProxies>().is_ok());
    }
}
