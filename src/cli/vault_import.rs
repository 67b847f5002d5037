//! Taking secrets over from elsewhere: shown first, kept after a yes; what cannot be taken is named, row by row.

use std::path::PathBuf;

use async_trait::async_trait;
use clap::Args;
use cofferdam_access::{
    audit::Act,
    ids::{Login, Name},
    site::{AccountRef, Credential},
};
use cofferdam_vault::{
    Sealer, SecretString,
    import::{
        Fault, ImportPort, Plan, Row, SecretKind, apply, read_csv, read_file, read_hashicorp, read_keepass,
    },
};
use serde_json::json;

use super::{
    desk::{Desk, OnBehalf},
    error::CliError,
    output::{Reply, Table},
    prompt::{Prompt, StandardInput, Terminal},
};
use crate::context::account_binding;

/// From where, and whether it is agreed to.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// A CSV file whose first line names the columns asset, login and secret
    #[arg(long, value_name = "FILE", group = "from", required = true)]
    csv: Option<PathBuf>,
    /// A KeePass database; its password is asked for
    #[arg(long, value_name = "FILE", group = "from")]
    keepass: Option<PathBuf>,
    /// An export of HashiCorp Vault's KV store, JSON
    #[arg(long, value_name = "FILE", group = "from")]
    hashicorp: Option<PathBuf>,
    /// The KeePass password is one line of standard input
    #[arg(long, requires = "keepass")]
    password_stdin: bool,
    /// Keep them without asking
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    on_behalf: OnBehalf,
}

/// Does it.
pub(super) async fn run(desk: &Desk, args: &ImportArgs) -> Result<Reply, CliError> {
    let plan = read(args)?;
    let mut table = Table::new(&["where", "account", "kind"]);
    for row in plan.rows() {
        let kind = if row.kind == SecretKind::PrivateKey { "key" } else { "password" };
        table.row([row.place.as_str(), &format!("{}@{}", row.login, row.asset), kind]);
    }
    if !args.yes {
        let count = plan.rows().len();
        eprintln!("{table}\n{}", told(plan.faults()));
        if !Terminal.agreed(&format!("keep {count} secrets in the vault?"))? {
            return Err(CliError::failed("nothing was kept"));
        }
    }
    let mut port = Keeping { desk, sealer: desk.context.sealer()?, act: desk.act(&args.on_behalf)? };
    let report = apply(plan, &mut port).await;
    let left: Vec<_> =
        report.faults.iter().map(|fault| json!({"place": fault.place, "why": fault.why})).collect();
    let text = format!(
        "{} secrets are kept. Delete the file that they came from, or keep it where the vault's backups are.\n{}",
        report.kept,
        told(&report.faults)
    );
    let json = json!({"id": "import", "kept": report.kept, "left": left});
    Ok(Reply::new(text.trim_end(), json).judged(report.faults.is_empty()))
}

fn told(faults: &[Fault]) -> String {
    faults.iter().map(|fault| format!("not taken: {}: {}\n", fault.place, fault.why)).collect()
}

fn read(args: &ImportArgs) -> Result<Plan, CliError> {
    let failed = |e: cofferdam_vault::import::ImportError| CliError::failed(e.to_string());
    if let Some(path) = &args.csv {
        return read_csv(&read_file(path).map_err(failed)?).map_err(failed);
    }
    if let Some(path) = &args.hashicorp {
        return read_hashicorp(&read_file(path).map_err(failed)?).map_err(failed);
    }
    let path = args.keepass.as_ref().ok_or_else(|| CliError::failed("name a file to import"))?;
    let content = read_file(path).map_err(failed)?;
    let question = "password of the KeePass database";
    let password = match args.password_stdin {
        true => StandardInput::new().secret(question)?,
        false => Terminal.secret(question)?,
    };
    read_keepass(&content, &SecretString::from(password.as_str())).map_err(failed)
}

/// Seals each row for its account and keeps it with its audit entry.
struct Keeping<'a> {
    desk: &'a Desk,
    sealer: Sealer,
    act: Act,
}

#[async_trait]
impl ImportPort for Keeping<'_> {
    async fn keep(&mut self, row: &Row) -> Result<(), String> {
        let asset = Name::new(&row.asset).map_err(|e| format!("its asset: {e}"))?;
        let login = Login::new(&row.login).map_err(|e| format!("its login: {e}"))?;
        let name = AccountRef { asset, login };
        let account = self.desk.site.account(&name).ok_or_else(|| {
            format!("the site describes no account {name}: describe it and apply that, then import again")
        })?;
        match (account.credential, row.kind) {
            (Credential::Password, SecretKind::Password) | (Credential::Key, SecretKind::PrivateKey) => {}
            (wanted, _) => {
                return Err(format!(
                    "{name} has credential {}, and this is another kind: correct the site or the row",
                    wanted.as_str()
                ));
            }
        }
        let sealed = self.sealer.seal(&account_binding(&name), &row.secret).map_err(|e| e.to_string())?;
        self.desk.store.set_secret(&self.act, &name, &sealed).await.map(drop).map_err(|e| e.to_string())
    }
}
