//! Privileged local accounts of a Unix host: read over an account of the vault, changed never.
//!
//! Read are `/etc/passwd` and `/etc/group`, and for each account that a person could log in with: what `sudo -l -U` says,
//! whether it has a password (`passwd -S`), and how many keys `.ssh/authorized_keys` holds. All but the first two take
//! root, or `sudo` for these programs; what cannot be read is said.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::link::{Link, SshTarget, enter_as_helper, plain_login};
use crate::rotation::look::{FoundAccount, Look};
use crate::rotation::reach::{SecretSource, words};
use crate::rotation::rotator::Fault;

/// Groups whose members can become root without asking anybody.
const GROUPS: [&str; 8] = ["root", "sudo", "wheel", "admin", "docker", "lxd", "disk", "shadow"];
/// Shells that let nobody work.
const NO_SHELLS: [&str; 6] = ["nologin", "false", "sync", "halt", "shutdown", "true"];
/// Most accounts that are looked into.
const MOST: usize = 500;
const MARK: &str = "==cofferdam";

/// Looks at one host.
#[derive(Debug, Clone)]
pub struct HostLook {
    /// The host.
    pub target: SshTarget,
    /// The account that it is entered with.
    pub login: String,
    /// Its password or private key.
    pub secret: Arc<dyn SecretSource>,
    /// Whether it takes `sudo` (without a password) or is root itself.
    pub sudo: bool,
}

/// A line of `/etc/passwd`.
struct User {
    login: String,
    uid: u32,
    gid: u32,
    home: String,
    works: bool,
}

impl HostLook {
    /// Looks.
    ///
    /// # Errors
    /// [`Fault`] when the host cannot be entered, or does not show who its users are.
    pub async fn look(&self) -> Result<Look, Fault> {
        let link = enter_as_helper(&self.target, &self.login, self.secret.as_ref()).await?;
        let looked = self.through(&link).await;
        link.leave().await;
        looked
    }

    async fn through(&self, link: &Link) -> Result<Look, Fault> {
        let read = link.run(&format!("cat /etc/passwd && echo {MARK} && cat /etc/group"), b"").await?;
        if read.status != Some(0) {
            let why = words(&read.err, &[]);
            return Err(Fault::Denied(format!("it does not show /etc/passwd and /etc/group: {why}")));
        }
        let mut look = Look::default();
        let text = String::from_utf8_lossy(&read.out);
        let (users, group) = text.split_once(MARK).unwrap_or((&text, ""));
        let users = users_of(users, &mut look.gaps);
        let groups = privileged_groups(group);
        let asked: Vec<&User> = users.iter().filter(|u| u.works || u.uid == 0).collect();
        let read = link.run(&questions(&asked, self.sudo), b"").await?;
        let answers = answers_of(&String::from_utf8_lossy(&read.out));
        judge(&mut look, &users, &groups, &answers);
        Ok(look)
    }
}

/// What the host said of one account.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    sudo: Option<bool>,
    password: Option<bool>,
    keys: Option<u32>,
}

fn users_of(passwd: &str, gaps: &mut Vec<String>) -> Vec<User> {
    let mut users = Vec::new();
    for line in passwd.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [login, _, uid, gid, _, home, shell] = fields.as_slice() else { continue };
        let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse()) else { continue };
        if plain_login(login).is_err() {
            gaps.push(
                "an account has a name that no shell would read as it is; look at /etc/passwd".to_owned(),
            );
            continue;
        }
        let shell = shell.rsplit('/').next().unwrap_or_default();
        // No shell at all is /bin/sh (passwd(5)).
        let works = !NO_SHELLS.contains(&shell);
        users.push(User { login: (*login).to_owned(), uid, gid, home: (*home).to_owned(), works });
    }
    if users.len() > MOST {
        gaps.push(format!("of {} accounts the first {MOST} were looked into", users.len()));
        users.truncate(MOST);
    }
    users
}

