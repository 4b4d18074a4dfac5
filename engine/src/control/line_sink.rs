//! Lines to standard output or standard error, without ever holding the caller up.
//!
//! A worker hands over a batch of access log lines, the control thread a line of the log; a writer
//! thread of its own writes them, since a pipe that nobody reads blocks its writer. The queue is
//! bounded: what does not fit is dropped and counted.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Batches that wait for the writer at most.
const MAX_QUEUED_BATCHES: usize = 256;
/// Bytes that wait for the writer at most.
const MAX_QUEUED_BYTES: u64 = 4 << 20;
/// Written buffers that are kept for the workers to fill again.
const MAX_RECYCLED_BATCHES: usize = 32;
/// A buffer that has grown beyond this is freed instead of being kept.
const MAX_RECYCLED_BYTES: usize = 64 << 10;

const WRITER_STACK_BYTES: usize = 64 << 10;

/// The end that lines are pushed into. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct LineSink {
    queue: SyncSender<Vec<u8>>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    queued_bytes: AtomicU64,
    written_lines: AtomicU64,
    dropped_lines: AtomicU64,
    recycled: Mutex<Vec<Vec<u8>>>,
}

impl LineSink {
    /// Starts the writer of standard output, which tells `on_failure` the first time that it
    /// cannot write.
    pub fn to_stdout(on_failure: impl FnOnce(&io::Error) + Send + 'static) -> io::Result<Self> {
        Self::start(io::stdout(), on_failure)
    }

    /// Starts a thread that writes to `out`.
    pub fn to(out: impl Write + Send + 'static) -> io::Result<Self> {
        Self::start(out, |_| {})
    }

    fn start(
        out: impl Write + Send + 'static,
        on_failure: impl FnOnce(&io::Error) + Send + 'static,
    ) -> io::Result<Self> {
        let (queue, batches) = mpsc::sync_channel(MAX_QUEUED_BATCHES);
        let shared = Arc::new(Shared::default());
        let writer = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("line-writer".to_string())
            .stack_size(WRITER_STACK_BYTES)
            .spawn(move || write_batches(out, &batches, &writer, on_failure))?;
        Ok(Self { queue, shared })
    }

    /// Hands the lines in `batch` over and leaves an empty buffer in its place. Never waits:
    /// when the queue is full, the lines are dropped and counted, and `false` is returned.
    pub fn try_push(&self, batch: &mut Vec<u8>) -> bool {
        if batch.is_empty() {
            return true;
        }
        let bytes = batch.len() as u64;
        if self.shared.queued_bytes.load(Ordering::Relaxed) + bytes > MAX_QUEUED_BYTES {
            self.shared.drop_lines(batch);
            return false;
        }
        let recycled = self
            .shared
            .recycled
            .try_lock()
            .ok()
            .and_then(|mut kept| kept.pop());
        let lines = std::mem::replace(batch, recycled.unwrap_or_default());
        self.shared.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        match self.queue.try_send(lines) {
            Ok(()) => true,
            Err(TrySendError::Full(mut lines) | TrySendError::Disconnected(mut lines)) => {
                self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
                self.shared.drop_lines(&mut lines);
                *batch = lines;
                false
            }
        }
    }

    /// Lines written since the start.
    pub fn written_lines(&self) -> u64 {
        self.shared.written_lines.load(Ordering::Relaxed)
    }

    /// Lines dropped since the start, because the queue was full or the output was closed.
    pub fn dropped_lines(&self) -> u64 {
        self.shared.dropped_lines.load(Ordering::Relaxed)
    }

    /// Waits until all that was pushed before is written, but no longer than `limit`.
    pub fn flush(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.shared.queued_bytes.load(Ordering::Acquire) > 0 {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }
}

impl Shared {
    fn drop_lines(&self, batch: &mut Vec<u8>) {
        self.dropped_lines
            .fetch_add(count_lines(batch), Ordering::Relaxed);
        batch.clear();
    }
}

fn count_lines(batch: &[u8]) -> u64 {
    batch.iter().filter(|&&byte| byte == b'\n').count() as u64
}

fn write_batches(
    mut out: impl Write,
    batches: &Receiver<Vec<u8>>,
    shared: &Shared,
    on_failure: impl FnOnce(&io::Error),
) {
    let mut on_failure = Some(on_failure);
    while let Ok(mut batch) = batches.recv() {
        let bytes = batch.len() as u64;
        match out.write_all(&batch).and_then(|()| out.flush()) {
            Ok(()) => {
                shared
                    .written_lines
                    .fetch_add(count_lines(&batch), Ordering::Relaxed);
                batch.clear();
            }
            // Told once, since the next line is likely to fail as well; the count tells the rest.
            Err(error) => {
                shared.drop_lines(&mut batch);
                if let Some(tell) = on_failure.take() {
                    tell(&error);
                }
            }
        }
        shared.queued_bytes.fetch_sub(bytes, Ordering::Release);
        if batch.capacity() <= MAX_RECYCLED_BYTES
            && let Ok(mut kept) = shared.recycled.lock()
            && kept.len() < MAX_RECYCLED_BATCHES
        {
            kept.push(batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn lines_arrive_in_order_and_buffers_come_back() {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let sink = LineSink::to(writer).expect("a thread");
        let mut batch = Vec::with_capacity(100);
        for number in 0..100 {
            batch.extend_from_slice(format!("line {number}\n").as_bytes());
            assert!(sink.try_push(&mut batch));
            assert!(batch.is_empty());
        }
        assert!(sink.flush(Duration::from_secs(10)));
        assert_eq!(sink.written_lines(), 100);
        drop(sink);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("the writer closes");
        let expected: String = (0..100).map(|number| format!("line {number}\n")).collect();
        assert_eq!(text, expected);
    }

    #[test]
    fn a_pipe_that_nobody_reads_drops_lines_and_holds_nobody_up() {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let sink = LineSink::to(writer).expect("a thread");
        let mut pushed_lines = 0;
        // More than the pipe and the queue hold together.
        for _ in 0..1_000 {
            let mut batch = vec![b'x'; 16 << 10];
            batch.push(b'\n');
            pushed_lines += 1;
            sink.try_push(&mut batch);
            assert!(batch.is_empty());
        }
        assert!(sink.dropped_lines() > 0);
        assert!(!sink.flush(Duration::from_millis(1)));

        let drain = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).map(|_| count_lines(&bytes))
        });
        assert!(sink.flush(Duration::from_secs(10)));
        let (written_lines, dropped_lines) = (sink.written_lines(), sink.dropped_lines());
        drop(sink);
        let read_lines = drain
            .join()
            .expect("the reader ends")
            .expect("the pipe is read");
        assert_eq!(read_lines, written_lines);
        assert_eq!(written_lines + dropped_lines, pushed_lines);
    }

    #[test]
    fn a_closed_output_counts_its_lines_as_dropped() {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let sink = LineSink::to(writer).expect("a thread");
        let mut batch = b"one\ntwo\n".to_vec();
        assert!(sink.try_push(&mut batch));
        assert!(sink.flush(Duration::from_secs(10)));
        assert_eq!(sink.dropped_lines(), 2);
        assert_eq!(sink.written_lines(), 0);
    }
}
