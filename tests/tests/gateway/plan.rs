//! A list of requests to one server, one after the other, and what came of them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use retcd_tests::http1;
use retcd_tests::member::{Member, Setup};
use retcd_tests::recorded::{self, Form};
use serde_json::Value;

use crate::shown::{self, Hidden};

/// What is done with a server; what came of it, as lines that can be compared.
type Act = Box<dyn Fn(&Server<'_>) -> String>;

struct Step {
    name: String,
    act: Act,
    differs: Option<&'static str>,
}

/// The server that a step is for.
pub(crate) struct Server<'a> {
    pub(crate) member: &'a Member,
    /// Its id, in decimal.
    pub(crate) id: String,
    port: u16,
}

impl<'a> Server<'a> {
    /// A member on its client port.
    pub(crate) fn of(member: &'a Member) -> Self {
        Self::at(member, member.port())
    }

    /// A member that speaks HTTP on this port.
    pub(crate) fn at(member: &'a Member, port: u16) -> Self {
        let id = http1::get(port, "/debug/vars").ok();
        let id: Option<Value> = id.and_then(|answer| serde_json::from_slice(&answer.body).ok());
        let id = id.and_then(|vars| u64::from_str_radix(vars["raft.status"]["id"].as_str()?, 16).ok());
        Self { member, id: id.unwrap_or_default().to_string(), port }
    }

    /// Where it speaks HTTP.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// A text with `{member}` replaced by its id.
    pub(crate) fn fill(&self, text: &str) -> String {
        text.replace("{member}", &self.id)
    }
}

/// Requests to one server.
pub(crate) struct Plan {
    name: &'static str,
    flags: Vec<String>,
    steps: Vec<Step>,
}

impl Plan {
    pub(crate) fn new(name: &'static str, flags: &[&str]) -> Self {
        Self { name, flags: flags.iter().map(|flag| (*flag).to_owned()).collect(), steps: Vec::new() }
    }

    pub(crate) fn count(&self) -> usize {
        self.steps.len()
    }

    /// Adds whatever can be done with a server.
    pub(crate) fn act(&mut self, name: impl Into<String>, act: impl Fn(&Server<'_>) -> String + 'static) -> &mut Self {
        let name = name.into();
        assert!(!self.steps.iter().any(|step| step.name == name), "two steps named {name:?}");
        self.steps.push(Step { name, act: Box::new(act), differs: None });
        self
    }

    /// Adds a request.
    pub(crate) fn request(
        &mut self,
        method: &'static str,
        path: &str,
        headers: &[(&'static str, &'static str)],
        body: &str,
        hidden: Hidden,
    ) -> &mut Self {
        let mut name = format!("{method} {path}");
        for (header, value) in headers {
            let _ = write!(name, " {header}={value}");
        }
        let shown: String = body.chars().take(150).collect();
        let _ = write!(name, " {shown:?}");
        let twice = self.steps.iter().filter(|step| step.name.split(" #").next() == Some(&name)).count();
        if twice > 0 {
            let _ = write!(name, " #{}", twice + 1);
        }
        let (path, headers, body) = (path.to_owned(), headers.to_vec(), body.to_owned());
        self.act(name, move |server| {
            let body = server.fill(&body);
            match http1::request(server.port(), method, &path, &headers, body.as_bytes()) {
                Ok(answer) => shown::answer(&answer, server, hidden),
                Err(error) => format!("no answer: {}", error.kind()),
            }
        })
    }

    /// Adds a `POST`.
    pub(crate) fn post(&mut self, path: &str, body: &str) -> &mut Self {
        self.request("POST", path, &[], body, &[])
    }

    /// Says of the last step that ours answers otherwise, and why that is right. It then has to differ.
    pub(crate) fn differs(&mut self, why: &'static str) -> &mut Self {
        self.steps.last_mut().expect("a step").differs = Some(why);
        self
    }

    /// Runs it on our server and compares with genuine etcd: live if it is there, else as recorded.
    ///
    /// # Panics
    /// If anything differs that should not; with a list of it.
    pub(crate) fn compare(&self) {
        let steps = self.steps.iter().map(|step| recorded::Step { name: &step.name, differs: step.differs });
        let file = format!("gateway/{}.txt", self.name);
        recorded::compare(&file, Form::Lines, &steps.collect::<Vec<_>>(), |program| self.run(program));
    }

    fn run(&self, program: &Path) -> Vec<String> {
        let member = Member::start(Setup::new(PathBuf::from(program)).flags(self.flags.iter().cloned()));
        let server = Server::of(&member);
        self.steps.iter().map(|step| (step.act)(&server).replace('\n', "\\n")).collect()
    }
}
