//! How the proxy carries its connections, and where the faults take hold.

use std::future;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::frames::{Transaction, listens, read_frame, read_startup};
use super::{CommitFault, Connection, Control, Cut, Upstream, Wire};

/// The largest piece that is read of a connection whose frames are not understood.
const PIECE: usize = 16 * 1024;

/// After what time a lost packet is sent again, at first.
const RETRANSMISSION: Duration = Duration::from_millis(200);

/// Takes connections until it is aborted.
pub(super) async fn accept(listener: TcpListener, control: Arc<Control>) {
    while let Ok((client, _)) = listener.accept().await {
        if control.mode.borrow().refuse {
            continue;
        }
        let number = control.next_connection.fetch_add(1, Ordering::SeqCst);
        let connection = Arc::new(Connection {
            port: AtomicUsize::new(0),
            listens: AtomicBool::new(false),
            cut: watch::Sender::new(None),
        });
        let mut connections = control.connections.lock().unwrap();
        connections.insert(number, connection.clone());
        drop(connections);
        let control = control.clone();
        tokio::spawn(async move {
            // How it ended, both sides have seen.
            serve(&control, &connection, client).await.ok();
            control.connections.lock().unwrap().remove(&number);
        });
    }
}

/// Carries one connection until either side closes it or a fault cuts it.
async fn serve(
    control: &Control,
    connection: &Connection,
    mut client: TcpStream,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut cut = connection.cut.subscribe();
    let upstream = control.upstream.lock().unwrap().clone();
    match upstream {
        Upstream::Tcp(host, port) => {
            let connecting = TcpStream::connect((host.as_str(), port));
            let mut server = tokio::select! {
                server = connecting => server?,
                _ = cut.wait_for(Option::is_some) => return Ok(()),
            };
            server.set_nodelay(true)?;
            let local = server.local_addr()?.port();
            connection.port.store(usize::from(local), Ordering::SeqCst);
            let (from_client, to_client) = client.split();
            let (from_server, to_server) = server.split();
            let ends = Ends {
                from_client,
                to_client,
                from_server,
                to_server,
            };
            tokio::select! {
                _ = cut.wait_for(Option::is_some) => {}
                _ = ends.carry(control, connection) => {}
            }
            if *cut.borrow() == Some(Cut::Reset) {
                // With nothing to linger for, closing sends a reset.
                client.set_zero_linger()?;
                server.set_zero_linger()?;
            }
        }
        Upstream::Unix(path) => {
            let mut server = UnixStream::connect(path).await?;
            let (from_client, to_client) = client.split();
            let (from_server, to_server) = server.split();
            let ends = Ends {
                from_client,
                to_client,
                from_server,
                to_server,
            };
            tokio::select! {
                _ = cut.wait_for(Option::is_some) => {}
                _ = ends.carry(control, connection) => {}
            }
        }
    }
    Ok(())
}

/// Both directions of a connection's two sides.
struct Ends<A, B, C, D> {
    from_client: A,
    to_client: B,
    from_server: C,
    to_server: D,
}

