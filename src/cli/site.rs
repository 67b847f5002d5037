//! The site as code: `apply` and `export`, and the listings of its plain parts.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use cofferdam_access::{apply::Proposal, site::Site};
use serde::Deserialize as _;
use serde_json::json;

use super::{
    desk::{Desk, OnBehalf},
    error::CliError,
    output::{Reply, Table, clean, joined, to_json},
    prompt::Prompt,
};

/// Longest site or policy file, bytes.
const LONGEST_FILE: u64 = 16 << 20;

/// `cofferdam org|zone|conduit …`
#[derive(Debug, Subcommand)]
pub(crate) enum ListCommand {
    /// All of them
    List,
}

/// `cofferdam apply`
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// The site file (TOML); policies stand in it as `text`, or as `file` beside it
    file: PathBuf,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    on_behalf: OnBehalf,
}

/// Makes the site as the file says, after showing what that changes.
pub(crate) async fn apply(desk: &Desk, args: &ApplyArgs, prompt: &mut dyn Prompt) -> Result<Reply, CliError> {
    let wanted = read_site(&args.file)?;
    let proposal = Proposal::new(&desk.site, wanted)?;
    let plan = proposal.plan();
    let shown = clean(plan.to_string().trim_end());
    if plan.is_empty() {
        return Ok(Reply::new(
            "nothing to do: the site is as described",
            json!({"id": "site", "applied": false, "steps": []}),
        ));
    }
    if !args.yes {
        eprintln!("{shown}");
        let question =
            if plan.may_cut_sessions() { "apply this, which may end live sessions?" } else { "apply this?" };
        if !prompt.agreed(question)? {
            return Err(CliError::failed("nothing was applied"));
        }
    }
    let act = desk.act(&args.on_behalf)?;
    proposal.apply(&desk.store, &act).await?;
    let text = if args.yes { format!("{shown}\napplied") } else { "applied".to_owned() };
    Ok(Reply::new(text, json!({"id": "site", "applied": true, "steps": to_json(&plan.steps)?})))
}

/// Writes the site in the form that `apply` takes.
pub(crate) fn export(desk: &Desk) -> Result<Reply, CliError> {
    let text = desk
        .site
        .to_toml()
        .map_err(|e| CliError::failed(format!("the site cannot be written as TOML: {e}")))?;
    Ok(Reply::new(text.trim_end(), to_json(&desk.site)?))
}

/// Reads a site file, and the policy files that it names.
fn read_site(path: &Path) -> Result<Site, CliError> {
    let text = read(path)?;
    let wrong =
        |e: toml::de::Error| CliError::failed(format!("{}: {}", path.display(), e.to_string().trim_end()));
    let mut table: toml::Table = text.parse().map_err(wrong)?;
    let names_files = policies(&mut table).any(|p| p.contains_key("file"));
    if !names_files {
        // Read from the text itself, so that an error can say in which line it is.
        return toml::from_str(&text).map_err(wrong);
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    for policy in policies(&mut table) {
        let Some(file) = policy.remove("file") else { continue };
        let file = file.as_str().ok_or_else(|| CliError::failed("policies: file: give the path as text"))?;
        if policy.contains_key("text") {
            return Err(CliError::failed(format!("the policy of {file} has a text and a file: keep one")));
        }
        policy.insert("text".to_owned(), read(&folder.join(file))?.into());
    }
    Site::deserialize(toml::Value::Table(table)).map_err(wrong)
}

fn policies(table: &mut toml::Table) -> impl Iterator<Item = &mut toml::Table> {
    table
        .get_mut("policies")
        .and_then(toml::Value::as_array_mut)
        .into_iter()
        .flatten()
        .filter_map(toml::Value::as_table_mut)
}

/// A text file of bounded length.
pub(crate) fn read(path: &Path) -> Result<String, CliError> {
    use std::io::Read as _;
    let failed = || CliError::io(path.display().to_string());
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed())?;
    file.take(LONGEST_FILE + 1).read_to_string(&mut text).map_err(failed())?;
    if text.len() as u64 > LONGEST_FILE {
        return Err(CliError::failed(format!("{} is longer than 16 MiB: split it", path.display())));
    }
    Ok(text)
}

