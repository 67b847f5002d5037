//! The six metrics, each with what it was computed from, and how they went over the last days. What cannot be computed yet
//! says so instead of a number.

use serde::Serialize;

use crate::{
    apply,
    audit::AuditKind,
    clock::Timestamp,
    discovery::Discovery,
    local_time::SiteZone,
    site::{Criticality, Site},
    store::{AuditFilter, Figures, Store, StoreError},
};

/// A day is looked at again until so long after its end, seconds: other nodes' clocks may be a little behind.
const SETTLED: i64 = 3600;
/// Most changes of the site that are followed back.
const MOST_CHANGES: u32 = 200;

/// One metric.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Metric {
    /// Its fixed name.
    pub id: &'static str,
    /// What it says, for people.
    pub title: &'static str,
    /// The number; none: it cannot be computed (yet).
    pub value: Option<f64>,
    /// Of what.
    pub unit: &'static str,
    /// What it was computed from.
    pub basis: String,
}

/// How recordings were checked for the first metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// Each was read again, byte by byte.
    ByteByByte,
    /// Its seal's digest stands in the signed audit log; the file was not read again.
    BySeal,
}

/// The six, from the site as it is, what was found on its machines, and what was counted.
pub fn six(site: &Site, found: &[Discovery], figures: &Figures, checked: Checked) -> [Metric; 6] {
    [
        proven_sessions(figures, checked),
        shared_accounts(site, found),
        guarded_assets(site),
        Metric {
            id: "exception_close_time",
            title: "mean time to close temporary exceptions",
            value: None,
            unit: "s",
            basis: "this version keeps no exceptions".to_owned(),
        },
        Metric {
            id: "blocked_lateral_movements",
            title: "blocked lateral-movement attempts",
            value: Some(number(figures.blocked)),
            unit: "attempts",
            basis: "refused forwards in the audit log".to_owned(),
        },
        detection_time(figures),
    ]
}

fn proven_sessions(figures: &Figures, checked: Checked) -> Metric {
    let how = match checked {
        Checked::ByteByByte => "",
        Checked::BySeal => "; recordings by their seals, not read again",
    };
    Metric {
        id: "sessions_proven",
        title: "privileged sessions with a second factor and a verified recording",
        value: percent(figures.proven, figures.sessions),
        unit: "%",
        basis: format!("{} of {} ended sessions{how}", figures.proven, figures.sessions),
    }
}

fn shared_accounts(site: &Site, found: &[Discovery]) -> Metric {
    let critical = |zone| site.zones.iter().any(|z| z.critical && &z.name == zone);
    let counts = |asset| site.asset(asset).is_some_and(|asset| !asset.disabled && critical(&asset.zone));
    let shared = site.accounts.iter().filter(|a| !a.disabled && a.needs_secret() && counts(&a.asset)).count();
    let looked: Vec<&Discovery> = found.iter().filter(|d| counts(&d.asset)).collect();
    let unknown: usize = looked.iter().map(|d| d.unknown(site).count()).sum();
    Metric {
        id: "shared_accounts",
        title: "shared and unknown accounts left in critical zones",
        value: Some(number((shared + unknown) as u64)),
        unit: "accounts",
        basis: format!(
            "{shared} enabled accounts with a standing password or key on assets of critical zones, and {unknown} privileged \
             ones that were found on {} of these assets and that the site does not describe",
            looked.len()
        ),
    }
}

fn guarded_assets(site: &Site) -> Metric {
    let critical: Vec<_> = site
        .assets
        .iter()
        .filter(|a| !a.disabled && (a.crown_jewel || a.criticality == Criticality::High))
        .collect();
    let guarded = critical
        .iter()
        .filter(|a| {
            site.conduits.iter().any(|c| {
                c.to == a.zone
                    && (c.assets.is_empty() || c.assets.contains(&a.name))
                    && a.endpoints.iter().any(|e| c.protocols.contains(&e.protocol))
            })
        })
        .count();
    Metric {
        id: "guarded_assets",
        title: "critical assets behind a policy-enforced conduit",
        value: percent(guarded as u64, critical.len() as u64),
        unit: "%",
        basis: format!("{guarded} of {} assets that are crown jewels or of high criticality", critical.len()),
    }
}

/// From a session's start to its first finding: when the behaviour itself began is not known.
fn detection_time(figures: &Figures) -> Metric {
    let seconds = figures.detection_micros.max(0) as f64 / 1e6;
    Metric {
        id: "detection_time",
        title: "mean time to detect anomalous engineering behaviour",
        value: (figures.detections > 0).then(|| seconds / number(figures.detections)),
        unit: "s",
        basis: format!("from the start of {} sessions to their first finding", figures.detections),
    }
}

/// Exact up to 2⁵³, which is enough for a figure to watch.
fn number(n: u64) -> f64 {
    n as f64
}

fn percent(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| 100.0 * number(part) / number(whole))
}

