//! The picture of zones and conduits: where each box and arrow stands. Pure: the site in, numbers out.
//!
//! Zones stand in columns by how many conduits lead to them one after the other; a conduit leads to a port of its own at the
//! left edge of the zone it leads to, with its protocols beside it.

use std::collections::BTreeMap;

use cofferdam_access::{
    ids::Name,
    site::{Conduit, PlantStates, Site, Zone},
};

/// Width of a zone's box.
const WIDTH: u32 = 210;
/// Room between columns, for arrows and their labels.
const GUTTER: u32 = 210;
/// Room between boxes of one column.
const GAP: u32 = 26;
/// Height of a zone's title.
const TITLE: u32 = 50;
/// Height of an asset with the room below it.
const ASSET: u32 = 52;
/// Least height of a conduit's port.
const PORT: u32 = 30;
/// Assets that are drawn in a zone; the others are counted.
const MOST_ASSETS: usize = 8;
/// Room around the picture.
const EDGE: u32 = 10;

/// See the module.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Map {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) zones: Vec<ZoneBox>,
    pub(super) arrows: Vec<Arrow>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ZoneBox {
    pub(super) name: String,
    pub(super) title: String,
    pub(super) sub: String,
    pub(super) state: &'static str,
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) assets: Vec<AssetBox>,
    /// How many assets are not drawn.
    pub(super) more: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AssetBox {
    pub(super) name: String,
    pub(super) label: String,
    pub(super) sub: String,
    pub(super) crown: bool,
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) width: u32,
    pub(super) height: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Arrow {
    pub(super) name: String,
    pub(super) open: bool,
    /// The line.
    pub(super) path: String,
    /// Its head.
    pub(super) tip: String,
    pub(super) label: String,
    pub(super) label_x: u32,
    pub(super) label_y: u32,
    pub(super) tag_x: u32,
    pub(super) tag_y: u32,
    pub(super) tag_width: u32,
}

impl ZoneBox {
    pub(super) fn text_x(&self) -> u32 {
        self.x + 14
    }
    pub(super) fn right_x(&self) -> u32 {
        self.x + self.width - 14
    }
    pub(super) fn title_y(&self) -> u32 {
        self.y + 22
    }
    pub(super) fn sub_y(&self) -> u32 {
        self.y + 40
    }
    pub(super) fn last_y(&self) -> u32 {
        self.y + self.height - 10
    }
}

impl AssetBox {
    pub(super) fn text_x(&self) -> u32 {
        self.x + 10
    }
    pub(super) fn label_y(&self) -> u32 {
        self.y + 18
    }
    pub(super) fn sub_y(&self) -> u32 {
        self.y + 34
    }
}

impl Map {
    /// Lays the site out; `open` says whether a conduit is drawn as passable now.
    pub(super) fn of(site: &Site, plant: &PlantStates, open: &dyn Fn(&Conduit) -> bool) -> Self {
        let columns = columns(site);
        let mut map = Self::default();
        for (column, zones) in &columns {
            let mut y = EDGE;
            for zone in zones {
                let placed = place(site, zone, plant, EDGE + column * (WIDTH + GUTTER), y);
                y = placed.y + placed.height + GAP;
                map.zones.push(placed);
            }
            map.height = map.height.max(y - GAP + EDGE);
        }
        let last = columns.len().saturating_sub(1);
        let last = u32::try_from(last).unwrap_or(0);
        // On the right there is room for conduits that lead within a column or back.
        map.width = EDGE * 2 + last * (WIDTH + GUTTER) + WIDTH + 60;
        map.arrows = arrows(site, &map.zones, open);
        map
    }
}

/// Zones by column. A circle of conduits ends after as many steps as there are zones.
fn columns(site: &Site) -> BTreeMap<u32, Vec<&Zone>> {
    let mut depth: BTreeMap<&Name, u32> = site.zones.iter().map(|z| (&z.name, 0)).collect();
    for _ in 0..site.zones.len() {
        let mut moved = false;
        for conduit in site.conduits.iter().filter(|c| c.from != c.to) {
            let from = depth.get(&conduit.from).copied().unwrap_or(0);
            let most = u32::try_from(site.zones.len()).unwrap_or(0).saturating_sub(1).min(from + 1);
            if let Some(to) = depth.get_mut(&conduit.to)
                && *to < most
                && !leads_back(site, conduit)
            {
                *to = most;
                moved = true;
            }
        }
        if !moved {
            break;
        }
    }
    let mut used: Vec<u32> = depth.values().copied().collect();
    used.sort_unstable();
    used.dedup();
    let mut columns: BTreeMap<u32, Vec<&Zone>> = BTreeMap::new();
    for zone in &site.zones {
        let at = depth.get(&zone.name).copied().unwrap_or(0);
        let column = used.iter().position(|u| *u == at).and_then(|p| u32::try_from(p).ok()).unwrap_or(0);
        columns.entry(column).or_default().push(zone);
    }
    columns
}