/// `cofferdam org list`
pub(crate) fn organisations(desk: &Desk) -> Reply {
    let mut table = Table::new(&["name", "kind", "title", "people"]);
    let mut rows = Vec::new();
    for o in &desk.site.organisations {
        let kind = o.kind.as_str();
        let people: Vec<&str> =
            desk.site.users.iter().filter(|u| u.organisation == o.name).map(|u| u.name.as_str()).collect();
        table.row([o.name.as_str(), kind, &o.title, &people.len().to_string()]);
        rows.push(json!({"id": o.name, "name": o.name, "kind": kind, "title": o.title, "users": people}));
    }
    Reply::list(&table, rows)
}

/// `cofferdam zone list`
pub(crate) async fn zones(desk: &Desk) -> Result<Reply, CliError> {
    let states = desk.store.plant_states().await?;
    let mut table = Table::new(&["name", "state", "critical", "assets", "networks", "title"]);
    let mut rows = Vec::new();
    for z in &desk.site.zones {
        let state = states.iter().find(|s| s.zone == z.name).map_or("production", |s| s.state.as_str());
        let assets: Vec<&str> =
            desk.site.assets.iter().filter(|a| a.zone == z.name).map(|a| a.name.as_str()).collect();
        let critical = if z.critical { "yes" } else { "no" };
        table.row([
            z.name.as_str(),
            state,
            critical,
            &assets.len().to_string(),
            &joined(&z.networks),
            &z.title,
        ]);
        rows.push(json!({
            "id": z.name, "name": z.name, "title": z.title, "state": state, "critical": z.critical,
            "networks": z.networks, "assets": assets,
        }));
    }
    Ok(Reply::list(&table, rows))
}

/// `cofferdam conduit list`
pub(crate) fn conduits(desk: &Desk) -> Reply {
    let mut table = Table::new(&["name", "from", "to", "protocols", "files", "assets"]);
    let mut rows = Vec::new();
    for c in &desk.site.conduits {
        let direction = c.direction.as_str();
        let assets = if c.assets.is_empty() { "all of the zone".to_owned() } else { joined(&c.assets) };
        let protocols: Vec<&str> = c.protocols.iter().map(|p| p.as_str()).collect();
        table.row([c.name.as_str(), c.from.as_str(), c.to.as_str(), &joined(&protocols), direction, &assets]);
        rows.push(json!({
            "id": c.name, "name": c.name, "from": c.from, "to": c.to, "protocols": protocols, "direction": direction,
            "assets": c.assets,
        }));
    }
    Reply::list(&table, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_may_stand_in_a_file_beside_the_site_file() {
        let dir = tempfile::tempdir().unwrap();
        let site = dir.path().join("site.toml");
        std::fs::write(dir.path().join("own.cedar"), "forbid(principal, action, resource);").unwrap();
        std::fs::write(&site, "[[policies]]\nname = \"own\"\nfile = \"own.cedar\"\n").unwrap();
        assert_eq!(read_site(&site).unwrap().policies[0].text, "forbid(principal, action, resource);");
        std::fs::write(&site, "[[policies]]\nname = \"own\"\nfile = \"own.cedar\"\ntext = \"\"\n").unwrap();
        assert!(read_site(&site).unwrap_err().to_string().contains("keep one"));
        std::fs::write(&site, "[[policies]]\nname = \"own\"\nfile = \"none.cedar\"\n").unwrap();
        assert!(read_site(&site).unwrap_err().to_string().contains("none.cedar"));
    }

    #[test]
    fn an_unknown_key_is_an_error_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let site = dir.path().join("site.toml");
        std::fs::write(&site, "[settings]\n\nidle = 1\n").unwrap();
        let said = read_site(&site).unwrap_err().to_string();
        assert!(said.contains("line 3") && said.contains("idle"), "{said}");
    }
}
