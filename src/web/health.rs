//! How the process is, for the web interface: what changes while it runs. `cofferdam doctor` looks at more.

use std::sync::Arc;

use async_trait::async_trait;
use cofferdam_web::HealthItem;

use crate::gateway::Gateway;

/// See the module.
#[derive(Debug)]
pub(super) struct Health(pub(super) Arc<Gateway>);

#[async_trait]
impl cofferdam_web::Health for Health {
    async fn look(&self) -> Vec<HealthItem> {
        let gateway = &self.0;
        vec![
            self.store().await,
            self.recorder(),
            self.policies(),
            HealthItem {
                name: "sessions",
                well: !gateway.stopping.is_cancelled(),
                text: format!("{} live on {}", gateway.registry.len(), gateway.node),
            },
        ]
    }
}

impl Health {
    async fn store(&self) -> HealthItem {
        match self.0.store.revision().await {
            Ok(revision) => {
                HealthItem { name: "database", well: true, text: format!("answers, revision {revision}") }
            }
            Err(e) => HealthItem { name: "database", well: false, text: e.to_string() },
        }
    }

    fn recorder(&self) -> HealthItem {
        let health = self.0.recorder.health();
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
        let snapshot = self.0.snapshots.borrow().clone();
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