/// Whether another conduit leads the other way and is described earlier: of such two, the first gives the direction.
fn leads_back(site: &Site, conduit: &Conduit) -> bool {
    let other = site.conduits.iter().position(|c| c.from == conduit.to && c.to == conduit.from);
    let own = site.conduits.iter().position(|c| c.name == conduit.name);
    matches!((other, own), (Some(other), Some(own)) if other < own)
}

fn place(site: &Site, zone: &Zone, plant: &PlantStates, x: u32, y: u32) -> ZoneBox {
    let all: Vec<_> = site.assets.iter().filter(|a| a.zone == zone.name).collect();
    let mut at = y + TITLE;
    let mut assets = Vec::new();
    for asset in all.iter().take(MOST_ASSETS) {
        let protocols: Vec<&str> = asset.endpoints.iter().map(|e| e.protocol.as_str()).collect();
        let mark = if asset.crown_jewel { " ◆" } else { "" };
        assets.push(AssetBox {
            name: asset.name.to_string(),
            label: format!("{}{mark}", clipped(asset.name.as_str(), 20)),
            sub: clipped(&format!("{}, {}", protocols.join(" "), asset.criticality.as_str()), 26),
            crown: asset.crown_jewel,
            x: x + 14,
            y: at,
            width: WIDTH - 28,
            height: ASSET - 8,
        });
        at += ASSET;
    }
    let more = all.len() - assets.len();
    let ports = site.conduits.iter().filter(|c| c.to == zone.name).count();
    let for_ports = u32::try_from(ports).unwrap_or(0) * PORT + 16;
    let content = at - y + if more > 0 { 24 } else { 6 };
    let state = plant.get(&zone.name).copied().unwrap_or_default();
    ZoneBox {
        name: zone.name.to_string(),
        title: clipped(if zone.title.is_empty() { zone.name.as_str() } else { &zone.title }, 26),
        sub: clipped(&zone.networks.join(", "), 22),
        state: if all.is_empty() { "" } else { state.as_str() },
        x,
        y,
        width: WIDTH,
        height: content.max(for_ports).max(TITLE + 10),
        assets,
        more,
    }
}

fn arrows(site: &Site, zones: &[ZoneBox], open: &dyn Fn(&Conduit) -> bool) -> Vec<Arrow> {
    let find = |name: &Name| zones.iter().find(|z| z.name == name.as_str());
    let mut taken: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    let mut all = Vec::new();
    for conduit in &site.conduits {
        let (Some(from), Some(to)) = (find(&conduit.from), find(&conduit.to)) else { continue };
        let (leaving, _) = taken.entry(&from.name).or_default();
        *leaving += 1;
        let start = port(from, *leaving, count(site, |c| c.from == conduit.from));
        let (_, arriving) = taken.entry(&to.name).or_default();
        *arriving += 1;
        let end = port(to, *arriving, count(site, |c| c.to == conduit.to));
        all.push(arrow(conduit, (from, start), (to, end), open(conduit)));
    }
    all
}

fn count(site: &Site, fits: impl Fn(&Conduit) -> bool) -> u32 {
    u32::try_from(site.conduits.iter().filter(|c| fits(c)).count()).unwrap_or(u32::MAX)
}

/// The height of the `nth` of `of` ports along a zone's edge.
fn port(zone: &ZoneBox, nth: u32, of: u32) -> u32 {
    zone.y + zone.height * nth / (of + 1)
}

