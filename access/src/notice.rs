//! Who is told what happens to a window, and what was found in a session: pure. A message only tells; its link opens a page,
//! and decides nothing.

use serde::{Deserialize, Serialize};

use crate::{
    audit::{Act, AuditKind},
    checkout::{Checkout, OTHERS},
    ids::Name,
    local_time::SiteZone,
    people::{Duty, User},
    site::Settings,
    store::FindingRecord,
    window::{Standing, Window},
};

/// Characters of a finding's text that a mail quotes.
const QUOTED: usize = 300;

/// How a message goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// E-mail to one person.
    Mail,
    /// A request to the program that the operator named.
    Webhook,
}

impl Channel {
    /// As kept.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mail => "mail",
            Self::Webhook => "webhook",
        }
    }
}

impl std::str::FromStr for Channel {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        [Self::Mail, Self::Webhook]
            .into_iter()
            .find(|c| c.as_str() == s)
            .ok_or_else(|| format!("{s:?} is no channel"))
    }
}

/// An e-mail, but for the address of the page that its link opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mail {
    /// To whom.
    pub to: String,
    /// In a few words; nothing that somebody typed.
    pub subject: String,
    /// What happened.
    pub text: String,
    /// The page to open, from the interface's root.
    pub path: String,
}

/// What a program is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What happened, as the audit log names it.
    pub event: String,
    /// When, RFC 3339.
    pub at: String,
    /// Who, as the audit log writes it.
    pub actor: String,
    /// To what.
    pub subject: String,
    /// The page about it, from the interface's root.
    pub path: String,
    /// Details.
    pub details: serde_json::Value,
}

/// A message to be kept and sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// See [`Mail`].
    Mail(Mail),
    /// See [`Event`].
    Webhook(Event),
}

impl Message {
    /// How it goes out.
    pub fn channel(&self) -> Channel {
        match self {
            Self::Mail(_) => Channel::Mail,
            Self::Webhook(_) => Channel::Webhook,
        }
    }
}

/// The messages about what `act` did to `window`, whatever channels there are.
pub fn of_window(
    kind: AuditKind,
    act: &Act,
    window: &Window,
    people: &[User],
    settings: &Settings,
) -> Vec<Message> {
    let mut messages = vec![Message::Webhook(event(kind, act, window))];
    let Some((subject, what, page)) = words(kind, window) else { return messages };
    let request = &window.request;
    let concerned = |user: &&User| {
        let own = request.requested_by == user.name || request.users.contains(&user.name);
        let told = match kind {
            AuditKind::WindowRequested => !own && user.duties.iter().any(|d| d.approves()),
            _ => own,
        };
        told && !user.email.is_empty() && user.is_active(act.at) && user.name.as_str() != act.actor.as_str()
    };
    let text = format!("{what}\n\n{}", summary(window, people, settings));
    let path = format!("/{page}/{}", window.id());
    messages.extend(people.iter().filter(concerned).map(|user| {
        let (to, subject, text, path) = (user.email.clone(), subject.clone(), text.clone(), path.clone());
        Message::Mail(Mail { to, subject, text, path })
    }));
    messages
}

/// Subject, first line and page of an e-mail about it; none where nobody gets one.
fn words(kind: AuditKind, window: &Window) -> Option<(String, String, &'static str)> {
    let who = &window.request.requested_by;
    let said = |subject: &str, text: String, page| Some((format!("Cofferdam: {subject}"), text, page));
    match (kind, &window.standing) {
        (AuditKind::WindowRequested, _) => {
            said("a window waits for approval", format!("{who} asks for a window."), "approvals")
        }
        (AuditKind::WindowApproved, Standing::Approved) => {
            let remarks = window.approvals.iter().filter_map(|a| Some((&a.by, a.remark.as_ref()?)));
            let remarks: String = remarks.map(|(by, said)| format!("\n{by} remarks: {said}")).collect();
            let text = format!("Your window is approved by two people.{remarks}");
            said("your window is approved", text, "windows")
        }
        (AuditKind::WindowRefused, Standing::Refused { by, reason, suggested, .. }) => {
            let more =
                if suggested.is_some() { "\nOther times were suggested: the page shows them." } else { "" };
            said("your window is refused", format!("{by} refused your window: {reason}{more}"), "windows")
        }
        (AuditKind::WindowRevoked, Standing::Revoked { by, reason, .. }) => {
            said("your window is revoked", format!("{by} ended your window: {reason}"), "windows")
        }
        (AuditKind::WindowShortened, _) => {
            said("your window ends earlier", "The end of your window was brought forward.".into(), "windows")
        }
        _ => None,
    }
}

