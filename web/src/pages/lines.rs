//! Lines for people to copy: how their own clients reach what is open to them.

use cofferdam_access::site::Protocol;

/// A line with what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// `ssh`, `scp`, `tunnel`.
    pub(super) name: &'static str,
    /// The line.
    pub(super) text: String,
    /// What to do next; may be empty.
    pub(super) then: String,
}

/// Where people reach SSH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gateway {
    host: String,
    port: u16,
}

impl Gateway {
    /// From `host:port`; without a port it is 22.
    pub(super) fn parse(address: &str) -> Self {
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && !host.ends_with(':') => {
                (host, port.parse().unwrap_or(22))
            }
            _ => (address, 22),
        };
        Self { host: host.trim_matches(['[', ']']).to_owned(), port }
    }

    fn port_option(&self, letter: char) -> String {
        if self.port == 22 { String::new() } else { format!("-{letter} {} ", self.port) }
    }

    /// For one account on one machine: `default` leaves the account out of the line.
    pub(super) fn lines(
        &self,
        person: &str,
        asset: &str,
        login: &str,
        default: bool,
        protocol: Protocol,
        port: u16,
    ) -> Vec<Line> {
        let user = if default { format!("{person}+{asset}") } else { format!("{person}+{asset}+{login}") };
        let at = quoted(&format!("{user}@{}", self.host));
        match protocol {
            Protocol::Ssh => {
                let bracketed =
                    if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
                let ssh = format!("ssh {}{at}", self.port_option('p'));
                let scp =
                    format!("scp {}FILE {}", self.port_option('P'), quoted(&format!("{user}@{bracketed}:")));
                vec![line("ssh", ssh, ""), line("scp", scp, "")]
            }
            // A desktop needs a listener of its own, not a tunnel past its record.
            Protocol::Rdp => Vec::new(),
            Protocol::Modbus | Protocol::S7comm | Protocol::Enip | Protocol::Opcua | Protocol::Tcp => {
                let local = local_port(port);
                let text = format!("ssh -N {}-L {local}:{asset}:{port} {at}", self.port_option('p'));
                vec![line("tunnel", text, &format!("then point your tool at 127.0.0.1:{local}"))]
            }
        }
    }
}

fn line(name: &'static str, text: String, then: &str) -> Line {
    Line { name, text, then: then.to_owned() }
}

/// A port that a person without special rights can listen on, easy to tell from the device's own.
fn local_port(port: u16) -> u16 {
    if port < 1024 { port + 1000 } else { port.checked_add(10_000).unwrap_or(port) }
}

/// For a POSIX shell; logins may hold what a shell would read (`PLANT\eng`), never a quote.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "+-_.@:/[]".contains(c);
    if word.chars().all(plain) && !word.contains('[') { word.to_owned() } else { format!("'{word}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(address: &str, login: &str, default: bool, protocol: Protocol, port: u16) -> Vec<String> {
        let lines = Gateway::parse(address).lines("vera", "pump-hmi", login, default, protocol, port);
        lines.into_iter().map(|l| l.text).collect()
    }

    #[test]
    fn lines_name_the_port_only_where_it_is_not_the_usual_one() {
        assert_eq!(
            texts("gw.example:22", "operator", true, Protocol::Ssh, 22),
            ["ssh vera+pump-hmi@gw.example", "scp FILE vera+pump-hmi@gw.example:"]
        );
        assert_eq!(
            texts("127.0.0.1:2222", "root", false, Protocol::Ssh, 22),
            ["ssh -p 2222 vera+pump-hmi+root@127.0.0.1", "scp -P 2222 FILE vera+pump-hmi+root@127.0.0.1:"]
        );
    }

    #[test]
    fn a_tunnel_listens_where_everybody_may() {
        let tunnel = |port| texts("gw:2222", "none", true, Protocol::Modbus, port);
        assert_eq!(tunnel(502), ["ssh -N -p 2222 -L 1502:pump-hmi:502 vera+pump-hmi@gw"]);
        assert_eq!(tunnel(44818), ["ssh -N -p 2222 -L 54818:pump-hmi:44818 vera+pump-hmi@gw"]);
        assert_eq!(tunnel(65000), ["ssh -N -p 2222 -L 65000:pump-hmi:65000 vera+pump-hmi@gw"]);
    }

    #[test]
    fn what_a_shell_would_read_is_quoted() {
        assert_eq!(
            texts("gw:22", "PLANT\\eng", false, Protocol::Ssh, 22)[0],
            "ssh 'vera+pump-hmi+PLANT\\eng@gw'"
        );
        assert_eq!(
            texts("[2001:db8::1]:22", "x", true, Protocol::Ssh, 22),
            ["ssh vera+pump-hmi@2001:db8::1", "scp FILE 'vera+pump-hmi@[2001:db8::1]:'"]
        );
    }

    #[test]
    fn an_address_without_a_port_is_a_host() {
        assert_eq!(Gateway::parse("gw.example"), Gateway { host: "gw.example".into(), port: 22 });
    }
}