/// The members of each privileged group, and its number for those who have it as their first.
fn privileged_groups(text: &str) -> BTreeMap<String, (u32, BTreeSet<String>)> {
    text.lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, gid, members] = fields.as_slice() else { return None };
            let known = GROUPS.contains(name);
            let members = members.split(',').filter(|m| !m.is_empty()).map(str::to_owned).collect();
            gid.parse().ok().filter(|_| known).map(|gid| ((*name).to_owned(), (gid, members)))
        })
        .collect()
}

/// One command that asks about all of them. Only plain names and paths stand in it.
fn questions(users: &[&User], sudo: bool) -> String {
    let root = if sudo { "sudo -n -- " } else { "" };
    let mut script = "LC_ALL=C; export LC_ALL\n".to_owned();
    for user in users {
        let login = &user.login;
        script.push_str(&format!("echo '{MARK} {login}'\n{root}sudo -n -l -U '{login}' 2>&1 | head -n 60\n"));
        script
            .push_str(&format!("echo; echo \"{MARK}-password $({root}passwd -S '{login}' 2>/dev/null)\"\n"));
        if plain_path(&user.home) {
            let file = format!("{}/.ssh/authorized_keys", user.home);
            script.push_str(&format!(
                "n=$({root}grep -cEv '^[[:space:]]*(#|$)' '{file}' 2>/dev/null); r=$?\n\
                 [ $r = 2 ] && [ \"$({root}id -u 2>/dev/null)\" = 0 ] && n=0\necho \"{MARK}-keys $n\"\n"
            ));
        }
    }
    script.push_str("true\n");
    script
}

fn plain_path(path: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '@' | '+');
    path.starts_with('/') && path.len() <= 512 && path.chars().all(plain)
}

fn answers_of(text: &str) -> BTreeMap<String, Answer> {
    let mut answers: BTreeMap<String, Answer> = BTreeMap::new();
    let mut about = String::new();
    for line in text.lines() {
        if let Some(login) = line.strip_prefix(MARK).and_then(|rest| rest.strip_prefix(' ')) {
            about = login.to_owned();
            answers.entry(about.clone()).or_default();
            continue;
        }
        let Some(answer) = answers.get_mut(&about) else { continue };
        if let Some(said) = line.strip_prefix(MARK).and_then(|rest| rest.strip_prefix("-password")) {
            answer.password = match said.split_whitespace().nth(1) {
                Some("P" | "PS" | "NP") => Some(true),
                Some("L" | "LK") => Some(false),
                _ => None,
            };
        } else if let Some(count) = line.strip_prefix(MARK).and_then(|rest| rest.strip_prefix("-keys")) {
            answer.keys = count.trim().parse().ok();
        } else if line.contains(" may run the following commands") {
            answer.sudo = Some(true);
        } else if line.contains(" is not allowed to run sudo") {
            answer.sudo = Some(false);
        }
    }
    answers
}

fn judge(
    look: &mut Look,
    users: &[User],
    groups: &BTreeMap<String, (u32, BTreeSet<String>)>,
    answers: &BTreeMap<String, Answer>,
) {
    let mut unread = 0;
    for user in users {
        let answer = answers.get(&user.login);
        let mut because = Vec::new();
        if user.uid == 0 {
            because.push("uid 0".to_owned());
        }
        for (group, (gid, members)) in groups {
            if (*gid == user.gid && user.uid != 0) || members.contains(&user.login) {
                because.push(format!("group {group}"));
            }
        }
        match answer.map(|a| a.sudo) {
            Some(Some(true)) => because.push("sudo".to_owned()),
            Some(None) if user.uid != 0 => unread += 1,
            _ => {}
        }
        if because.is_empty() || !(user.works || user.uid == 0) {
            continue;
        }
        look.found.push(FoundAccount {
            login: user.login.clone(),
            because,
            keys: answer.and_then(|a| a.keys),
            password: answer.and_then(|a| a.password),
        });
    }
    look.found.sort_by(|a, b| a.login.cmp(&b.login));
    if unread > 0 {
        look.gaps.push(format!(
            "what sudo lets {unread} accounts do could not be read: look as root, or let the account run sudo -l -U, or there \
             is no sudo"
        ));
    }
    if look.found.iter().any(|f| f.keys.is_none() || f.password.is_none()) {
        look.gaps.push("keys and passwords of some accounts could not be read: that takes root".to_owned());
    }
}

