//! "Did you mean".

/// The name nearest to what was written, if any is near enough to be meant.
pub fn nearest<'c>(
    written: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let written_folded = fold(written);
    let allowed = match written_folded.len() {
        0..=2 => 1,
        3..=5 => 2,
        _ => 3,
    };
    candidates
        .into_iter()
        .map(|candidate| (candidate, fold(candidate)))
        .map(|(candidate, folded)| {
            // Of `mirror` and `mirrors`, `mirrosr` has the letters of the latter; of `HTTP` and
            // `HTTP2`, `HTTPP` has the former with a key that was hit twice.
            let other_length = match is_doubled(&written_folded, &folded) {
                true => 0,
                false => 1 + folded.len().abs_diff(written_folded.len()),
            };
            (distance(&written_folded, &folded), other_length, candidate)
        })
        .filter(|(distance, _, candidate)| {
            *distance <= allowed && *distance < candidate.chars().count().max(2)
        })
        .min_by_key(|(distance, other_length, _)| (*distance, *other_length))
        .map(|(_, _, candidate)| candidate)
}

/// Letters and digits in lower case, so that `max_age` and `MaxAge` are both `maxAge`. No more of
/// a long text than tells that it is none of ours.
fn fold(text: &str) -> Vec<char> {
    const LONGEST: usize = 64;
    text.chars()
        .filter(|c| c.is_alphanumeric())
        .take(LONGEST)
        .flat_map(char::to_lowercase)
        .collect()
}

/// Whether `written` is `meant` with one letter doubled.
fn is_doubled(written: &[char], meant: &[char]) -> bool {
    let same = written.iter().zip(meant).take_while(|(w, m)| w == m);
    let at = same.count();
    at > 0 && written.get(at) == Some(&written[at - 1]) && written[at + 1..] == meant[at..]
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one into the other.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let replaced = last[j] + usize::from(from != to);
            let mut best = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *from == b[j - 1] && a[i - 1] == *to {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_a_swap_as_one_edit() {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        assert_eq!(distance(&chars("rotue"), &chars("route")), 1);
        assert_eq!(distance(&chars("kitten"), &chars("sitting")), 3);
        assert_eq!(distance(&chars(""), &chars("abc")), 3);
        assert_eq!(distance(&chars("abc"), &chars("")), 3);
    }

    #[test]
    fn finds_what_was_meant_and_nothing_far_off() {
        let fields = ["timeout", "retries", "route", "match"];
        assert_eq!(nearest("timeot", fields), Some("timeout"));
        assert_eq!(nearest("retry", fields), None);
        assert_eq!(nearest("Routes", fields), Some("route"));
        assert_eq!(nearest("anything", fields), None);
        let protocols = ["HTTP", "HTTP2", "HTTPS"];
        assert_eq!(nearest("HTTPP", protocols), Some("HTTP"));
        assert_eq!(nearest("HTTTPS", protocols), Some("HTTPS"));
        assert_eq!(nearest("HTP2", protocols), Some("HTTP2"));
        assert_eq!(nearest("mirrosr", ["mirror", "mirrors"]), Some("mirrors"));
        assert_eq!(nearest("max_age", ["maxAge"]), Some("maxAge"));
    }
}
