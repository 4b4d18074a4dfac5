//! Timers.

use super::*;

#[test]
fn sleeps_in_a_row_all_end() {
    on_both(|| async {
        for _ in 0..20 {
            sleep_ms(1).await;
        }
    });
}
