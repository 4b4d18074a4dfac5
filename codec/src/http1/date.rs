//! The date format of HTTP (RFC 9110 section 5.6.7).

/// Bytes that [`write_http_date`] appends.
pub const HTTP_DATE_LEN: usize = 29;

/// Appends `Sun, 06 Nov 1994 08:49:37 GMT` for a time in seconds since the Unix epoch. Times after
/// the year 9999 are written as its last second.
pub fn write_http_date(out: &mut Vec<u8>, unix_seconds: u64) {
    const LAST_SECOND: u64 = 253_402_300_799;
    const WEEKDAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
    const MONTHS: [&[u8; 3]; 12] = [
        b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov",
        b"Dec",
    ];
    let seconds = unix_seconds.min(LAST_SECOND);
    let days = seconds / 86_400;
    let (year, month, day) = civil_date(days);
    let two = |n: u64| [b'0' + (n / 10 % 10) as u8, b'0' + (n % 10) as u8];

    out.extend_from_slice(WEEKDAYS[(days % 7) as usize]);
    out.extend_from_slice(b", ");
    out.extend_from_slice(&two(day));
    out.push(b' ');
    out.extend_from_slice(MONTHS[month as usize]);
    out.push(b' ');
    out.extend_from_slice(&two(year / 100));
    out.extend_from_slice(&two(year));
    for (separator, number) in [
        (b' ', seconds / 3600 % 24),
        (b':', seconds / 60 % 60),
        (b':', seconds % 60),
    ] {
        out.push(separator);
        out.extend_from_slice(&two(number));
    }
    out.extend_from_slice(b" GMT");
}

/// Year, month from 0 and day from 1 of a day number, day 0 being 1970-01-01.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    // Days before a year, counted from the year 1; estimate from below, then step up.
    let before =
        |year: u64| (year - 1) * 365 + (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400;
    let total = days + before(1970);
    let mut year = total / 366 + 1;
    while before(year + 1) <= total {
        year += 1;
    }
    let mut day = total - before(year);
    let mut month = 0;
    for length in [
        31,
        28 + u64::from(leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    (year, month, day + 1)
}
