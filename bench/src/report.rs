//! What a comparison found, as a table for a terminal of 100 columns and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::figures;
use crate::measure::Sample;
use crate::peers::Peer;
use crate::rows::{Front, Offer, Row};
use crate::statistics::{Spread, spread, thousands};

/// A proxy that was not measured, and why.
#[derive(Clone, Debug, Serialize)]
pub struct Missing {
    pub peer: Peer,
    pub reason: String,
}

/// Each proxy measured once, one after the other.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Round {
    pub samples: Vec<Sample>,
    /// One of the runs was disturbed from outside.
    pub disturbed: bool,
}

impl Round {
    pub fn sample(&self, peer: Peer) -> Option<&Sample> {
        self.samples.iter().find(|sample| sample.peer == peer)
    }

    /// Processor time for a request of one proxy divided by that of another.
    pub fn cpu_ratio(&self, peer: Peer, to: Peer) -> Option<f64> {
        Some(self.sample(peer)?.cpu_us / self.sample(to)?.cpu_us)
    }

    /// The round in one line, for the progress.
    pub fn line(&self, number: usize) -> String {
        let mut line = format!("  round {number}:");
        for sample in &self.samples {
            let mark = if sample.disturbance.is_some() {
                "!"
            } else {
                ""
            };
            let _ = write!(line, " {} {:.1}{mark}", sample.peer.label(), sample.cpu_us);
        }
        if let Some(cause) = self
            .samples
            .iter()
            .find_map(|sample| sample.disturbance.as_ref())
        {
            let _ = write!(line, " (disturbed: {cause})");
        }
        line
    }
}

/// All rounds of one row.
#[derive(Clone, Debug, Serialize)]
pub struct RowResult {
    pub row: Row,
    pub rounds: Vec<Round>,
    /// Rounds that did not count because something outside disturbed them.
    pub discarded: Vec<Round>,
    /// Rounds that were run again, for a disturbance or a fault.
    pub repeated: usize,
    /// The last fault of each proxy that had one.
    pub faults: BTreeMap<Peer, String>,
    pub left_out: Vec<Missing>,
}

impl RowResult {
    pub fn new(row: Row) -> Self {
        Self {
            row,
            rounds: Vec::new(),
            discarded: Vec::new(),
            repeated: 0,
            faults: BTreeMap::new(),
            left_out: Vec::new(),
        }
    }

    /// The spread over the rounds of a figure of each round; `None` if no round has it.
    pub fn spread(&self, figure: impl Fn(&Round) -> Option<f64>) -> Option<Spread> {
        spread(self.rounds.iter().filter_map(figure))
    }
}

/// Resident memory of one proxy.
#[derive(Clone, Debug, Serialize)]
pub struct Memory {
    pub peer: Peer,
    /// What the connections speak.
    pub front: Front,
    pub empty_bytes: u64,
    pub with_fewer_bytes: u64,
    pub with_more_bytes: u64,
    pub bytes_per_idle_connection: f64,
}

/// Everything of one comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub unix_time: u64,
    /// It was ended before all was measured.
    pub interrupted: bool,
    pub missing: Vec<Missing>,
    pub rows: Vec<RowResult>,
    pub memory: Vec<Memory>,
}

impl Report {
    /// The tables, none of whose lines is wider than 100 columns.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for result in &self.rows {
            row_table(&mut text, result);
        }
        self.memory_table(&mut text);
        figures::table(&mut text, self);
        for missing in &self.missing {
            let _ = writeln!(
                text,
                "not measured: {}: {}",
                missing.peer.label(),
                missing.reason
            );
        }
        text
    }

    fn memory_table(&self, text: &mut String) {
        for front in [Front::Plain, Front::Tls] {
            let mut of_front = self.memory.iter().filter(|memory| memory.front == front);
            let Some(first) = of_front.next() else {
                continue;
            };
            let title = match front {
                Front::Tls => "resident memory, HTTP/1.1 over TLS 1.3",
                _ => "resident memory, plain HTTP/1.1",
            };
            let _ = writeln!(text, "{title}");
            let _ = writeln!(
                text,
                "  {:<13}{:>10}{:>13}{:>13}{:>24}",
                "proxy", "empty MB", "1,000 idle", "5,000 idle", "bytes/idle connection"
            );
            for memory in [first].into_iter().chain(of_front) {
                let _ = writeln!(
                    text,
                    "  {:<13}{:>10.1}{:>13.1}{:>13.1}{:>24}",
                    memory.peer.label(),
                    megabytes(memory.empty_bytes),
                    megabytes(memory.with_fewer_bytes),
                    megabytes(memory.with_more_bytes),
                    thousands(memory.bytes_per_idle_connection),
                );
            }
            text.push('\n');
        }
    }
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn row_table(text: &mut String, result: &RowResult) {
    let _ = writeln!(text, "{}", result.row.title());
    let _ = write!(
        text,
        "  {} clean rounds",
        result.rounds.iter().filter(|r| !r.disturbed).count()
    );
    let disturbed = result.rounds.iter().filter(|round| round.disturbed).count();
    if disturbed > 0 {
        let _ = write!(text, ", {disturbed} disturbed ones that were let in");
    }
    if result.repeated > 0 {
        let _ = write!(text, ", {} repeated", result.repeated);
    }
    text.push('\n');
    let peers: Vec<Peer> = Peer::ALL
        .into_iter()
        .filter(|peer| {
            result
                .rounds
                .iter()
                .any(|round| round.sample(*peer).is_some())
        })
        .collect();
    // Ratios are those of the proxy that is asked about; without it, those of the first there is.
    if let Some(base) = peers.first() {
        let _ = writeln!(
            text,
            "  {:<13}{:>9}{:>7}{:>7}  {:<26}{:>10}{:>11}{:>11}",
            "proxy",
            "CPU µs",
            "user",
            "kernel",
            format!("{} ÷ it (min–max)", base.label()),
            "req/s",
            "p50 µs",
            "p99 µs"
        );
        for peer in &peers {
            row_line(text, result, *base, *peer);
        }
    }
    for missing in &result.left_out {
        let reason = missing.reason.lines().next().unwrap_or_default();
        let line = format!("  left out: {}: {reason}", missing.peer.label());
        let _ = writeln!(text, "{}", line.chars().take(100).collect::<String>());
    }
    text.push('\n');
}

