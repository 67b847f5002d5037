//! Addresses that nothing may be dialled at, whatever a name resolves to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Why an address may not be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{address} is {kind}, where nothing may be dialled: an administrator has to correct the asset's address"
)]
pub struct ForbiddenDestination {
    /// The address.
    pub address: SocketAddr,
    /// What kind of address it is.
    pub kind: &'static str,
}

/// Which addresses are this gateway's own, and whether loopback may be dialled.
#[derive(Debug, Clone, Default)]
pub struct DestinationRules {
    /// The addresses on which this gateway listens.
    pub own: Vec<SocketAddr>,
    /// Loopback may be dialled, but for the own listeners: the demo's targets live there. Never outside the demo.
    pub allow_loopback: bool,
}

impl DestinationRules {
    /// Checks an address after name resolution, right before it is dialled.
    ///
    /// # Errors
    /// When it is unspecified, loopback, link-local (with the clouds' metadata address), multicast, broadcast,
    /// reserved, or the gateway's own. Addresses that carry an IPv4 address inside (mapped, compatible, NAT64, 6to4)
    /// are judged by that too.
    pub fn check(&self, address: SocketAddr) -> Result<(), ForbiddenDestination> {
        let ip = address.ip().to_canonical();
        let forbidden = |kind| Err(ForbiddenDestination { address, kind });
        if let Some(kind) = self.own_kind(ip, address.port()) {
            return forbidden(kind);
        }
        if ip.is_loopback() && self.allow_loopback {
            return Ok(());
        }
        match kind_of(ip) {
            Some(kind) => forbidden(kind),
            None => Ok(()),
        }
    }

    fn own_kind(&self, ip: IpAddr, port: u16) -> Option<&'static str> {
        let mine = self.own.iter().any(|own| {
            let own_ip = own.ip().to_canonical();
            if ip.is_loopback() && self.allow_loopback {
                // The demo's targets share the loopback address with the gateway: the port tells them apart.
                own.port() == port && (own_ip == ip || own_ip.is_unspecified())
            } else {
                own_ip == ip
            }
        });
        mine.then_some("this gateway's own address")
    }
}

fn kind_of(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(v4) => kind_of_v4(v4),
        IpAddr::V6(v6) => kind_of_v6(v6),
    }
}

fn kind_of_v4(ip: Ipv4Addr) -> Option<&'static str> {
    let [first, ..] = ip.octets();
    match first {
        0 => Some("an unspecified address"),
        127 => Some("a loopback address"),
        _ if ip.is_link_local() => Some("a link-local or metadata address"),
        _ if ip.is_multicast() => Some("a multicast address"),
        _ if ip.is_broadcast() => Some("the broadcast address"),
        240.. => Some("a reserved address"),
        _ => None,
    }
}

fn kind_of_v6(ip: Ipv6Addr) -> Option<&'static str> {
    const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    if ip.is_unspecified() {
        return Some("an unspecified address");
    }
    if ip.is_loopback() {
        return Some("a loopback address");
    }
    if ip.is_multicast() {
        return Some("a multicast address");
    }
    if ip.is_unicast_link_local() || ip == METADATA {
        return Some("a link-local or metadata address");
    }
    embedded_v4(ip).and_then(kind_of_v4)
}

/// The IPv4 address inside: IPv4-compatible (RFC 4291 §2.5.5.1), NAT64 (RFC 6052), 6to4 (RFC 3056).
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |hi: u16, lo: u16| Ipv4Addr::from((u32::from(hi) << 16) | u32::from(lo));
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, hi, lo] | [0x64, 0xff9b, 0, 0, 0, 0, hi, lo] => Some(v4(hi, lo)),
        [0x2002, hi, lo, ..] => Some(v4(hi, lo)),
        _ => None,
    }
}
