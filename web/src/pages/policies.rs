//! The policies in force, and *what if*: a question to them, answered as they would decide.

use askama::Template;
use axum::{
    extract::{Query, State},
    response::Response,
};
use cofferdam_access::{
    decision::{DecisionRecord, Outcome},
    policy::PolicyText,
    site::{PlantState, Protocol},
};

use crate::{
    admin::policies::{self, Asked},
    error::Failure,
    frame::{self, Frame, Moment},
    routes::{Routes, SITE_READERS},
    services::App,
    viewer::Viewer,
};

pub(crate) fn routes(routes: Routes) -> Routes {
    routes.get("/policies", SITE_READERS, show)
}

struct Answer {
    outcome: Outcome,
    at: Moment,
    reasons: Vec<String>,
    policies: Vec<String>,
    plant_state: &'static str,
    window: String,
    conduit: String,
}

impl Answer {
    fn tone(&self) -> &'static str {
        match self.outcome {
            Outcome::Permit => "n-ok",
            Outcome::NeedsWindow => "n-warn",
            Outcome::Deny => "n-error",
        }
    }

    fn title(&self) -> &'static str {
        match self.outcome {
            Outcome::Permit => "Yes. It would be allowed.",
            Outcome::NeedsWindow => "Not without a window. Everything else fits.",
            Outcome::Deny => "No. It would be refused.",
        }
    }
}

#[derive(Template)]
#[template(path = "policies.html")]
struct PoliciesPage {
    frame: Frame,
    asked: Asked,
    people: Vec<String>,
    assets: Vec<String>,
    protocols: Vec<&'static str>,
    states: Vec<&'static str>,
    answer: Option<Answer>,
    problem: Option<String>,
    policies: Vec<PolicyText>,
    broken: Option<String>,
    digest_parts: Vec<String>,
}

async fn show(
    State(app): State<App>,
    viewer: Viewer,
    Query(mut asked): Query<Asked>,
) -> Result<Response, Failure> {
    let frame = Frame::new(&app, &viewer, "/policies");
    let snapshot = app.snapshot();
    let (answer, problem) = if asked.user.is_empty() {
        asked.source = viewer.address().to_string();
        (None, None)
    } else {
        match policies::read(&app, &asked) {
            Ok(question) => (Some(said(&frame, policies::answer(&app, &question))), None),
            Err(Failure::Invalid(text)) => (None, Some(text)),
            Err(other) => return Err(other),
        }
    };
    let page = PoliciesPage {
        people: snapshot.site.users.iter().map(|u| u.name.to_string()).collect(),
        assets: snapshot.site.assets.iter().map(|a| a.name.to_string()).collect(),
        protocols: Protocol::ALL.map(Protocol::as_str).to_vec(),
        states: PlantState::ALL.map(PlantState::as_str).to_vec(),
        policies: snapshot.policies.texts(),
        broken: snapshot.policies.problem().map(ToString::to_string),
        digest_parts: frame::grouped(snapshot.policies.digest()),
        answer,
        problem,
        asked,
        frame,
    };
    frame::page(&page)
}

fn said(frame: &Frame, record: DecisionRecord) -> Answer {
    Answer {
        outcome: record.outcome,
        at: frame.at(&record.at),
        plant_state: record.context.plant_state.map_or("unknown", PlantState::as_str),
        window: record.context.window.map_or_else(|| "none".to_owned(), |w| w.to_string()),
        conduit: record.context.conduit.map_or_else(|| "none".to_owned(), |c| c.to_string()),
        reasons: record.reasons,
        policies: record.policies,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Site;

    const QUESTION: &str = "/policies?user=vera&asset=pump-hmi&source=127.0.0.1";

    #[tokio::test]
    async fn what_if_answers_with_the_deciding_policies_and_opens_nothing() {
        let site = Site::new().await;
        let sam = site.log_in("sam").await;
        let head = site.store().head().await.unwrap();
        let shown = sam.get(QUESTION).await;
        assert!(shown.text.contains("Not without a window"), "{}", shown.text);
        assert!(shown.text.contains("cofferdam:window-required"));
        site.approved(|_| ()).await;
        let shown = sam.get(QUESTION).await;
        assert!(shown.text.contains("Yes. It would be allowed."), "{}", shown.text);
        let without = sam.get(&format!("{QUESTION}&second_factor=none")).await;
        assert!(
            without.text.contains("No. It would be refused.")
                && without.text.contains("second-factor-required")
        );
        let sessions = site.store().sessions(&Default::default()).await.unwrap();
        assert!(sessions.is_empty() && head.is_some());
    }

    #[tokio::test]
    async fn a_supposed_emergency_refuses_what_is_open_now() {
        let site = Site::new().await;
        site.approved(|_| ()).await;
        let sam = site.log_in("sam").await;
        let shown = sam.get(&format!("{QUESTION}&plant_state=emergency")).await;
        assert!(shown.text.contains("plant-state-must-be-allowed"), "{}", shown.text);
    }

    #[tokio::test]
    async fn a_question_about_the_past_or_without_an_address_is_told_what_to_do() {
        let site = Site::new().await;
        let sam = site.log_in("sam").await;
        let shown = sam.get(&format!("{QUESTION}&at=2020-01-01T10:00")).await;
        assert!(shown.text.contains("ask about now or later"), "{}", shown.text);
        let shown = sam.get("/policies?user=vera&asset=pump-hmi&source=nowhere").await;
        assert!(shown.text.contains("give the address"));
    }

    #[tokio::test]
    async fn vendors_and_engineers_do_not_read_the_policies() {
        let site = Site::new().await;
        for person in ["vera", "emil"] {
            assert_eq!(site.log_in(person).await.get("/policies").await.status, 403);
        }
    }

    #[test]
    fn the_page_renders_with_what_people_typed_escaped() {
        let frame = Frame::sample("/policies");
        let page = PoliciesPage {
            asked: Asked { user: "\"><script>".into(), at: "\"><script>".into(), ..Asked::default() },
            people: vec!["vera".into()],
            assets: vec!["plc-7".into()],
            protocols: vec!["ssh"],
            states: vec!["production"],
            answer: Some(Answer {
                outcome: Outcome::Deny,
                at: frame.at(&frame.now),
                reasons: vec!["<script>".into()],
                policies: vec!["own:<script>".into()],
                plant_state: "production",
                window: "none".into(),
                conduit: "<script>".into(),
            }),
            problem: Some("<script>".into()),
            policies: vec![PolicyText {
                id: "own:x".into(),
                shipped: false,
                forbids: true,
                reason: Some("<script>".into()),
                text: "forbid(principal, action, resource); // <script>".into(),
            }],
            broken: Some("<script>".into()),
            digest_parts: frame::grouped(&"0".repeat(64)),
            frame,
        };
        assert!(!page.render().unwrap().contains("<script>"));
    }
}
