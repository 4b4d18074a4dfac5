//! When the requests of a fixed rate are due.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A schedule that does not wait for answers.
pub struct Schedule {
    next_due: Instant,
    /// From one beat to the next.
    interval: Duration,
    /// Requests of each beat.
    at_once: usize,
}

impl Schedule {
    /// `per_second` requests a second, `at_once` of them due at the same moment.
    pub fn new(start: Instant, per_second: f64, at_once: usize) -> Self {
        let at_once = at_once.max(1);
        Self {
            next_due: start,
            interval: Duration::from_secs_f64(at_once as f64 / per_second),
            at_once,
        }
    }

    /// Adds the due moments up to `now`; returns when the next ones are.
    pub fn take_due(&mut self, now: Instant, due: &mut VecDeque<Instant>) -> Instant {
        while self.next_due <= now {
            due.extend(std::iter::repeat_n(self.next_due, self.at_once));
            self.next_due += self.interval;
        }
        self.next_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due_after(at_once: usize, millis: &[u64]) -> Vec<u64> {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, 1_000.0, at_once);
        let mut due = VecDeque::new();
        for millis in millis {
            schedule.take_due(start + Duration::from_millis(*millis), &mut due);
        }
        due.iter()
            .map(|due| (*due - start).as_millis() as u64)
            .collect()
    }

    #[test]
    fn requests_are_spread_evenly_and_a_late_look_misses_none() {
        assert_eq!(due_after(1, &[0, 1, 1, 4]), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn requests_at_once_keep_the_rate() {
        assert_eq!(due_after(3, &[0, 2, 7]), [0, 0, 0, 3, 3, 3, 6, 6, 6]);
    }
}