fn summary(window: &Window, people: &[User], settings: &Settings) -> String {
    let request = &window.request;
    let zone = SiteZone::new(&settings.time_zone).ok();
    let show = |at: crate::clock::Timestamp| zone.as_ref().map_or_else(|| at.to_string(), |z| z.show(at));
    let full = people.iter().find(|u| u.name == request.requested_by).map(|u| u.full_name.as_str());
    let names: Vec<String> = request
        .accounts
        .iter()
        .map(ToString::to_string)
        .chain(request.forwards.iter().map(Name::to_string))
        .collect();
    format!(
        "Asked for by: {} ({})\nLeads to: {}\nFrom: {}\nUntil: {}\nPurpose: {}\nWork order: {}",
        full.filter(|f| !f.is_empty()).unwrap_or(request.requested_by.as_str()),
        request.requested_by,
        names.join(", "),
        show(request.start),
        show(window.effective_end()),
        request.purpose,
        if request.work_order.is_empty() { "none" } else { &request.work_order },
    )
}

fn event(kind: AuditKind, act: &Act, window: &Window) -> Event {
    let request = &window.request;
    let missing = match (&window.standing, window.approvals.first()) {
        (Standing::Requested, Some(first)) if first.duty == Duty::Operations => Some(Duty::Security),
        (Standing::Requested, Some(_)) => Some(Duty::Operations),
        _ => None,
    };
    Event {
        event: kind.as_str().to_owned(),
        at: act.at.to_string(),
        actor: act.actor.as_str().to_owned(),
        subject: request.id.to_string(),
        path: format!("/windows/{}", request.id),
        details: serde_json::json!({
            "state": window.standing.as_str(),
            "requested_by": request.requested_by,
            "users": request.users,
            "accounts": request.accounts,
            "forwards": request.forwards,
            "operations": request.operations,
            "purpose": request.purpose,
            "work_order": request.work_order,
            "start": request.start.to_string(),
            "end": window.effective_end().to_string(),
            "digest": request.digest().to_string(),
            "missing": missing.map(Duty::as_str),
        }),
    }
}

/// The messages about what `act` did to a check-out: an event for a program, and mails to those who have to agree (`waits`) and,
/// when they have, to whoever asked.
pub fn of_checkout(
    kind: AuditKind,
    act: &Act,
    checkout: &Checkout,
    waits: bool,
    people: &[User],
) -> Vec<Message> {
    let request = &checkout.request;
    let path = format!("/checkouts/{}", request.id);
    let mut messages = vec![Message::Webhook(Event {
        event: kind.as_str().to_owned(),
        at: act.at.to_string(),
        actor: act.actor.as_str().to_owned(),
        subject: request.id.to_string(),
        path: path.clone(),
        details: serde_json::json!({
            "state": checkout.standing.as_str(),
            "account": request.account,
            "person": request.person,
            "reason": request.reason,
            "seconds": request.seconds,
            "until": checkout.shown.as_ref().map(|s| s.until.to_string()),
        }),
    })];
    let (own, subject, first) = match kind {
        AuditKind::CheckoutRequested if waits => {
            (false, "somebody asks to see a secret", format!("{} asks to see a secret.", request.person))
        }
        AuditKind::CheckoutAgreed if checkout.agreed(|_, _| true) >= OTHERS => {
            (true, "you may see the secret", "Two people agreed that you see a secret.".to_owned())
        }
        _ => return messages,
    };
    let told = |user: &&User| {
        let asked = user.name == request.person;
        let concerned = if own { asked } else { !asked && user.duties.iter().any(|d| d.approves()) };
        concerned && !user.email.is_empty() && user.is_active(act.at)
    };
    let text = format!("{first}\n\nAccount: {}\nReason: {}", request.account, request.reason);
    messages.extend(people.iter().filter(told).map(|user| {
        let (to, subject) = (user.email.clone(), format!("Cofferdam: {subject}"));
        Message::Mail(Mail { to, subject, text: text.clone(), path: path.clone() })
    }));
    messages
}

/// How far messages may still go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// They may.
    Free,
    /// This one may, and none after it for a while: it says so.
    Last,
    /// They may not.
    Reached,
}

impl Bound {
    /// After `sent` of at most `most`.
    pub fn after(sent: u64, most: u64) -> Self {
        match sent.saturating_add(1) {
            next if next < most => Self::Free,
            next if next == most => Self::Last,
            _ => Self::Reached,
        }
    }
}

