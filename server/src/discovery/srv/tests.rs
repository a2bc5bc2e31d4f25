use std::io::Write;
use std::sync::{Arc, Mutex};

use slog::Level;

use super::*;
use crate::config::{Config, Discovery};
use crate::log::Log;

/// A DNS of one domain.
#[derive(Default)]
struct Zone {
    ssl: Vec<(&'static str, u16)>,
    plain: Vec<(&'static str, u16)>,
}

impl Names for Zone {
    fn records(&self, service: &str, domain: &str) -> Result<Vec<Srv>, LookupError> {
        let name = format!("_{service}._tcp.{domain}");
        let records = match name.as_str() {
            "_etcd-server-ssl._tcp.example.com" => &self.ssl,
            "_etcd-server._tcp.example.com" => &self.plain,
            _ => panic!("nobody asks for {name}"),
        };
        if records.is_empty() {
            let server = ([127, 0, 0, 1], 53).into();
            return Err(LookupError::NoSuchHost { name, server });
        }
        let records = records.iter().map(|(host, port)| Srv {
            priority: 0,
            weight: 0,
            port: *port,
            target: Some((*host).to_owned()),
        });
        Ok(records.collect())
    }

    /// `a.example.com` is 10.0.0.1 and so on; `ab` is both of these.
    fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let label = host.strip_suffix(".example.com");
        let letters = match (host.parse(), label) {
            (Ok(ip), _) => return Ok(vec![SocketAddr::new(ip, port)]),
            (_, Some("gone")) | (_, None) => return Err(io::Error::other("no such host")),
            (_, Some(letters)) => letters,
        };
        let address = |letter| SocketAddr::from(([10, 0, 0, letter - b'a' + 1], port));
        Ok(letters.bytes().map(address).collect())
    }
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("lines").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a member `me` that advertises this finds, in the order of names, and what it logs from the messages on.
fn find(
    zone: &Zone,
    advertised: &str,
    suffix: &str,
) -> (Result<String, BootstrapError>, Vec<String>) {
    let mut config = Config::new("/data");
    config.name = "me".into();
    config.initial_advertise_peer_urls = Some(
        advertised
            .split(',')
            .map(|url| url.parse().expect(url))
            .collect(),
    );
    config.discovery.srv = "example.com".into();
    config.discovery.srv_name = suffix.into();
    let resolved = config.resolve().expect("sound");
    let Some(Discovery::Srv(srv)) = &resolved.discovery else {
        panic!("a domain");
    };
    let lines = Lines::default();
    let log = Log::to_writer(Level::Info, lines.clone());
    let found = cluster(srv, &resolved, zone, log.logger());
    let found = found.map(|cluster| crate::config::show_cluster(&cluster));
    let text = String::from_utf8(lines.0.lock().expect("lines").clone()).expect("UTF-8");
    let lines = text
        .lines()
        .map(|line| line.split_once("\"msg\":").expect("a message").1.to_owned());
    (found, lines.collect())
}

const THREE: [(&str, u16); 3] = [
    ("a.example.com", 2380),
    ("b.example.com", 2380),
    ("c.example.com", 2380),
];

#[test]
fn the_one_with_the_own_address_is_the_member_itself() {
    let zone = Zone {
        plain: THREE.to_vec(),
        ..Zone::default()
    };
    for own in ["http://10.0.0.2:2380", "http://b.example.com:2380"] {
        let (found, lines) = find(&zone, own, "");
        assert_eq!(
            found.expect("records"),
            "0=http://a.example.com:2380,1=http://c.example.com:2380,me=http://b.example.com:2380"
        );
        let error = "error querying DNS SRV records for _etcd-server-ssl lookup _etcd-server-ssl._tcp.example.com on \
                     127.0.0.1:53: no such host";
        let list = "\"0=http://a.example.com:2380\",\"me=http://b.example.com:2380\",\"1=http://c.example.com:2380\"";
        assert_eq!(
            lines,
            [
                format!(
                    "\"get cluster for etcd-server-ssl SRV\",\"service-scheme\":\"https\",\
                     \"service-name\":\"etcd-server-ssl\",\"server-name\":\"me\",\"discovery-srv\":\"example.com\",\
                     \"advertise-peer-urls\":[\"{own}\"],\"found-cluster\":[],\"error\":\"{error}\"}}"
                ),
                format!(
                    "\"get cluster for etcd-server SRV\",\"service-scheme\":\"http\",\
                     \"service-name\":\"etcd-server\",\"server-name\":\"me\",\"discovery-srv\":\"example.com\",\
                     \"advertise-peer-urls\":[\"{own}\"],\"found-cluster\":[{list}]}}"
                ),
                format!("\"failed to resolve during SRV discovery\",\"error\":\"{error}\"}}"),
                "\"got bootstrap from DNS for etcd-server\",\"node\":\"0=http://a.example.com:2380\"}".to_owned(),
                "\"got bootstrap from DNS for etcd-server\",\"node\":\"me=http://b.example.com:2380\"}".to_owned(),
                "\"got bootstrap from DNS for etcd-server\",\"node\":\"1=http://c.example.com:2380\"}".to_owned(),
            ]
        );
    }
}

#[test]
fn members_with_and_without_tls_are_found() {
    let zone = Zone {
        ssl: THREE.to_vec(),
        plain: vec![("d.example.com", 2380)],
    };
    // Both kinds are counted from 0, as etcd does it: these are one member with two URLs to it.
    let (found, _) = find(&zone, "https://10.0.0.3:2380", "");
    assert_eq!(
        found.expect("records"),
        "0=http://d.example.com:2380,0=https://a.example.com:2380,1=https://b.example.com:2380,\
         me=https://c.example.com:2380"
    );
}

#[test]
fn another_service_may_be_asked_for() {
    struct Suffixed(Zone);
    impl Names for Suffixed {
        fn records(&self, service: &str, domain: &str) -> Result<Vec<Srv>, LookupError> {
            self.0
                .records(service.strip_suffix("-x").expect("the suffix"), domain)
        }
        fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
            self.0.addresses(host, port)
        }
    }
    let zone = Suffixed(Zone {
        ssl: vec![("a.example.com", 1)],
        plain: vec![],
    });
    let mut config = Config::new("/data");
    config.name = "me".into();
    config.initial_advertise_peer_urls = Some(vec!["https://10.0.0.1:1".parse().expect("a URL")]);
    config.discovery.srv = "example.com".into();
    config.discovery.srv_name = "x".into();
    let resolved = config.resolve().expect("sound");
    let Some(Discovery::Srv(srv)) = &resolved.discovery else {
        panic!("a domain");
    };
    let logger = Logger::root(slog::Discard, o!());
    let found = cluster(srv, &resolved, &zone, &logger).expect("records");
    assert_eq!(
        crate::config::show_cluster(&found),
        "me=https://a.example.com:1"
    );
}

#[test]
fn hosts_without_an_address_are_left_out() {
    let zone = Zone {
        plain: vec![
            ("gone.example.com", 1),
            ("b.example.com", 1),
            ("ab.example.com", 2),
        ],
        ..Zone::default()
    };
    let (found, _) = find(&zone, "http://10.0.0.2:2", "");
    // Any of its addresses is the own one.
    assert_eq!(
        found.expect("records"),
        "0=http://b.example.com:1,me=http://ab.example.com:2"
    );

    let gone = Zone {
        plain: vec![("gone.example.com", 1)],
        ..Zone::default()
    };
    let (found, _) = find(&gone, "http://10.0.0.2:2", "");
    let error = found.expect_err("nobody").to_string();
    assert!(
        error.starts_with("error setting up initial cluster: error querying DNS SRV"),
        "{error}"
    );
    assert!(
        error.ends_with("\nerror querying DNS SRV records for _etcd-server lookup gone.example.com: no such host"),
        "{error}"
    );
}

#[test]
fn the_scheme_has_to_be_the_advertised_one() {
    let zone = Zone {
        plain: vec![("a.example.com", 1)],
        ..Zone::default()
    };
    let (found, _) = find(&zone, "https://10.0.0.1:1", "");
    let error = found.expect_err("another scheme").to_string();
    assert!(
        error.ends_with(
            "bootstrap at http://a.example.com:1 from DNS for etcd-server has scheme mismatch with expected peer \
             https://10.0.0.1:1"
        ),
        "{error}"
    );
}

#[test]
fn who_is_not_in_the_dns_is_told_so() {
    let zone = Zone {
        plain: THREE.to_vec(),
        ..Zone::default()
    };
    let (found, _) = find(&zone, "http://10.0.0.1:9", "");
    let error = found.expect_err("another port");
    assert_eq!(
        error.to_string(),
        "error setting up initial cluster: cannot find local etcd member \"me\" in SRV records"
    );
    let advice = error.advice().expect("a sentence");
    assert!(
        advice.contains("http://10.0.0.1:9") && advice.contains("http://c.example.com:2380"),
        "{advice}"
    );
    let (found, _) = find(&Zone::default(), "http://10.0.0.1:9", "");
    let advice = found.expect_err("nothing").advice().expect("a sentence");
    assert!(
        advice.contains("_etcd-server-ssl._tcp.example.com and _etcd-server._tcp.example.com"),
        "{advice}"
    );
}