/// One day of the past: what was counted, and what the metrics were at its end.
#[derive(Debug, Clone)]
pub struct Day {
    /// Its first moment, in the site's zone.
    pub from: Timestamp,
    /// The first moment after it.
    until: Timestamp,
    /// What was counted.
    pub figures: Figures,
    /// Each metric by its id; without a value where nothing was counted, or the audit log does not say how the site was.
    values: Vec<(&'static str, Option<f64>)>,
    /// It is over for good: nothing is added to it any more.
    settled: bool,
}

/// The last days, the newest last.
#[derive(Debug, Clone, Default)]
pub struct Trend {
    /// The days.
    pub days: Vec<Day>,
}

impl Trend {
    /// Looks at `days` days up to `now`. Days of `known` that are over are taken from it, so that looking again is cheap:
    /// nothing ends in the past.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn look(
        store: &Store,
        zone: &SiteZone,
        now: Timestamp,
        days: u16,
        known: &Self,
    ) -> Result<Self, StoreError> {
        let bounds: Vec<Timestamp> =
            (0..i32::from(days)).rev().map(|back| zone.day(now, back)).chain([now.plus_seconds(1)]).collect();
        let first = bounds.first().copied().unwrap_or(now);
        let mut found = Vec::with_capacity(bounds.len());
        for pair in bounds.windows(2) {
            let [from, until] = pair else { continue };
            let settled = until.plus_seconds(SETTLED) <= now;
            let kept = known.days.iter().find(|d| settled && d.from == *from && d.settled);
            let figures = match kept {
                Some(day) => day.figures,
                None => store.figures(*from, *until).await?,
            };
            found.push(Day { from: *from, until: *until, figures, values: Vec::new(), settled });
        }
        let sites = sites_before(store, first, &bounds).await?;
        let looks = store.discoveries().await?;
        for (day, site) in found.iter_mut().zip(sites) {
            let found: Vec<Discovery> = looks.iter().filter(|l| l.at < day.until).cloned().collect();
            day.values = values(&day.figures, site.as_ref(), &found);
        }
        Ok(Self { days: found })
    }

    /// All days together.
    pub fn sum(&self) -> Figures {
        let mut sum = Figures::default();
        for day in &self.days {
            sum += day.figures;
        }
        sum
    }

    /// How the metric of that id went, day by day.
    pub fn of(&self, id: &str) -> Vec<Option<f64>> {
        let value =
            |day: &Day| day.values.iter().find(|(known, _)| *known == id).and_then(|(_, value)| *value);
        self.days.iter().map(value).collect()
    }
}

fn values(figures: &Figures, site: Option<&Site>, found: &[Discovery]) -> Vec<(&'static str, Option<f64>)> {
    let of_site = |id: &str| matches!(id, "shared_accounts" | "guarded_assets");
    let all = six(site.unwrap_or(&Site::default()), found, figures, Checked::BySeal);
    all.into_iter().map(|m| (m.id, m.value.filter(|_| site.is_some() || !of_site(m.id)))).collect()
}

/// The site at each of `ends`, by undoing on paper what the audit log says was applied since. From a change on that cannot be
/// undone, or is too far back, nothing is known.
async fn sites_before(
    store: &Store,
    first: Timestamp,
    bounds: &[Timestamp],
) -> Result<Vec<Option<Site>>, StoreError> {
    let filter = AuditFilter {
        kind: Some(AuditKind::SiteApplied),
        from: Some(first),
        limit: MOST_CHANGES,
        ..AuditFilter::default()
    };
    // The log first: a change between the two reads then only makes the newest site known earlier than it was.
    let changes = store.audit(&filter).await?;
    let complete = changes.len() < MOST_CHANGES as usize;
    let mut site = Some(store.site().await?);
    let mut changes = changes.iter().peekable();
    let mut found = Vec::with_capacity(bounds.len());
    for end in bounds.iter().skip(1).rev() {
        while let Some(change) = changes.next_if(|c| c.at >= *end) {
            let body: Option<serde_json::Value> = serde_json::from_str(&change.body).ok();
            site = site.and_then(|s| apply::before(&s, body?.get("steps")?));
        }
        if !complete && changes.peek().is_none() {
            site = None;
        }
        found.push(site.clone());
    }
    found.reverse();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_counted_is_no_number_and_not_zero_percent() {
        let metrics = six(&Site::default(), &[], &Figures::default(), Checked::BySeal);
        let value = |id: &str| metrics.iter().find(|m| m.id == id).unwrap().value;
        assert_eq!(value("sessions_proven"), None);
        assert_eq!(value("detection_time"), None);
        assert_eq!(value("guarded_assets"), None);
        assert_eq!(value("blocked_lateral_movements"), Some(0.0));
    }

    #[test]
    fn a_password_in_a_critical_zone_is_a_shared_account_until_the_zone_is_none() {
        let mut site = crate::fixture::site();
        let shared = |site: &Site| six(site, &[], &Figures::default(), Checked::BySeal)[1].value.unwrap();
        assert!(shared(&site) > 0.0);
        site.zones.iter_mut().for_each(|z| z.critical = false);
        assert_eq!(shared(&site), 0.0);
    }

    #[test]
    fn a_privileged_account_that_nobody_describes_counts_until_somebody_does() {
        use cofferdam_vault::rotation::{FoundAccount, Look};
        let site = crate::fixture::site();
        let critical = |name| site.zones.iter().any(|z| z.critical && &z.name == name);
        let asset = site.assets.iter().find(|a| critical(&a.zone)).unwrap().name.clone();
        let ghost = FoundAccount { login: "ghost".into(), because: vec![], keys: None, password: None };
        let look = Look { found: vec![ghost], gaps: vec![] };
        let found = [Discovery { asset: asset.clone(), at: Timestamp(0), look }];
        let value = |site: &Site, found: &[Discovery]| {
            six(site, found, &Figures::default(), Checked::BySeal)[1].value.unwrap()
        };
        let before = value(&site, &[]);
        assert_eq!(value(&site, &found), before + 1.0);
        let mut described = site.clone();
        let mut account = described.accounts.first().unwrap().clone();
        (account.asset, account.login, account.disabled) =
            (asset, crate::ids::Login::new("ghost").unwrap(), true);
        described.accounts.push(account);
        assert_eq!(value(&described, &found), before);
    }

    #[test]
    fn the_mean_is_over_sessions_with_a_finding() {
        let figures = Figures { detections: 2, detection_micros: 3_000_000, ..Figures::default() };
        assert_eq!(detection_time(&figures).value, Some(1.5));
    }
}
