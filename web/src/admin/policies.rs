//! *What if*: a question to the policies, answered as they would decide. Nothing is opened and nothing is written.

use cofferdam_access::{
    decision::{DecisionRecord, DeviceKind},
    ids::{Login, Name},
    policy::{WhatIf, what_if},
    site::{PlantState, Protocol},
};
use serde::Deserialize;

use crate::{error::Failure, frame::Clock, services::App};

/// A question as somebody typed it.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct Asked {
    /// Who wants to connect.
    pub(crate) user: String,
    /// To which asset.
    pub(crate) asset: String,
    /// As which account there; empty: the asset's default.
    pub(crate) login: String,
    /// By which protocol; empty: the asset's first.
    pub(crate) protocol: String,
    /// From which address.
    pub(crate) source: String,
    /// When, in the site's zone; empty: now.
    pub(crate) at: String,
    /// The plant's state in the asset's zone; empty: as it is.
    pub(crate) plant_state: String,
    /// `fresh` (or empty) or `none`: whether a second factor is given.
    pub(crate) second_factor: String,
}

fn invalid(text: impl Into<String>) -> Failure {
    Failure::Invalid(text.into())
}

/// Reads the question. A moment in the past is refused: what was decided then stands in its record.
pub(crate) fn read(app: &App, asked: &Asked) -> Result<WhatIf, Failure> {
    let snapshot = app.snapshot();
    let name = |text: &str, what: &str| Name::new(text).map_err(|_| invalid(format!("name the {what}")));
    let asset = name(&asked.asset, "asset")?;
    let first = snapshot.site.asset(&asset).and_then(|a| a.endpoints.first()).map(|e| e.protocol);
    let protocol = match asked.protocol.as_str() {
        "" => first.unwrap_or(Protocol::Ssh),
        text => Protocol::ALL
            .into_iter()
            .find(|p| p.as_str() == text)
            .ok_or_else(|| invalid(format!("{text:?} is no protocol that an endpoint can have")))?,
    };
    let plant_state =
        match asked.plant_state.as_str() {
            "" => None,
            text => Some(PlantState::ALL.into_iter().find(|s| s.as_str() == text).ok_or_else(|| {
                invalid("the plant's state is production, maintenance, shutdown or emergency")
            })?),
        };
    let now = app.now();
    let at = match asked.at.trim() {
        "" => now,
        text => {
            let clock = Clock::new(&snapshot.site.settings.time_zone);
            clock.zone()?.parse(text, now).map_err(Failure::invalid)?
        }
    };
    // A form says minutes: the present one counts as now.
    let at = if at < now && now.since(at) < 60_000_000 { now } else { at };
    if at < now {
        return Err(invalid(
            "ask about now or later: what was decided before stands in the session's record",
        ));
    }
    let login = match asked.login.trim() {
        "" => None,
        text => Some(Login::new(text).map_err(|_| invalid("that cannot be an account's login"))?),
    };
    Ok(WhatIf {
        user: name(&asked.user, "person")?,
        asset,
        login,
        protocol,
        source: asked
            .source
            .trim()
            .parse()
            .map_err(|_| invalid("give the address that the person would come from, such as 192.0.2.7"))?,
        at,
        plant_state,
        first: DeviceKind::Key,
        second_age: match asked.second_factor.as_str() {
            "" | "fresh" => Some(0),
            "none" => None,
            _ => return Err(invalid("the second factor is fresh or none")),
        },
    })
}

/// The answer.
pub(crate) fn answer(app: &App, question: &WhatIf) -> DecisionRecord {
    what_if(&app.snapshot(), question, &mut rand::rng())
}
