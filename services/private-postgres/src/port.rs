//! A free TCP port of the loopback interface, kept for us while Postgres is down.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
};

use socket2::{Domain, Socket, Type};

/// A port, and on Linux the socket that reserves it.
///
/// Linux lets two sockets with `SO_REUSEADDR` (Postgres sets it) be bound to one port as long as
/// not both listen, and gives the port to nobody who asks for any free one: so it is still ours
/// after a restart. Other systems would refuse Postgres the port, so there it is only looked up.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) number: u16,
    _reservation: Option<Socket>,
}

impl Port {
    /// Takes this port, or any free one for 0.
    pub(crate) fn take(number: u16) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddrV4::new(Ipv4Addr::LOCALHOST, number).into())?;
        let number = socket
            .local_addr()?
            .as_socket_ipv4()
            .map_or(number, |bound| bound.port());
        Ok(Self {
            number,
            _reservation: cfg!(target_os = "linux").then_some(socket),
        })
    }
}
