//! How the process is, for the web interface: what changes while it runs. `cofferdam doctor` looks at more.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use cofferdam_access::{clock::Timestamp, store::CheckoutFilter};
use cofferdam_web::{Certificates, ENDS_SOON, HealthItem};

use crate::gateway::Gateway;

/// A check-out that is over is ended within so long, seconds.
const LATE: i64 = 60;

/// See the module.
#[derive(Debug)]
pub(super) struct Health {
    /// Whose health it is.
    pub(super) gateway: Arc<Gateway>,
    /// What browsers are shown.
    pub(super) certificates: Arc<Certificates>,
}

#[async_trait]
impl cofferdam_web::Health for Health {
    async fn look(&self) -> Vec<HealthItem> {
        let gateway = &self.gateway;
        let (ends, file) = (self.certificates.ends(), self.certificates.chain_file());
        vec![
            self.store().await,
            self.recorder(),
            self.vault(),
            self.policies(),
            self.checkouts().await,
            certificate(ends, file, gateway.clock.now()),
            HealthItem {
                name: "sessions",
                well: !gateway.stopping.is_cancelled(),
                text: format!("{} live on {}", gateway.registry.len(), gateway.node),
            },
        ]
    }

    fn certificate_ends(&self) -> Timestamp {
        self.certificates.ends()
    }
}

fn certificate(ends: Timestamp, file: &Path, now: Timestamp) -> HealthItem {
    let left = ends.since(now) / 1_000_000;
    let days = left.div_euclid(86_400);
    let replace = format!("put another pair in place of {}; it is taken without a restart", file.display());
    let text = match left {
        ..=0 => format!("ended on {ends}, so browsers refuse this interface: {replace}"),
        left if left < ENDS_SOON => format!("ends on {ends}, in {days} days: {replace}"),
        _ => format!("ends on {ends}, in {days} days"),
    };
    HealthItem { name: "certificate", well: left >= ENDS_SOON, text }
}

impl Health {
    async fn store(&self) -> HealthItem {
        match self.gateway.store.revision().await {
            Ok(revision) => {
                HealthItem { name: "database", well: true, text: format!("answers, revision {revision}") }
            }
            Err(e) => HealthItem { name: "database", well: false, text: e.to_string() },
        }
    }

    fn vault(&self) -> HealthItem {
        let well = self.gateway.vault_gate.was_open();
        let text = match well {
            true => "open".to_owned(),
            false => "sealed, so no session starts and no code can be checked: run `cofferdam vault unseal`"
                .to_owned(),
        };
        HealthItem { name: "vault", well, text }
    }

    /// Secrets that people have just now: none of them is well past its end.
    async fn checkouts(&self) -> HealthItem {
        let filter = CheckoutFilter { state: Some("open"), ..CheckoutFilter::default() };
        let name = "check-outs";
        match self.gateway.store.checkouts(&filter).await {
            Ok(open) => {
                let now = self.gateway.clock.now();
                let late = |until: Timestamp| now >= until.plus_seconds(LATE);
                let over = open.iter().filter(|c| c.shown.as_ref().is_some_and(|s| late(s.until))).count();
                let text = match over {
                    0 => format!("{} secrets are seen by people just now", open.len()),
                    _ => format!("{over} are past their end and not ended: look into the gateway's log"),
                };
                HealthItem { name, well: over == 0, text }
            }
            Err(e) => HealthItem { name, well: false, text: e.to_string() },
        }
    }

    fn recorder(&self) -> HealthItem {
        let health = self.gateway.recorder.health();
        let well = health.accepts_sessions();
        let free = health.free.map_or("unknown room".to_owned(), |bytes| format!("{} MiB free", bytes >> 20));
        let text = match (&health.last_error, well) {
            (_, true) => format!("{free}, {} recordings open", health.live),
            (Some((why, _)), false) => format!("no session can be recorded, so none starts: {why}"),
            (None, false) => format!(
                "{free}, {} MiB are needed: make room; until then sessions are refused",
                health.needed >> 20
            ),
        };
        HealthItem { name: "recordings", well, text }
    }

    fn policies(&self) -> HealthItem {
        let snapshot = self.gateway.snapshots.borrow().clone();
        match snapshot.policies.problem() {
            None => {
                let text = format!("in force, {} in all", snapshot.policies.ids().len());
                HealthItem { name: "policies", well: true, text }
            }
            Some(problem) => HealthItem {
                name: "policies",
                well: false,
                text: format!("cannot be used, so everything is refused: {problem}"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_spoken_of_a_month_before_its_end() {
        let (now, day) = (Timestamp::from_seconds(1_795_600_000), 86_400);
        let look = |days: i64| certificate(now.plus_seconds(days * day), Path::new("/etc/web.pem"), now);
        assert!(look(30).well && look(30).text.contains("in 30 days"));
        assert!(
            !look(29).well && look(29).text.contains("in 29 days") && look(29).text.contains("/etc/web.pem")
        );
        assert!(!look(-1).well && look(-1).text.contains("browsers refuse"));
    }
}