/// What a host said, as it is read here: for a fuzzer.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_all(text: &str) -> Look {
    let mut look = Look::default();
    let (passwd, rest) = text.split_once(MARK).unwrap_or((text, ""));
    let users = users_of(passwd, &mut look.gaps);
    let asked: Vec<&User> = users.iter().collect();
    let script = questions(&asked, true);
    assert!(script.lines().count() <= 2 + 6 * users.len(), "a name or a path ended a line");
    judge(&mut look, &users, &privileged_groups(rest), &answers_of(rest));
    look
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\ntoor:x:0:0::/root:/usr/sbin/nologin\n\
        daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\noperator:x:1000:1000::/home/operator:/bin/sh\n\
        vendor:x:1001:27::/home/vendor:\nemil:x:1002:1002::/home/emil:/bin/bash\n\
        evil$(id):x:1003:0::/:/bin/sh\nshort:x:1\n";
    const GROUP: &str = "root:x:0:\nsudo:x:27:operator,gone\ndocker:x:99:emil,daemon\nusers:x:100:emil\n";

    fn looked(answers: &str) -> Look {
        let mut look = Look::default();
        let users = users_of(PASSWD, &mut look.gaps);
        judge(&mut look, &users, &privileged_groups(GROUP), &answers_of(answers));
        look
    }

    #[test]
    fn who_is_root_or_can_become_it_is_found_with_the_reason() {
        let look = looked(
            "==cofferdam root\n==cofferdam-password root P 2026-01-01\n==cofferdam-keys 2\n\
             ==cofferdam operator\nUser operator may run the following commands on hmi:\n    (ALL) ALL\n\
             ==cofferdam-password operator L 2026-01-01\n==cofferdam-keys 0\n\
             ==cofferdam emil\nUser emil is not allowed to run sudo on hmi.\n==cofferdam-keys \n",
        );
        let found: Vec<_> = look.found.iter().map(|f| (f.login.as_str(), f.because.join(", "))).collect();
        assert_eq!(
            found,
            [
                ("emil", "group docker".to_owned()),
                ("operator", "group sudo, sudo".to_owned()),
                ("root", "uid 0".to_owned()),
                ("toor", "uid 0".to_owned()),
                ("vendor", "group sudo".to_owned()),
            ]
        );
        let root = look.found.iter().find(|f| f.login == "root").unwrap();
        assert_eq!((root.keys, root.password), (Some(2), Some(true)));
        let operator = look.found.iter().find(|f| f.login == "operator").unwrap();
        assert_eq!((operator.keys, operator.password), (Some(0), Some(false)));
        assert!(look.gaps.iter().any(|g| g.contains("no shell would read")), "{:?}", look.gaps);
        assert!(look.gaps.iter().any(|g| g.contains("takes root")));
    }

    #[test]
    fn a_name_or_home_that_a_shell_would_read_otherwise_never_stands_in_the_command() {
        let odd = "a;b:x:0:0::/home/$(id):/bin/sh\nfine:x:0:0::/home/`id`:/bin/sh\nx'y:x:0:0::/h:/bin/sh\n";
        let users = users_of(odd, &mut Vec::new());
        let script = questions(&users.iter().collect::<Vec<_>>(), true);
        assert!(!script.contains("$(id)") && !script.contains('`') && !script.contains("a;b"), "{script}");
        assert!(script.contains("sudo -n -l -U 'fine'"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_whatever_makes_it_panic(text in "[a-z:0-9/=, \n$-]{0,400}") {
            read_all(&text);
        }
    }
}
