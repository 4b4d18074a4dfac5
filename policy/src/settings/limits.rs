//! Every limit of the program: its name, its unit, its default and why it is there.

use serde::Deserialize;

use super::duration;

/// What the number of a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitUnit {
    Bytes,
    Count,
    /// Held in milliseconds, written as a duration such as `10s`.
    Duration,
}

/// A limit, for documentation and for the admin interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitInfo {
    /// As written under `spec.limits`.
    pub name: &'static str,
    pub unit: LimitUnit,
    /// In bytes, pieces or milliseconds.
    pub default: u64,
    /// Least value that can be written.
    pub lowest: u64,
    /// Greatest value that can be written; [`Limits::UNBOUNDED`] where nothing bounds it.
    pub highest: u64,
    pub meaning: &'static str,
}

macro_rules! limits {
    ($($field:ident / $name:literal : $unit:ident = $default:expr, $lowest:expr, $highest:expr, $meaning:literal;)*) => {
        /// The limits in force.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Limits {
            $(#[doc = $meaning] pub $field: u64,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl Limits {
            /// The highest value of a limit that nothing bounds from above.
            pub const UNBOUNDED: u64 = i64::MAX as u64;

            /// Name, unit, default, bounds and meaning of each limit.
            pub const TABLE: &[LimitInfo] = &[$(
                LimitInfo {
                    name: $name,
                    unit: LimitUnit::$unit,
                    default: $default,
                    lowest: $lowest,
                    highest: $highest,
                    meaning: $meaning,
                },
            )*];

            /// What is known of the limit that is written `name`.
            pub fn info(name: &str) -> Option<&'static LimitInfo> {
                Self::TABLE.iter().find(|limit| limit.name == name)
            }

            /// The value in force of the limit that is written `name`.
            pub fn get(&self, name: &str) -> Option<u64> {
                match name {
                    $($name => Some(self.$field),)*
                    _ => None,
                }
            }
        }

        /// The limits as written, each optional.
        #[derive(Debug, Clone, Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct LimitsSpec {
            $(#[serde(rename = $name, default)] $field: Option<LimitValue>,)*
        }

        impl LimitsSpec {
            /// These limits over the defaults.
            ///
            /// # Errors
            ///
            /// The name of the limit whose value is not in its unit, and what was expected.
            pub(super) fn over_defaults(&self) -> Result<Limits, (&'static str, String)> {
                let mut limits = Limits::default();
                $(if let Some(value) = &self.$field {
                    limits.$field =
                        value.read(LimitUnit::$unit).map_err(|expected| ($name, expected))?;
                })*
                Ok(limits)
            }
        }
    };
}

const ANY: u64 = Limits::UNBOUNDED;
/// Largest window and number of streams of HTTP/2 (RFC 9113 sections 5.1.1 and 6.9.1).
const MAX_31_BITS: u64 = (1 << 31) - 1;

