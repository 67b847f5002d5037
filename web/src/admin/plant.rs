//! The plant's state, per zone: who runs the process says it, and sessions that it does not allow are cut.

use cofferdam_access::{
    ids::{Name, SessionId, WindowId},
    site::PlantState,
    store::SessionFilter,
};

use crate::{
    error::Failure,
    services::App,
    step_up::{self, Proof, Purpose},
    viewer::Viewer,
};

/// The action's fixed name.
pub(crate) const ACTION: &str = "plant state set";
/// Longest reason, characters.
const LONGEST_REASON: usize = 500;

/// A state that somebody wants a zone to be in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) zone: Name,
    pub(crate) state: PlantState,
    pub(crate) reason: String,
}

/// A session that is live in a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Touched {
    pub(crate) id: SessionId,
    pub(crate) person: Name,
    pub(crate) asset: Name,
    /// Its window does not allow the wanted state: it will be cut.
    pub(crate) cut: bool,
}

impl Wanted {
    /// From what somebody typed.
    pub(crate) fn read(app: &App, zone: &str, state: &str, reason: &str) -> Result<Self, Failure> {
        let zone = Name::new(zone).map_err(|_| Failure::NotFound)?;
        if !app.snapshot().site.zones.iter().any(|z| z.name == zone) {
            return Err(Failure::NotFound);
        }
        let state = PlantState::ALL.into_iter().find(|s| s.as_str() == state).ok_or_else(|| {
            Failure::Invalid("choose production, maintenance, shutdown or emergency".into())
        })?;
        let reason: String = reason.trim().chars().filter(|c| !c.is_control()).take(LONGEST_REASON).collect();
        if reason.is_empty() {
            return Err(Failure::Invalid("say why: whoever looks later needs to know".into()));
        }
        Ok(Self { zone, state, reason })
    }

    /// What it is stepped up for.
    pub(crate) fn purpose(&self) -> Purpose {
        Purpose::new(ACTION, &[self.zone.as_str(), self.state.as_str(), &self.reason])
    }
}

/// Sessions that are live in the zone now, and which of them the state would cut.
pub(crate) async fn touched(app: &App, wanted: &Wanted) -> Result<Vec<Touched>, Failure> {
    let snapshot = app.snapshot();
    let open = app.store.sessions(&SessionFilter { open_only: true, ..SessionFilter::default() }).await?;
    let allows = |window: Option<WindowId>| {
        window.and_then(|w| snapshot.window(w)).is_some_and(|w| w.allows_plant_state(wanted.state))
    };
    let in_zone = |asset: &Name| snapshot.site.asset(asset).is_some_and(|a| a.zone == wanted.zone);
    let touched = open.into_iter().filter(|s| in_zone(&s.asset)).map(|s| Touched {
        cut: !allows(s.window),
        id: s.id,
        person: s.person,
        asset: s.asset,
    });
    Ok(touched.collect())
}

/// Sets it. Sessions that no longer qualify are cut by whoever holds them.
pub(crate) async fn set(
    app: &App,
    viewer: &Viewer,
    wanted: &Wanted,
    proof: Proof<'_>,
) -> Result<(), Failure> {
    let proved = step_up::prove(app, viewer, &wanted.purpose(), proof).await?;
    app.store.set_plant_state(&proved.act, &wanted.zone, wanted.state, &wanted.reason).await?;
    Ok(())
}
