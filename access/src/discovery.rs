//! Privileged accounts that exist on machines, as a look found them, against those that the site describes.

use cofferdam_vault::rotation::{FoundAccount, Look};

use crate::{clock::Timestamp, ids::Name, site::Site};

/// What the last look at an asset found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// The asset.
    pub asset: Name,
    /// When.
    pub at: Timestamp,
    /// What.
    pub look: Look,
}

impl Discovery {
    /// The accounts that the site does not describe. Names differ in case between a directory and those who write about
    /// it, and an account that is disabled here is described all the same.
    pub fn unknown<'a>(&'a self, site: &'a Site) -> impl Iterator<Item = &'a FoundAccount> {
        self.look.found.iter().filter(|found| !is_described(site, &self.asset, &found.login))
    }
}

/// Whether the site describes that account.
pub fn is_described(site: &Site, asset: &Name, login: &str) -> bool {
    site.accounts.iter().filter(|a| &a.asset == asset).any(|a| {
        let bind = a.rotation.as_ref().and_then(|r| r.server.as_ref()).and_then(|s| s.bind_name.as_deref());
        let bind = bind.map(|name| name.split('@').next().unwrap_or(name));
        a.login.as_str().eq_ignore_ascii_case(login) || bind.is_some_and(|b| b.eq_ignore_ascii_case(login))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_site_describes_is_known_whatever_its_case() {
        let site = crate::fixture::site();
        let account = site.accounts.first().unwrap();
        let found = |login: &str| FoundAccount {
            login: login.to_owned(),
            because: vec!["uid 0".into()],
            keys: None,
            password: None,
        };
        let (upper, ghost) = (account.login.to_string().to_uppercase(), "ghost");
        let look = Look { found: vec![found(&upper), found(ghost)], gaps: Vec::new() };
        let discovery = Discovery { asset: account.asset.clone(), at: Timestamp(0), look };
        let unknown: Vec<_> = discovery.unknown(&site).map(|f| f.login.as_str()).collect();
        assert_eq!(unknown, [ghost]);
    }
}