/// Whether somebody has to hear of a finding at once: it is bad, or something was done about it.
pub fn matters(severity: &str, response: &str) -> bool {
    !matches!(severity, "info" | "low") || response != "notify"
}

/// The messages about something that a trigger saw: an event for a program, and mails to those who watch sessions.
/// `session`: whose it was, and on which account.
pub fn of_finding(
    act: &Act,
    finding: &FindingRecord,
    session: Option<&(Name, String)>,
    people: &[User],
    mail: Bound,
    event: Bound,
) -> Vec<Message> {
    let path = finding.session.map_or_else(|| "/live".to_owned(), |id| format!("/live/{id}"));
    let mut messages = Vec::new();
    if event != Bound::Reached {
        messages.push(Message::Webhook(Event {
            event: AuditKind::Finding.as_str().to_owned(),
            at: finding.at.to_string(),
            actor: act.actor.as_str().to_owned(),
            subject: finding.session.map_or_else(|| finding.id.to_string(), |id| id.to_string()),
            path: path.clone(),
            details: serde_json::json!({
                "finding": finding.id.to_string(),
                "trigger": finding.trigger,
                "severity": finding.severity,
                "text": finding.text,
                "response": finding.response,
                "person": session.map(|(person, _)| person),
                "account": session.map(|(_, account)| account),
                "last_for_an_hour": event == Bound::Last,
            }),
        }));
    }
    if mail == Bound::Reached {
        return messages;
    }
    let told = |user: &&User| {
        user.duties.iter().any(|d| d.approves())
            && !user.email.is_empty()
            && user.is_active(act.at)
            && session.is_none_or(|(person, _)| *person != user.name)
    };
    let subject = format!("Cofferdam: a finding of {} severity", finding.severity);
    let text = finding_text(finding, session, mail);
    messages.extend(people.iter().filter(told).map(|user| {
        let (to, subject, text, path) = (user.email.clone(), subject.clone(), text.clone(), path.clone());
        Message::Mail(Mail { to, subject, text, path })
    }));
    messages
}

