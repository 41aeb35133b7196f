//! A reader that does not read is delayed, never cut off from data, and costs the others nothing.

use futures_util::future::join_all;
use harness::load::{Kind, Load, Writing};
use harness::{Agent, DEADLINE, Replica, TestRelay};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

const MESSAGES: usize = 1_600;

/// More than the sockets between the two can hold.
const BYTES: usize = 10_000;

/// Asks for everything on a connection that holds little, and reads nothing of the answer.
/// HTTP/1.0 has no chunks: after the headers comes the bare stream.
async fn ask_and_not_read(replica: &Replica, agent: &Agent) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut connection = socket.connect(replica.address()).await.unwrap();
    let request = format!(
        "GET /api/channels/ops/stream HTTP/1.0\r\nAuthorization: Bearer {}\r\nLast-Event-ID: 0\r\n\r\n",
        agent.key()
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    connection
}

/// Reads until all messages are there; their contents.
async fn read_at_last(mut connection: TcpStream) -> Vec<String> {
    let mut unread = Vec::new();
    let mut contents = Vec::new();
    while contents.len() < MESSAGES {
        let read = timeout(DEADLINE, connection.read_buf(&mut unread)).await;
        let read = read.expect("the stream goes on").unwrap();
        assert_ne!(read, 0, "cut off after {} messages", contents.len());
        let Some(end) = unread.iter().rposition(|byte| *byte == b'\n') else {
            continue;
        };
        let lines = String::from_utf8(unread.drain(..=end).collect()).unwrap();
        let data = lines.lines().filter_map(|line| line.strip_prefix("data: "));
        contents.extend(data.map(|data| {
            let message: Value = serde_json::from_str(data).unwrap();
            message["content"].as_str().unwrap().to_owned()
        }));
    }
    contents
}

#[tokio::test]
async fn g3_a_slow_reader_delays_nobody_and_gets_everything_later() {
    let relay = TestRelay::builder().replicas(2).start().await;
    let admin = relay.admin();
    let mut slow = Vec::new();
    for n in 0..8 {
        slow.push(ask_and_not_read(&relay.replica(n % 2), &admin).await);
    }
    let mut load = Load::new(&admin, [0, 1]);
    for seat in [0, 1] {
        load.follow("ops", Some("0"), seat);
    }
    load.walk("ops", Kind::Message, 100);
    let each = Some(MESSAGES / 16);
    load.write(Writing {
        each,
        bytes: BYTES,
        ..Writing::to(&["ops"])
    });
    load.written().await;
    // The others have everything while the slow ones have read nothing.
    let history = load.finish().await;
    history.assert_sound();
    assert_eq!((history.standing().len(), history.unknown()), (MESSAGES, 0));

    // Each content is its value, filled up with zeros.
    let expected: Vec<String> = history
        .standing()
        .into_iter()
        .map(|value| format!("{:0>BYTES$}", value.unwrap()))
        .collect();
    for contents in join_all(slow.into_iter().map(read_at_last)).await {
        assert!(contents == expected, "skipped, repeated or reordered");
    }
}