fn row_line(text: &mut String, result: &RowResult, base: Peer, peer: Peer) {
    let median = |figure: fn(&Sample) -> Option<f64>| {
        result
            .spread(|round| figure(round.sample(peer)?))
            .map(|spread| spread.median)
    };
    let (user, kernel) = match result.row.offer {
        Offer::Split => (
            median(Sample::user_us),
            median(|sample| Some(sample.cpu_us - sample.user_us()?)),
        ),
        _ => (None, None),
    };
    let ratio = result
        .spread(|round| round.cpu_ratio(base, peer))
        .map(|ratio| format!("{:.2} ({:.2}–{:.2})", ratio.median, ratio.min, ratio.max));
    let number =
        |value: Option<f64>| value.map_or("–".to_string(), |value| format!("{value:.1}"));
    let _ = writeln!(
        text,
        "  {:<13}{:>9}{:>7}{:>7}  {:<26}{:>10}{:>11}{:>11}",
        peer.label(),
        number(median(|sample| Some(sample.cpu_us))),
        number(user),
        number(kernel),
        ratio.unwrap_or_default(),
        median(|sample| Some(sample.requests_per_second)).map_or("–".into(), thousands),
        median(|sample| Some(sample.p50_us)).map_or("–".into(), thousands),
        median(|sample| Some(sample.p99_us)).map_or("–".into(), thousands),
    );
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::payload::Payload;

    /// A sample of a proxy with a processor time for a request.
    pub fn sample(peer: Peer, cpu_us: f64) -> Sample {
        Sample {
            peer,
            cpu_us,
            user_share: Some(0.25),
            requests_per_second: 1e6 / cpu_us,
            p50_us: 500.0,
            p99_us: 123_456.0,
            responses: 100_000,
            reconnects: 0,
            fault: None,
            disturbance: None,
        }
    }

    /// A row whose rounds hold the given processor times.
    pub fn row_result(row: Row, rounds: &[&[(Peer, f64)]]) -> RowResult {
        let mut result = RowResult::new(row);
        for round in rounds {
            let samples = round
                .iter()
                .map(|(peer, cpu_us)| sample(*peer, *cpu_us))
                .collect();
            result.rounds.push(Round {
                samples,
                disturbed: false,
            });
        }
        result
    }

    fn report() -> Report {
        let row = Row {
            payload: Payload::Large,
            connections: 512,
            offer: Offer::Split,
        };
        let round: Vec<(Peer, f64)> = Peer::ALL.iter().map(|peer| (*peer, 12_345.6)).collect();
        let mut result = row_result(row, &[&round, &round]);
        let reason = "does not answer ".repeat(20);
        result.left_out.push(Missing {
            peer: Peer::Envoy,
            reason,
        });
        let memory = Memory {
            peer: Peer::RelayMonoio,
            front: Front::Plain,
            empty_bytes: 12_300_000,
            with_fewer_bytes: 20_000_000,
            with_more_bytes: 220_000_000,
            bytes_per_idle_connection: 50_000.0,
        };
        Report {
            unix_time: 0,
            interrupted: false,
            missing: Vec::new(),
            rows: vec![result],
            memory: vec![memory],
        }
    }

    #[test]
    fn no_line_is_wider_than_a_hundred_columns() {
        let text = report().text();
        for line in text.lines() {
            assert!(
                line.chars().count() <= 100,
                "{} columns: {line}",
                line.chars().count()
            );
        }
        assert!(text.contains("relay-monoio"), "{text}");
    }

    #[test]
    fn ratios_are_taken_within_each_round() {
        let row = Row {
            payload: Payload::Small,
            connections: 64,
            offer: Offer::Saturated,
        };
        let result = row_result(
            row,
            &[
                &[(Peer::Ringroad, 10.0), (Peer::Nginx, 20.0)],
                &[(Peer::Ringroad, 30.0), (Peer::Nginx, 30.0)],
                &[(Peer::Ringroad, 12.0), (Peer::Nginx, 16.0)],
            ],
        );
        let mut text = String::new();
        row_table(&mut text, &result);
        assert!(text.contains("0.75 (0.50–1.00)"), "{text}");
        assert!(text.contains("3 clean rounds"), "{text}");
    }
}
