//! The drivers behind one face, and the choice between them.

use super::chunk::Chunk;
use super::epoll::Epoll;
use super::pool::{Buffer, Pool};
use super::remote::Mailbox;
use super::slab::Key;
use super::stream::Idle;
use super::sys::RawAddress;
use super::table::{SendStart, Table};
use super::uring::Uring;
use super::{DriverChoice, DriverKind, DriverReport, RuntimeOptions, Wait};
use std::cell::RefCell;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::rc::Rc;
use std::task::{Context, Poll};

pub(super) enum Driver {
    Uring(Box<Uring>),
    Epoll(Box<Epoll>),
}

macro_rules! either {
    ($self:ident, $driver:ident => $call:expr) => {
        match $self {
            Driver::Uring($driver) => $call,
            Driver::Epoll($driver) => $call,
        }
    };
}

/// Which driver a choice leads to on this machine, and why.
pub(super) fn probe(choice: DriverChoice) -> io::Result<DriverReport> {
    let pool = Rc::new(RefCell::new(Pool::new(&RuntimeOptions::default(), 0)));
    let mailbox = Mailbox::new()?;
    let (driver, reason) = Driver::choose(choice, pool, mailbox.eventfd())?;
    let kind = match driver {
        Driver::Uring(_) => DriverKind::IoUring,
        Driver::Epoll(_) => DriverKind::Epoll,
    };
    Ok(DriverReport { kind, reason })
}

impl Driver {
    pub fn choose(
        choice: DriverChoice,
        pool: Rc<RefCell<Pool>>,
        mailbox: RawFd,
    ) -> io::Result<(Self, String)> {
        let why_not = match choice {
            DriverChoice::Epoll => "chosen by configuration".to_owned(),
            DriverChoice::Auto | DriverChoice::IoUring => {
                match Uring::make(pool.clone(), mailbox) {
                    Ok((driver, description)) => {
                        return Ok((Driver::Uring(Box::new(driver)), description));
                    }
                    Err(reason) => reason,
                }
            }
        };
        if choice == DriverChoice::IoUring {
            return Err(io::Error::new(io::ErrorKind::Unsupported, why_not));
        }
        Ok((
            Driver::Epoll(Box::new(Epoll::new(pool, mailbox)?)),
            format!("epoll: {why_not}"),
        ))
    }

    pub fn table(&mut self) -> &mut Table {
        either!(self, driver => &mut driver.table)
    }

    pub fn trim(&mut self) {
        either!(self, driver => driver.trim());
    }

    pub fn enters(&self) -> u64 {
        either!(self, driver => driver.enters())
    }

    pub fn take_mailbox_rang(&mut self) -> bool {
        either!(self, driver => driver.take_mailbox_rang())
    }

    #[inline]
    pub fn turn(&mut self, wait: Wait) -> io::Result<()> {
        either!(self, driver => driver.turn(wait))
    }

    pub fn shut_down(&mut self) -> bool {
        either!(self, driver => driver.shut_down())
    }

    pub fn add_stream(&mut self, fd: OwnedFd) -> io::Result<Key> {
        either!(self, driver => driver.add_stream(fd))
    }

    pub fn drop_stream(&mut self, key: Key) {
        either!(self, driver => driver.drop_stream(key))
    }

    #[inline]
    pub fn poll_receive(&mut self, key: Key, context: &Context<'_>) -> Poll<io::Result<Chunk>> {
        either!(self, driver => driver.poll_receive(key, context))
    }

    pub fn poll_receive_bulk(
        &mut self,
        key: Key,
        context: &Context<'_>,
    ) -> Poll<io::Result<Chunk>> {
        either!(self, driver => driver.poll_receive_bulk(key, context))
    }

    pub fn poll_ready(&mut self, key: Key, context: &Context<'_>) -> Poll<()> {
        either!(self, driver => driver.poll_ready(key, context))
    }

    pub fn peek_state(&mut self, key: Key) -> Idle {
        either!(self, driver => driver.peek_state(key))
    }

    #[inline]
    pub fn send(&mut self, stream: Key, head: Buffer, body: Chunk) -> SendStart {
        either!(self, driver => driver.send(stream, head, body))
    }

    pub fn drop_send(&mut self, key: Key) {
        either!(self, driver => driver.drop_send(key))
    }

    pub fn connect(&mut self, fd: OwnedFd, address: RawAddress) -> Key {
        either!(self, driver => driver.connect(fd, address))
    }

    pub fn drop_connect(&mut self, key: Key) {
        either!(self, driver => driver.drop_connect(key))
    }

    pub fn add_listener(&mut self, fd: OwnedFd) -> io::Result<Key> {
        either!(self, driver => driver.add_listener(fd))
    }

    pub fn poll_accept(&mut self, key: Key, context: &Context<'_>) -> Poll<io::Result<OwnedFd>> {
        either!(self, driver => driver.poll_accept(key, context))
    }

    pub fn poll_accept_stopped(&mut self, key: Key, context: &Context<'_>) -> Poll<()> {
        either!(self, driver => driver.poll_accept_stopped(key, context))
    }

    pub fn drop_listener(&mut self, key: Key) {
        either!(self, driver => driver.drop_listener(key))
    }
}