fn arrow(conduit: &Conduit, (from, start): (&ZoneBox, u32), (to, end): (&ZoneBox, u32), open: bool) -> Arrow {
    let protocols: Vec<&str> = conduit.protocols.iter().map(|p| p.as_str()).collect();
    let label = clipped(&protocols.join(" "), 20);
    let tag_width = 16 + 7 * u32::try_from(label.chars().count()).unwrap_or(0);
    let right = from.x + from.width;
    let (path, tip, label_x) = if right < to.x {
        let bend = right + GUTTER / 3;
        let path =
            format!("M{right} {start}C{bend} {start} {bend} {end} {} {end}H{}", to.x - GUTTER / 2, to.x - 10);
        (path, format!("M{} {end}l-12-6v12z", to.x), to.x - 20 - tag_width / 2)
    } else {
        // Within a column, or back: around the right side.
        let (far, arrive) = (right.max(to.x + to.width) + 46, to.x + to.width);
        let path = format!("M{right} {start}C{far} {start} {far} {end} {} {end}", arrive + 10);
        (path, format!("M{arrive} {end}l12-6v12z"), far - 14)
    };
    Arrow {
        name: conduit.name.to_string(),
        open,
        path,
        tip,
        label_x,
        label_y: end + 4,
        tag_x: label_x.saturating_sub(tag_width / 2),
        tag_y: end.saturating_sub(11),
        tag_width,
        label,
    }
}

fn clipped(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let start: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{start}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(zones: usize, conduits: &[(usize, usize)]) -> Site {
        let mut text = String::from("[settings]\n");
        for n in 0..zones {
            text.push_str(&format!(
                "[[zones]]\nname = \"z{n}\"\n[[assets]]\nname = \"a{n}\"\nzone = \"z{n}\"\n"
            ));
            text.push_str("address = \"10.0.0.1\"\nendpoints = [{ protocol = \"ssh\", port = 22 }]\n");
        }
        for (n, (from, to)) in conduits.iter().enumerate() {
            text.push_str(&format!(
                "[[conduits]]\nname = \"c{n}\"\nfrom = \"z{from}\"\nto = \"z{to}\"\nprotocols = [\"ssh\"]\n"
            ));
        }
        Site::from_toml(&text).unwrap()
    }

    fn drawn(site: &Site) -> Map {
        Map::of(site, &PlantStates::new(), &|_| false)
    }

    fn apart(a: &ZoneBox, b: &ZoneBox) -> bool {
        a.x + a.width <= b.x || b.x + b.width <= a.x || a.y + a.height <= b.y || b.y + b.height <= a.y
    }

    #[test]
    fn no_two_zones_lie_on_each_other_and_all_lie_in_the_picture() {
        let conduits: Vec<(usize, usize)> = (1..60).map(|n| (n / 4, n)).collect();
        let map = drawn(&site(60, &conduits));
        assert_eq!((map.zones.len(), map.arrows.len()), (60, 59));
        for (n, a) in map.zones.iter().enumerate() {
            assert!(a.x + a.width <= map.width && a.y + a.height <= map.height, "{a:?}");
            assert!(map.zones.iter().skip(n + 1).all(|b| apart(a, b)), "{a:?}");
        }
    }

    #[test]
    fn what_a_conduit_leads_to_stands_further_right() {
        let map = drawn(&site(3, &[(0, 1), (1, 2)]));
        let x: Vec<u32> = map.zones.iter().map(|z| z.x).collect();
        assert!(x.is_sorted() && x.first() < x.last(), "{x:?}");
    }

    #[test]
    fn circles_and_conduits_of_a_zone_to_itself_are_drawn_too() {
        let map = drawn(&site(4, &[(0, 1), (1, 0), (1, 2), (2, 3), (3, 1), (2, 2)]));
        assert_eq!(map.arrows.len(), 6);
        assert!(map.width < 3000 && map.height < 3000, "{} x {}", map.width, map.height);
    }

    #[test]
    fn every_conduit_ends_at_a_port_of_its_own() {
        let map = drawn(&site(6, &[(0, 5), (1, 5), (2, 5), (3, 5), (4, 5)]));
        let mut heights: Vec<u32> = map.arrows.iter().map(|a| a.label_y).collect();
        heights.sort_unstable();
        assert!(heights.windows(2).all(|w| w[1] - w[0] >= 22), "{heights:?}");
    }

    #[test]
    fn a_crowded_zone_counts_what_it_does_not_draw() {
        let mut crowded = site(1, &[]);
        let one = crowded.assets[0].clone();
        for n in 0..30 {
            let name = Name::new(&format!("b{n}")).unwrap();
            crowded.assets.push(cofferdam_access::site::Asset { name, ..one.clone() });
        }
        let map = drawn(&crowded);
        assert_eq!((map.zones[0].assets.len(), map.zones[0].more), (MOST_ASSETS, 31 - MOST_ASSETS));
        assert_eq!(drawn(&Site::default()).zones.len(), 0);
    }
}
