//! `/etc/resolv.conf`: whom to ask, and how. resolv.conf(5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

const PORT: u16 = 53;
/// More servers are not asked; the C library's value.
const MAX_SERVERS: usize = 3;

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ResolvConf {
    /// At least one.
    pub(super) servers: Vec<SocketAddr>,
    /// Domains that names without an end are looked for in.
    pub(super) search: Vec<String>,
    /// A name of so many dots is looked for as it is, before it is looked for in those domains.
    pub(super) dots: usize,
    /// For an answer.
    pub(super) timeout: Duration,
    /// How often all servers are asked.
    pub(super) attempts: u32,
    /// Nothing goes over UDP.
    pub(super) tcp: bool,
}

impl Default for ResolvConf {
    fn default() -> Self {
        Self {
            servers: vec![
                (Ipv4Addr::LOCALHOST, PORT).into(),
                (Ipv6Addr::LOCALHOST, PORT).into(),
            ],
            search: Vec::new(),
            dots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            tcp: false,
        }
    }
}

impl ResolvConf {
    /// What is not understood is passed over, as everywhere else.
    pub(super) fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        let mut servers = Vec::new();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => {
                    // An address with a zone means nothing beyond this machine, which has others.
                    let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    servers.extend(address.map(|ip| SocketAddr::new(ip, PORT)));
                }
                Some("domain") => conf.search = words.take(1).map(str::to_owned).collect(),
                Some("search") => conf.search = words.map(str::to_owned).collect(),
                Some("options") => words.for_each(|word| conf.option(word)),
                _ => {}
            }
        }
        servers.truncate(MAX_SERVERS);
        if !servers.is_empty() {
            conf.servers = servers;
        }
        conf
    }

    fn option(&mut self, word: &str) {
        let number = |text: &str| text.parse::<u32>().ok();
        match word.split_once(':') {
            Some(("ndots", n)) => {
                self.dots = number(n).map_or(self.dots, |n| n.min(15) as usize);
            }
            Some(("timeout", n)) => {
                let seconds = number(n).map(|n| n.clamp(1, 30).into());
                self.timeout = seconds.map_or(self.timeout, Duration::from_secs);
            }
            Some(("attempts", n)) => {
                self.attempts = number(n).map_or(self.attempts, |n| n.clamp(1, 5));
            }
            _ if matches!(word, "use-vc" | "usevc" | "tcp") => self.tcp = true,
            _ => {}
        }
    }

    /// The absolute names that a name may stand for, in the order in which they are tried.
    pub(super) fn names(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let itself = format!("{name}.");
        let searched = self
            .search
            .iter()
            .map(|domain| match domain.trim_end_matches('.') {
                "" => itself.clone(),
                domain => format!("{name}.{domain}."),
            });
        let mut names: Vec<String> = searched.collect();
        let first = name.matches('.').count() >= self.dots;
        names.insert(if first { 0 } else { names.len() }, itself);
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(conf: &ResolvConf) -> Vec<String> {
        conf.servers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_file_is_read_as_the_system_reads_it() {
        let conf = ResolvConf::parse(
            "# comment\n; another\nnameserver 10.0.0.2\nnameserver\t::1 # here\nnameserver nonsense\n\
             nameserver fe80::1%eth0\nnameserver 1.1.1.1\nnameserver 2.2.2.2\n\
             domain x.y\nsearch a.b c.d.\noptions ndots:3 timeout:7 attempts:1 rotate edns0 use-vc\n",
        );
        assert_eq!(servers(&conf), ["10.0.0.2:53", "[::1]:53", "1.1.1.1:53"]);
        assert_eq!(conf.search, ["a.b", "c.d."]);
        assert_eq!((conf.dots, conf.timeout), (3, Duration::from_secs(7)));
        assert_eq!((conf.attempts, conf.tcp), (1, true));
    }

    #[test]
    fn without_a_file_this_machine_is_asked() {
        let conf = ResolvConf::parse("nameserver\noptions timeout:0 attempts:99 ndots:x\n");
        assert_eq!(servers(&conf), ["127.0.0.1:53", "[::1]:53"]);
        assert_eq!((conf.timeout, conf.attempts), (Duration::from_secs(1), 5));
        assert_eq!(conf.dots, 1);
    }

    #[test]
    fn a_name_without_an_end_stands_for_several() {
        let conf = ResolvConf::parse("search a.b c.d.\noptions ndots:2\n");
        assert_eq!(conf.names("x.y.z."), ["x.y.z."]);
        assert_eq!(conf.names("x.y.z"), ["x.y.z.", "x.y.z.a.b.", "x.y.z.c.d."]);
        assert_eq!(conf.names("x.y"), ["x.y.a.b.", "x.y.c.d.", "x.y."]);
    }
}
