//! The statuses of gRPC, by the names that Istio's `HTTPFaultInjection.Abort.grpcStatus` takes.

/// In the order of their numbers.
const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The number of a status by its name; `None` for a name that there is not.
pub fn number(name: &str) -> Option<u16> {
    (0..)
        .zip(NAMES)
        .find_map(|(number, known)| (known == name).then_some(number))
}