impl<A, B, C, D> Ends<A, B, C, D>
where
    A: AsyncRead + Unpin,
    B: AsyncWrite + Unpin,
    C: AsyncRead + Unpin,
    D: AsyncWrite + Unpin,
{
    async fn carry(self, control: &Control, connection: &Connection) -> io::Result<()> {
        match control.wire {
            Wire::Postgres => self.carry_postgres(control, connection).await,
            Wire::Bytes => self.carry_bytes(control).await,
        }
    }

    async fn carry_bytes(mut self, control: &Control) -> io::Result<()> {
        let (to_server_queue, server_queue) = mpsc::channel(256);
        let (to_client_queue, client_queue) = mpsc::channel(256);
        tokio::select! {
            outcome = pass_bytes(control, &mut self.from_client, to_server_queue) => outcome,
            outcome = pass_bytes(control, &mut self.from_server, to_client_queue) => outcome,
            outcome = write_out(control, server_queue, &mut self.to_server) => outcome,
            outcome = write_out(control, client_queue, &mut self.to_client) => outcome,
        }
    }

    async fn carry_postgres(self, control: &Control, connection: &Connection) -> io::Result<()> {
        let Ends {
            mut from_client,
            mut to_client,
            mut from_server,
            mut to_server,
        } = self;
        let mut buffer = BytesMut::new();
        loop {
            let startup = read_startup(&mut from_client, &mut buffer).await?;
            match startup.get(4..8) {
                // SSLRequest and GSSENCRequest: the proxy could not read on.
                Some([0x04, 0xd2, 0x16, 0x2f | 0x30]) => to_client.write_all(b"N").await?,
                _ => {
                    to_server.write_all(&startup).await?;
                    break;
                }
            }
        }

        // Set while a commit whose answer is to be lost is under way.
        let doomed = &Mutex::new(false);
        let (to_server_queue, server_queue) = mpsc::channel(1024);
        let (to_client_queue, client_queue) = mpsc::channel(1024);

        // Who reads ends the connection on a fault only: at an end of input it drops its queue, so
        // that what was read before still goes out.
        let upward = async move {
            let mut transaction = Transaction::default();
            loop {
                let Ok(frame) = read_frame(&mut from_client, &mut buffer).await else {
                    drop(to_server_queue);
                    return future::pending().await;
                };
                if listens(&frame) {
                    connection.listens.store(true, Ordering::SeqCst);
                }
                if transaction.sees_commit(&frame) {
                    let mut armed = control.armed.lock().unwrap();
                    if armed
                        .as_ref()
                        .is_some_and(|armed| transaction.has_run(&armed.after))
                    {
                        match armed.as_ref().map(|armed| armed.fault) {
                            Some(CommitFault::LoseRequest) => {
                                *armed = None;
                                drop(armed);
                                control.lost_commits.send_modify(|lost| *lost += 1);
                                return Ok(());
                            }
                            _ => *doomed.lock().unwrap() = true,
                        }
                    }
                    transaction.forget();
                }
                pass_on(control, &to_server_queue, frame).await?;
            }
        };
        let downward = async move {
            let mut buffer = BytesMut::new();
            loop {
                let Ok(frame) = read_frame(&mut from_server, &mut buffer).await else {
                    drop(to_client_queue);
                    return future::pending().await;
                };
                if frame[0] == b'A' && control.mode.borrow().swallow_notifications {
                    control.swallowed.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
                if *doomed.lock().unwrap() && frame[0] == b'C' && frame[5..].starts_with(b"COMMIT")
                {
                    *control.armed.lock().unwrap() = None;
                    control.lost_commits.send_modify(|lost| *lost += 1);
                    return Ok(());
                }
                pass_on(control, &to_client_queue, frame).await?;
            }
        };
        tokio::select! {
            outcome = upward => outcome,
            outcome = downward => outcome,
            outcome = write_out(control, server_queue, &mut to_server) => outcome,
            outcome = write_out(control, client_queue, &mut to_client) => outcome,
        }
    }
}

type Queue = mpsc::Sender<(Instant, Bytes)>;

/// Reads whatever comes until the end of input, which leaves what was read before to be written.
async fn pass_bytes(
    control: &Control,
    from: &mut (impl AsyncRead + Unpin),
    queue: Queue,
) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(PIECE);
        if !from.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
            drop(queue);
            return future::pending().await;
        }
        pass_on(control, &queue, buffer.split().freeze()).await?;
    }
}

async fn pass_on(control: &Control, queue: &Queue, piece: Bytes) -> io::Result<()> {
    let (mut delay, loss) = {
        let mode = control.mode.borrow();
        (mode.delay, mode.loss)
    };
    let mut retransmission = RETRANSMISSION;
    while loss > 0.0 && rand::random::<f64>() < loss {
        control.lost_packets.fetch_add(1, Ordering::SeqCst);
        delay += retransmission;
        retransmission *= 2;
    }
    queue
        .send((Instant::now() + delay, piece))
        .await
        .map_err(|_| io::ErrorKind::BrokenPipe.into())
}

async fn write_out(
    control: &Control,
    mut queue: mpsc::Receiver<(Instant, Bytes)>,
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut mode = control.mode.subscribe();
    let mut together = BytesMut::new();
    let mut next = None;
    loop {
        let Some((due, piece)) = (match next.take() {
            Some(piece) => Some(piece),
            None => queue.recv().await,
        }) else {
            return Ok(());
        };
        sleep_until(due).await;
        mode.wait_for(|mode| !mode.stall)
            .await
            .map_err(|_| io::ErrorKind::BrokenPipe)?;
        // What else is due goes along: a call to the kernel for every frame would cost more than
        // all the rest.
        let now = Instant::now();
        while together.len() < 4 * PIECE
            && let Ok(following) = queue.try_recv()
        {
            if following.0 > now {
                next = Some(following);
                break;
            }
            if together.is_empty() {
                together.extend_from_slice(&piece);
            }
            together.extend_from_slice(&following.1);
        }
        if together.is_empty() {
            to.write_all(&piece).await?;
        } else {
            to.write_all(&together).await?;
            together.clear();
        }
    }
}