fn finding_text(finding: &FindingRecord, session: Option<&(Name, String)>, mail: Bound) -> String {
    let clean = |c: char| if crate::window::text::unsafe_to_show(c) { ' ' } else { c };
    let seen: String = finding.text.chars().map(clean).take(QUOTED).collect();
    let done = match finding.response.as_str() {
        "notify" => "nothing: it is for you to judge",
        "suspend" => "the session was suspended",
        "end" => "the session was ended",
        other => other,
    };
    let who = session.map_or("nobody's session", |(person, _)| person.as_str());
    let account = session.map_or("no account", |(_, account)| account);
    let last = match mail {
        Bound::Last => {
            "\n\nThere were many findings within an hour: no more mail about them for a while. The page has all."
        }
        Bound::Free | Bound::Reached => "",
    };
    format!(
        "A trigger saw something in a session.\n\nPerson: {who}\nAccount: {account}\nTrigger: {}\nSeverity: {}\nSeen: {seen}\n\
         Done about it: {done}{last}",
        finding.trigger, finding.severity,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checkout::CheckoutRequest,
        fixture::{NOON, approved, asked, name, site},
    };

    fn people() -> Vec<User> {
        let mut people = site().users;
        people.iter_mut().for_each(|u| u.email = format!("{}@plant.example", u.name));
        people
    }

    fn told(kind: AuditKind, who: &str, window: &Window) -> Vec<String> {
        let act = Act::person(&name(who), NOON);
        of_window(kind, &act, window, &people(), &site().settings)
            .into_iter()
            .filter_map(|m| match m {
                Message::Mail(mail) => Some(mail.to),
                Message::Webhook(_) => None,
            })
            .collect()
    }

    #[test]
    fn a_request_is_told_to_those_who_may_decide_on_it() {
        let window = Window::requested(asked());
        let who = told(AuditKind::WindowRequested, "vera", &window);
        assert_eq!(
            who,
            ["olga@plant.example", "otto@plant.example", "sam@plant.example", "both@plant.example"]
        );
        let mut own = asked();
        own.users.insert(name("sam"));
        assert!(
            !told(AuditKind::WindowRequested, "vera", &Window::requested(own))
                .contains(&"sam@plant.example".into())
        );
    }

    #[test]
    fn the_person_hears_of_the_second_approval_only() {
        let both = approved(asked(), NOON);
        assert_eq!(told(AuditKind::WindowApproved, "sam", &both), ["vera@plant.example"]);
        let one = Window { standing: Standing::Requested, ..both };
        assert!(told(AuditKind::WindowApproved, "olga", &one).is_empty());
    }

    #[test]
    fn those_who_have_to_agree_hear_of_a_request_and_whoever_asked_of_the_second_yes() {
        let (account, olga) = (crate::fixture::account("root@pump-hmi"), name("olga"));
        let request = CheckoutRequest::new(&account, &olga, 3600, "it hangs", NOON, &mut rand::rng());
        let mut checkout = Checkout::requested(request);
        let told = |kind, checkout: &Checkout, waits| -> Vec<String> {
            let act = Act::person(&name("olga"), NOON);
            let all = of_checkout(kind, &act, checkout, waits, &people());
            assert!(matches!(&all[0], Message::Webhook(e) if e.details["reason"] == "it hangs"));
            let mails = all.into_iter().filter_map(|m| match m {
                Message::Mail(mail) => Some(mail.to),
                Message::Webhook(_) => None,
            });
            mails.collect()
        };
        let asked = told(AuditKind::CheckoutRequested, &checkout, true);
        assert_eq!(asked, ["otto@plant.example", "sam@plant.example", "both@plant.example"]);
        assert!(told(AuditKind::CheckoutRequested, &checkout, false).is_empty(), "nobody has to agree");
        let digest = checkout.request.digest();
        for (who, duty) in [("otto", Duty::Operations), ("sam", Duty::Security)] {
            assert!(told(AuditKind::CheckoutAgreed, &checkout, false).is_empty());
            checkout.agree(&crate::fixture::person(who), duty, digest, "", NOON).unwrap();
        }
        assert_eq!(told(AuditKind::CheckoutAgreed, &checkout, false), ["olga@plant.example"]);
    }

    fn found(severity: &str, text: &str) -> FindingRecord {
        FindingRecord {
            id: crate::ids::FindingId::new(NOON, &mut rand::rng()),
            session: Some(crate::ids::SessionId::new(NOON, &mut rand::rng())),
            at: NOON,
            trigger: "command_pattern".into(),
            severity: severity.into(),
            text: text.into(),
            response: "suspend".into(),
        }
    }

    #[test]
    fn those_who_watch_sessions_hear_of_a_finding_but_for_whose_session_it_is() {
        let act = Act::system("detect", NOON);
        let finding = found("high", "stops \u{1b}[2J the pump \u{202e}");
        let session = (name("sam"), "root@pump-hmi".to_owned());
        let tell = |mail, event| of_finding(&act, &finding, Some(&session), &people(), mail, event);
        let all = tell(Bound::Free, Bound::Free);
        let mails: Vec<&Mail> = all
            .iter()
            .filter_map(|m| match m {
                Message::Mail(mail) => Some(mail),
                Message::Webhook(_) => None,
            })
            .collect();
        let to: Vec<&str> = mails.iter().map(|m| m.to.as_str()).collect();
        assert_eq!(to, ["olga@plant.example", "otto@plant.example", "both@plant.example"]);
        let mail = mails[0];
        assert!(mail.path.starts_with("/live/") && mail.text.contains("the session was suspended"));
        assert!(!mail.text.contains(['\u{1b}', '\u{202e}']) && !mail.subject.contains("pump"), "{mail:?}");
        assert_eq!(all.len(), mails.len() + 1, "and one for a program");
        assert_eq!(tell(Bound::Reached, Bound::Free).len(), 1);
        assert!(tell(Bound::Reached, Bound::Reached).is_empty());
        let last = tell(Bound::Last, Bound::Reached);
        assert!(matches!(&last[0], Message::Mail(m) if m.text.contains("no more mail")));
    }

    #[test]
    fn what_is_low_and_only_noted_wakes_nobody() {
        assert!(!matters("low", "notify") && matters("low", "suspend") && matters("high", "notify"));
        assert_eq!(
            [Bound::after(0, 2), Bound::after(1, 2), Bound::after(2, 2)],
            [Bound::Free, Bound::Last, Bound::Reached]
        );
    }

    #[test]
    fn nobody_is_told_what_they_did_themselves() {
        let mut window = approved(asked(), NOON);
        window.revoke(&crate::fixture::person("vera"), "done early", NOON).unwrap();
        assert!(told(AuditKind::WindowRevoked, "vera", &window).is_empty());
        assert_eq!(told(AuditKind::WindowRevoked, "sam", &window), ["vera@plant.example"]);
    }
}
