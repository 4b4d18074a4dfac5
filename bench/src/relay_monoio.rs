//! The same relay on monoio, with the ring flags that suit it best.
//!
//! It shows what the runtime itself costs beside the relay on the bare ring: little time, but a
//! buffer for every connection that waits.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};

use crate::upstream::header;

const RING_ENTRIES: u32 = 4096;

type Pool = Rc<RefCell<Vec<TcpStream>>>;

/// Relays until the process is ended. `buffer_bytes` is the size of one receive buffer.
pub fn serve(address: SocketAddr, upstream: SocketAddr, buffer_bytes: usize) -> io::Result<()> {
    let mut builder = monoio_io_uring::IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_coop_taskrun()
        .setup_defer_taskrun();
    let mut runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
        .with_entries(RING_ENTRIES)
        .uring_builder(builder)
        .build()?;
    runtime.block_on(async move {
        let listener = TcpListener::bind(address)?;
        let pool = Pool::default();
        loop {
            let (downstream, _) = listener.accept().await?;
            let pool = Rc::clone(&pool);
            monoio::spawn(async move {
                // An error of a connection ends that connection, which the client sees.
                let _ = connection(downstream, upstream, pool, buffer_bytes).await;
            });
        }
    })
}

async fn connection(
    mut downstream: TcpStream,
    upstream: SocketAddr,
    pool: Pool,
    buffer_bytes: usize,
) -> io::Result<()> {
    downstream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(buffer_bytes);
    loop {
        let received;
        (received, buffer) = downstream.read(buffer).await;
        if received? == 0 {
            return Ok(());
        }
        if !buffer.ends_with(b"\r\n\r\n") {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let close = take_connection_line(&mut buffer);
        let pooled = pool.borrow_mut().pop();
        let mut server = match pooled {
            Some(server) => server,
            None => {
                let server = TcpStream::connect_addr(upstream).await?;
                server.set_nodelay(true)?;
                server
            }
        };
        let result;
        (result, buffer) = server.write_all(buffer).await;
        result?;
        buffer = answer(&mut server, &mut downstream, buffer).await?;
        pool.borrow_mut().push(server);
        if close {
            return Ok(());
        }
    }
}

/// Passes one answer on; gives the buffer back.
async fn answer(
    server: &mut TcpStream,
    downstream: &mut TcpStream,
    mut buffer: Vec<u8>,
) -> io::Result<Vec<u8>> {
    let mut remaining = None;
    while remaining != Some(0) {
        buffer.clear();
        let received;
        (received, buffer) = server.read(buffer).await;
        let received = received?;
        if received == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let expected = match remaining {
            Some(remaining) => remaining,
            None => whole_length(&buffer).ok_or(io::ErrorKind::Unsupported)?,
        };
        remaining = Some(
            expected
                .checked_sub(received)
                .ok_or(io::ErrorKind::InvalidData)?,
        );
        let result;
        (result, buffer) = downstream.write_all(buffer).await;
        result?;
    }
    buffer.clear();
    Ok(buffer)
}

/// Length of head and body of an answer.
fn whole_length(start: &[u8]) -> Option<usize> {
    let end = memchr::memmem::find(start, b"\r\n\r\n")?;
    let length = header(&start[..end + 2], b"content-length")?;
    Some(end + 4 + std::str::from_utf8(length).ok()?.parse::<usize>().ok()?)
}

/// Takes the Connection header out of a head; tells whether it asked for an end.
fn take_connection_line(head: &mut Vec<u8>) -> bool {
    let Some(value) = header(&head[..head.len() - 2], b"connection") else {
        return false;
    };
    let close = value.eq_ignore_ascii_case(b"close");
    let at = value.as_ptr() as usize - head.as_ptr() as usize;
    let start = memchr::memrchr(b'\n', &head[..at]).map_or(0, |end| end + 1);
    let end = memchr::memchr(b'\n', &head[at..]).map_or(head.len(), |end| at + end + 1);
    head.drain(start..end);
    close
}