// Field / name: unit = default, lowest, highest, meaning.
limits! {
    max_head_bytes / "maxHeadBytes": Bytes = 60 * 1024, 512, 8 << 20,
        "Longest head of a request or response; above it 431, or 502 for a response.";
    max_headers / "maxHeaders": Count = 100, 1, 512,
        "Most header lines in a head or a trailer section.";
    max_chunk_extension_bytes / "maxChunkExtensionBytes": Bytes = 4 * 1024, 0, ANY,
        "Longest extension of one chunk, and how much longer than their data the extensions of all chunks of a body may be together.";
    max_trailer_bytes / "maxTrailerBytes": Bytes = 16 * 1024, 2, ANY,
        "Longest trailer section.";
    request_head_timeout_ms / "requestHeadTimeout": Duration = 10_000, 1, ANY,
        "How long a request head may take; above it 408. Counts from accept for the first request of a connection and from its first byte for each later one.";
    request_body_idle_timeout_ms / "requestBodyIdleTimeout": Duration = 300_000, 0, ANY,
        "How long a client may pause within a request body while no response has begun; above it 408, flag SI. gRPC calls may rest for longer; 0 is without limit.";
    downstream_idle_timeout_ms / "downstreamIdleTimeout": Duration = 3_600_000, 0, ANY,
        "How long a client connection may stay idle between requests; 0 is without limit.";
    upstream_idle_timeout_ms / "upstreamIdleTimeout": Duration = 3_600_000, 0, ANY,
        "How long an unused upstream connection is kept, where no DestinationRule says otherwise; 0 is without limit.";
    max_downstream_connections / "maxDownstreamConnections": Count = 1_000_000, 1, ANY,
        "Most client connections of the process; further ones are closed at once.";
    max_discarded_body_bytes / "maxDiscardedBodyBytes": Bytes = 64 * 1024, 0, ANY,
        "Most bytes that are read and dropped after an answer that was given before its request had ended, so that closing the connection does not destroy the answer on its way.";
    max_replay_body_bytes / "maxReplayBodyBytes": Bytes = 1024 * 1024, 0, ANY,
        "Most bytes of a request body that are kept so that a retry or a mirror can send them; a longer body is streamed on without either.";
    max_token_cache_bytes / "maxTokenCacheBytes": Bytes = 1024 * 1024, 0, ANY,
        "Most bytes that one worker keeps of tokens whose signature it has verified; 0 verifies with each request.";
    max_check_answer_bytes / "maxCheckAnswerBytes": Bytes = 64 * 1024, 0, ANY,
        "Longest body of a refusal by a provider of the action CUSTOM; above it the check has failed.";
    max_active_faults / "maxActiveFaults": Count = 10_000, 0, ANY,
        "Most requests of the process that an injected delay holds at a time; further ones are not delayed.";
    max_mirrors_in_flight / "maxMirrorsInFlight": Count = 10_000, 0, ANY,
        "Most mirrored requests of the process that wait for their responses; further ones are not sent.";
    max_concurrent_streams / "maxConcurrentStreams": Count = 100, 1, MAX_31_BITS,
        "Most HTTP/2 streams that a client may have open on one connection.";
    max_upstream_concurrent_streams / "maxUpstreamConcurrentStreams": Count = 1_024, 1, MAX_31_BITS,
        "Most HTTP/2 streams of one upstream connection; further requests open another one. connectionPool.http.maxConcurrentStreams and the upstream itself may allow fewer.";
    max_reset_streams / "maxResetStreams": Count = 100, 0, ANY,
        "Most HTTP/2 streams of one connection that the client may have reset before we came to serve them, and most that we reset for its errors as long as it lasts; above it the connection ends with ENHANCE_YOUR_CALM.";
    max_bad_streams / "maxBadStreams": Count = 250, 0, ANY,
        "Most HTTP/2 streams of one connection that end badly: given up by the client before they are `prematureResetAge` old and before their answer has ended, or reset by us for what the client sent. Above it, and if they are at least half of all, the connection ends with ENHANCE_YOUR_CALM.";
    premature_reset_age_ms / "prematureResetAge": Duration = 1_000, 0, ANY,
        "A stream of HTTP/2 that its client resets before this age counts among `maxBadStreams`.";
    max_control_frames / "maxControlFrames": Count = 1_000, 10, ANY,
        "Most frames of HTTP/2 that carry nothing (PING, SETTINGS, GOAWAY, unknown ones, resets of streams that are over) of a client within ten seconds, beyond as many as there are frames of HEADERS and DATA; above it the connection ends with ENHANCE_YOUR_CALM.";
    max_empty_frames / "maxEmptyFrames": Count = 1, 0, ANY,
        "Most frames of HEADERS, CONTINUATION and DATA in a row that have no content and end no stream; above it the connection ends with ENHANCE_YOUR_CALM.";
    max_priority_frames_per_stream / "maxPriorityFramesPerStream": Count = 100, 0, ANY,
        "Most PRIORITY frames of HTTP/2 for each stream that was opened, and one more; above it the connection ends with ENHANCE_YOUR_CALM.";
    max_window_updates_per_data_frame / "maxWindowUpdatesPerDataFrame": Count = 10, 1, ANY,
        "Most WINDOW_UPDATE frames of HTTP/2 for each DATA frame that we sent, half as many as are let pass; above it the connection ends with ENHANCE_YOUR_CALM.";
    max_continuation_frames / "maxContinuationFrames": Count = 5, 0, ANY,
        "Most CONTINUATION frames of one HTTP/2 head; above it the connection ends with ENHANCE_YOUR_CALM.";
    send_stall_timeout_ms / "sendStallTimeout": Duration = 300_000, 0, ANY,
        "How long a client of HTTP/2 may take nothing of what waits for it, on one stream (which is then reset) or on the connection (which is then closed); 0 is without limit.";
    http2_stream_window_bytes / "http2StreamWindowBytes": Bytes = 64 * 1024, 1024, MAX_31_BITS,
        "Most bytes of one HTTP/2 stream that are on their way: in the window that we give its sender, and in the buffer of what we send.";
    http2_connection_window_bytes / "http2ConnectionWindowBytes": Bytes = 1024 * 1024, 65_535, MAX_31_BITS,
        "Window of all HTTP/2 streams of one connection together.";
    max_interim_responses / "maxInterimResponses": Count = 32, 0, ANY,
        "Most interim (1xx) responses of an upstream before its final one; above it 502.";
    receive_buffer_bytes / "receiveBufferBytes": Bytes = 32 * 1024, 512, 16 << 20,
        "Size of one receive buffer.";
    max_receive_buffers / "maxReceiveBuffers": Count = 4_096, 16, 32_768,
        "Most receive buffers of one worker; without a free one, reading waits.";
}

/// A number, or a duration as text.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum LimitValue {
    Number(u64),
    Text(String),
}

impl LimitValue {
    fn read(&self, unit: LimitUnit) -> Result<u64, String> {
        match (self, unit) {
            (Self::Number(number), LimitUnit::Bytes | LimitUnit::Count) => Ok(*number),
            (Self::Text(text), LimitUnit::Duration) => {
                duration::parse_ms(text).map_err(|error| error.to_string())
            }
            (_, LimitUnit::Bytes) => Err("a number of bytes".to_string()),
            (_, LimitUnit::Count) => Err("a number".to_string()),
            (_, LimitUnit::Duration) => Err("a duration such as `10s`".to_string()),
        }
    }
}
