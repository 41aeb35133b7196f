//! A name server for proxies that find their replicas by name: one name, any number of addresses.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// A name server that knows one name and its addresses, as a container network's does.
pub struct Names {
    address: SocketAddr,
    addresses: Arc<Mutex<Vec<Ipv4Addr>>>,
    task: JoinHandle<()>,
}

impl Names {
    /// A name server at this address; port 0 is any free one.
    pub async fn serve(host: Ipv4Addr, port: u16) -> Names {
        let socket = UdpSocket::bind((host, port)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let addresses = Arc::<Mutex<Vec<Ipv4Addr>>>::default();
        let known = addresses.clone();
        let task = tokio::spawn(async move {
            let mut query = [0; 512];
            while let Ok((length, asker)) = socket.recv_from(&mut query).await {
                let answer = answer(&query[..length], &known.lock().unwrap());
                if let Some(answer) = answer {
                    socket.send_to(&answer, asker).await.ok();
                }
            }
        });
        Names {
            address,
            addresses,
            task,
        }
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it answers with these.
    pub fn are(&self, addresses: impl IntoIterator<Item = Ipv4Addr>) {
        *self.addresses.lock().unwrap() = addresses.into_iter().collect();
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A DNS answer (RFC 1035) with all addresses, to whatever name was asked for.
fn answer(query: &[u8], addresses: &[Ipv4Addr]) -> Option<Vec<u8>> {
    const A: [u8; 4] = [0, 1, 0, 1]; // type A, class IN
    let name_end = 12 + query.get(12..)?.iter().position(|byte| *byte == 0)? + 1;
    let question = query.get(12..name_end + 4)?;
    let addresses = match question.ends_with(&A) {
        true => addresses,
        false => &[],
    };
    let mut answer = query[..2].to_vec();
    answer.extend([0x85, 0x80]); // an authoritative answer
    answer.extend([0, 1, 0, u8::try_from(addresses.len()).ok()?, 0, 0, 0, 0]);
    answer.extend(question);
    for ip in addresses {
        answer.extend([0xc0, 12]); // the name of the question
        answer.extend(A);
        answer.extend([0, 0, 0, 1, 0, 4]); // good for one second, four bytes
        answer.extend(ip.octets());
    }
    Some(answer)
}
