//! Taking ejected endpoints back when their time is over.

use crate::health::HealthRegistry;
use std::sync::Arc;
use tokio::sync::Notify;

/// Sweeps whenever something is due, for ever. Nothing is due while no endpoint is ejected, or was
/// lately, so that an idle process sleeps.
pub async fn sweep_forever(health: Arc<HealthRegistry>) {
    let alarm = Arc::new(Notify::new());
    let ring = Arc::clone(&alarm);
    health.on_alarm(move || ring.notify_one());
    loop {
        match health.sweep() {
            Some(next) => {
                // A deadline that has passed meanwhile ends at once.
                let _ = tokio::time::timeout_at(next.into(), alarm.notified()).await;
            }
            None => alarm.notified().await,
        }
    }
}
