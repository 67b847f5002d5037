//! What people order live sessions to do. Every way in that knows the person (web, API, command line) comes through here.
//!
//! Who acts was proved by the caller; the [`Act`] says who it was and when.

use crate::{
    audit::Act,
    clock::Timestamp,
    ids::{Name, OrderId, SessionId},
    people::User,
    store::{OrderKind, SessionRecord, Store, StoreError},
};

/// Longest reason or message, characters.
pub const LONGEST_TEXT: usize = 2000;

/// Why an order was not given. Each text says what to do instead.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The person's own session.
    #[error("{0} cannot resume their own session: operations or security can")]
    Own(Name),
    /// They hold no approving duty, or are not active.
    #[error("{0} may not order sessions: operations and security can")]
    NotApproving(Name),
    /// A message without words.
    #[error("the message is empty: say something")]
    Empty,
    /// Too long for a terminal.
    #[error("the text is longer than {LONGEST_TEXT} characters: shorten it")]
    TooLong,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether `person` may let `session` go on: resuming opens, so it takes an approving duty, and never the person whose
/// session it is.
///
/// # Errors
/// Why not.
pub fn may_resume(person: &User, session: &SessionRecord, now: Timestamp) -> Result<(), ControlError> {
    if session.person == person.name {
        return Err(ControlError::Own(person.name.clone()));
    }
    approves(person, now)
}

fn approves(person: &User, now: Timestamp) -> Result<(), ControlError> {
    let approves = person.is_active(now) && person.duties.iter().any(|d| d.approves());
    if approves { Ok(()) } else { Err(ControlError::NotApproving(person.name.clone())) }
}

/// Whether the text of an order can be shown to the person concerned; as it will be shown.
///
/// # Errors
/// Why not.
pub fn text_of(kind: OrderKind, text: &str) -> Result<String, ControlError> {
    if text.chars().count() > LONGEST_TEXT {
        return Err(ControlError::TooLong);
    }
    // It goes to a terminal, where control characters are commands.
    let text: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if kind == OrderKind::Message && text.is_empty() { Err(ControlError::Empty) } else { Ok(text) }
}

/// Gives an order to an open session, as `person`. The node that carries the session obeys within a moment.
///
/// # Errors
/// Refused unless `person` is active and holds an approving duty, and, to resume, is somebody else than whose session it
/// is; when the session is over; when the text cannot be shown.
pub async fn order(
    store: &Store,
    act: &Act,
    person: &User,
    id: SessionId,
    kind: OrderKind,
    text: &str,
) -> Result<OrderId, ControlError> {
    let text = text_of(kind, text)?;
    if kind == OrderKind::Resume {
        may_resume(person, &store.session(id).await?, act.at)?;
    }
    approves(person, act.at)?;
    let order = OrderId::new(act.at, &mut rand::rng());
    store.order(act, order, id, kind, &text).await?;
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_on_a_terminal_commands_nothing_there() {
        assert_eq!(text_of(OrderKind::Message, " stop\x1b[2Jnow\n").unwrap(), "stop [2Jnow");
        assert!(matches!(text_of(OrderKind::Message, " \n"), Err(ControlError::Empty)));
        assert_eq!(text_of(OrderKind::End, "").unwrap(), "");
        let long = "x".repeat(LONGEST_TEXT + 1);
        assert!(matches!(text_of(OrderKind::End, &long), Err(ControlError::TooLong)));
    }
}
