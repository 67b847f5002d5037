//! The alarm for free space: one entry when it falls below the threshold, one when there is enough again.

use cofferdam_access::{
    audit::{Act, AuditEvent, AuditKind},
    store::{AuditFilter, Store, StoreError},
};
use tracing::{info, warn};

use super::Gateway;

/// Knows on which side of the threshold the free space was last.
#[derive(Debug)]
pub(super) struct SpaceAlarm {
    /// Below so many free bytes there is an alarm.
    threshold: u64,
    low: bool,
}

impl SpaceAlarm {
    /// Goes on where the audit log stands, so that a restart does not say the same again.
    pub(super) async fn resume(store: &Store, node: &str, threshold: u64) -> Result<Self, StoreError> {
        let mut last = [0; 2];
        for (seq, kind) in last.iter_mut().zip([AuditKind::SpaceLow, AuditKind::SpaceEnough]) {
            let filter = AuditFilter {
                kind: Some(kind),
                subject: Some(node.to_owned()),
                limit: 1,
                ..AuditFilter::default()
            };
            *seq = store.audit(&filter).await?.first().map_or(0, |entry| entry.seq);
        }
        let [low, enough] = last;
        Ok(Self { threshold, low: low > enough })
    }

    /// Whether the threshold was crossed. Enough is an eighth more than too little, so that the alarm does not flutter.
    fn crossing(&self, free: u64) -> Option<AuditKind> {
        match self.low {
            false if free < self.threshold => Some(AuditKind::SpaceLow),
            true if free >= self.threshold.saturating_add(self.threshold / 8) => Some(AuditKind::SpaceEnough),
            _ => None,
        }
    }

    /// Looks at the free space, and says once what has changed. What cannot be audited now is said at the next look.
    pub(super) async fn look(&mut self, gateway: &Gateway) {
        let Some(free) = gateway.recorder.health().free else { return };
        let Some(kind) = self.crossing(free) else { return };
        let low = kind == AuditKind::SpaceLow;
        let event = AuditEvent::new(kind, &gateway.node).with("free", free).with("threshold", self.threshold);
        if let Err(e) = gateway.store.record(&Act::system("gateway", gateway.clock.now()), event).await {
            warn!(error = %e, "the state of the free space could not be audited");
            return;
        }
        self.low = low;
        if low {
            warn!(free, threshold = self.threshold, "little space is left for recordings: make room");
        } else {
            info!(free, "there is enough space for recordings again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_crossing_is_said_once_and_a_flutter_is_not() {
        let mut alarm = SpaceAlarm { threshold: 800, low: false };
        let mut said = Vec::new();
        for free in [900, 800, 799, 500, 799, 800, 850, 899, 900, 2000, 801, 799] {
            if let Some(kind) = alarm.crossing(free) {
                said.push((free, kind));
                alarm.low = kind == AuditKind::SpaceLow;
            }
        }
        let (low, enough) = (AuditKind::SpaceLow, AuditKind::SpaceEnough);
        assert_eq!(said, [(799, low), (900, enough), (799, low)]);
    }
}
