//! Small changes of a site, as forms and programs ask for them. Each is turned into the whole site that is wanted, so that it
//! is checked, shown and applied like any other.

use serde::{Deserialize, Serialize};

use super::{Proposal, ProposalError};
use crate::{
    ids::Name,
    people::{Organisation, User},
    site::Site,
};

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Edit {
    /// The whole site.
    Site(Box<Site>),
    /// A person, new or as they shall be.
    User(User),
    /// A person goes.
    RemoveUser(Name),
    /// A person may no longer act; their sessions end.
    Disable(Name),
    /// A disabled person may act again.
    Enable(Name),
    /// An organisation, new or as it shall be.
    Organisation(Organisation),
    /// An organisation goes.
    RemoveOrganisation(Name),
    /// Whether sessions on an asset need somebody who watches.
    Supervision {
        /// The asset.
        asset: Name,
        /// They do.
        on: bool,
    },
}

impl Edit {
    /// The site with this change.
    ///
    /// # Errors
    /// When there is nothing of that name to change.
    pub fn applied_to(self, current: &Site) -> Result<Site, ProposalError> {
        let mut site = current.clone();
        match self {
            Self::Site(wanted) => return Ok(*wanted),
            Self::User(user) => put(&mut site.users, user, |u| &u.name),
            Self::Organisation(one) => put(&mut site.organisations, one, |o| &o.name),
            Self::RemoveUser(name) => take(&mut site.users, "user", &name, |u| &u.name)?,
            Self::RemoveOrganisation(name) => {
                take(&mut site.organisations, "organisation", &name, |o| &o.name)?;
            }
            Self::Disable(name) => set_disabled(&mut site, &name, true)?,
            Self::Enable(name) => set_disabled(&mut site, &name, false)?,
            Self::Supervision { asset, on } => {
                let known = site.assets.iter_mut().find(|a| a.name == asset);
                known.ok_or_else(|| none("asset", &asset))?.supervised = on;
            }
        }
        Ok(site)
    }

    /// The proposal to make this change.
    ///
    /// # Errors
    /// When there is nothing of that name, or the site would make no sense.
    pub fn proposed(self, current: &Site) -> Result<Proposal, ProposalError> {
        Proposal::new(current, self.applied_to(current)?)
    }
}

fn put<T>(items: &mut Vec<T>, item: T, name: impl Fn(&T) -> &Name) {
    match items.iter().position(|i| name(i) == name(&item)).and_then(|at| items.get_mut(at)) {
        Some(place) => *place = item,
        None => items.push(item),
    }
}

fn take<T>(
    items: &mut Vec<T>,
    kind: &'static str,
    gone: &Name,
    name: impl Fn(&T) -> &Name,
) -> Result<(), ProposalError> {
    let before = items.len();
    items.retain(|i| name(i) != gone);
    if items.len() < before { Ok(()) } else { Err(none(kind, gone)) }
}

fn set_disabled(site: &mut Site, name: &Name, disabled: bool) -> Result<(), ProposalError> {
    let user = site.users.iter_mut().find(|u| &u.name == name).ok_or_else(|| none("user", name))?;
    user.disabled = disabled;
    Ok(())
}

fn none(kind: &'static str, name: &Name) -> ProposalError {
    ProposalError::NoSuch { kind, name: name.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixture, people::Duty};

    fn name(s: &str) -> Name {
        Name::new(s).unwrap()
    }

    fn with_duty(site: &Site, who: &str, duty: Duty) -> Edit {
        let mut user = site.user(&name(who)).unwrap().clone();
        user.duties.insert(duty);
        Edit::User(user)
    }

    #[test]
    fn nobody_gives_themselves_a_duty_or_takes_their_own_end_away() {
        let site = fixture::site();
        let who = site.users.first().unwrap().name.clone();
        let missing = Duty::ALL.into_iter().find(|d| !site.users[0].duties.contains(d)).unwrap();
        let own = with_duty(&site, who.as_str(), missing).proposed(&site).unwrap();
        assert!(own.refusal_for(&who).unwrap().contains("own duties"));
        assert_eq!(own.refusal_for(&name("somebody-else")), None);
        for edit in [Edit::Disable(who.clone()), Edit::RemoveUser(who.clone())] {
            let proposal = edit.proposed(&site);
            assert!(proposal.unwrap().refusal_for(&who).is_some());
        }
    }

    #[test]
    fn a_harmless_change_of_oneself_is_allowed() {
        let site = fixture::site();
        let mut user = site.users.first().unwrap().clone();
        user.email = "new@example.org".into();
        let who = user.name.clone();
        assert_eq!(Edit::User(user).proposed(&site).unwrap().refusal_for(&who), None);
    }

    #[test]
    fn what_is_agreed_to_changes_with_the_site_it_starts_from() {
        let site = fixture::site();
        let who = site.users.first().unwrap().name.clone();
        let edit = || with_duty(&site, who.as_str(), Duty::Security);
        let mut other = site.clone();
        other.users[0].email = "changed@example.org".into();
        assert_ne!(
            edit().proposed(&site).unwrap().digest(),
            edit().proposed(&other).unwrap().digest(),
            "the plan from another site is another plan"
        );
    }

    #[test]
    fn what_is_not_there_cannot_be_changed() {
        let site = fixture::site();
        let supervision = Edit::Supervision { asset: name("nobody"), on: true };
        for edit in [Edit::Disable(name("nobody")), Edit::RemoveOrganisation(name("nobody")), supervision] {
            assert!(edit.proposed(&site).unwrap_err().to_string().contains("nobody"));
        }
    }
}
