//! A tutorial as a text: its command lines as they stand, and what is expected of each, in lines that begin with `#@`.

use std::collections::BTreeMap;

/// A tutorial.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) title: String,
    /// Name and address of each machine.
    pub(crate) machines: Vec<(String, String)>,
    /// Whether the text takes etcd as installed.
    pub(crate) installed: bool,
    /// Variables of every shell: name, value, reason.
    pub(crate) environment: Vec<(String, String, String)>,
    pub(crate) items: Vec<Item>,
}

#[derive(Debug)]
pub(crate) enum Item {
    Part(String),
    Step(Box<Step>),
    /// Ctrl-C for the server in the foreground of a machine.
    Interrupt(String),
}

/// Lines that are given to a shell at once.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub(crate) machines: Vec<String>,
    pub(crate) title: String,
    pub(crate) body: String,
    /// What must be printed.
    pub(crate) says: Vec<String>,
    /// What must not be printed.
    pub(crate) hides: Vec<String>,
    /// It must fail, and print this.
    pub(crate) refused: Option<String>,
    /// Repeated until it is as expected.
    pub(crate) again: bool,
    /// A server in the foreground.
    pub(crate) stays: bool,
    /// What a server writes then: machine (none: those of the step, `*`: any) and text.
    pub(crate) log: Vec<(Option<String>, String)>,
    /// Why it is not run.
    pub(crate) left: Option<String>,
    /// Why there is a line that the text does not have.
    pub(crate) mended: Option<String>,
    /// The text's own line, if this is another one.
    pub(crate) written: Option<String>,
    pub(crate) notes: Vec<String>,
}

impl Script {
    /// # Errors
    /// What is wrong, and in which line.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut script = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            script.line(line).map_err(|e| format!("line {number}: {e}: {line}"))?;
        }
        script.check()?;
        Ok(script)
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        let Some(marker) = line.strip_prefix("#@") else {
            match self.items.last_mut() {
                Some(Item::Step(step)) => {
                    step.body.push_str(line);
                    step.body.push('\n');
                }
                _ if line.is_empty() || line.starts_with('#') => {}
                _ => return Err("a command line outside of a step".into()),
            }
            return Ok(());
        };
        let marker = marker.trim();
        let (word, rest) = marker.split_once(' ').unwrap_or((marker, ""));
        let rest = rest.trim();
        match word {
            "tutorial" => rest.clone_into(&mut self.title),
            "machine" => {
                let (name, address) = rest.split_once(' ').ok_or("not: machine NAME ADDRESS")?;
                self.machines.push((name.to_owned(), address.trim().to_owned()));
            }
            "installed" => self.installed = true,
            "env" => {
                let (set, why) = rest.split_once(' ').ok_or("not: env NAME=VALUE WHY")?;
                let (name, value) = set.split_once('=').ok_or("not: env NAME=VALUE WHY")?;
                self.environment.push((name.to_owned(), value.to_owned(), why.to_owned()));
            }
            "part" => self.items.push(Item::Part(rest.to_owned())),
            "interrupt" => self.items.push(Item::Interrupt(rest.to_owned())),
            "step" => {
                let (machines, title) = rest.split_once(' ').ok_or("not: step MACHINES TITLE")?;
                let machines = machines.split(',').map(str::to_owned).collect();
                let step = Step { machines, title: title.to_owned(), ..Step::default() };
                self.items.push(Item::Step(Box::new(step)));
            }
            _ => match self.items.last_mut() {
                Some(Item::Step(step)) => step.attribute(word, rest)?,
                _ => return Err("this marker belongs to a step".into()),
            },
        }
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        let known: BTreeMap<_, _> = self.machines.iter().map(|(name, address)| (name, address)).collect();
        for step in self.steps() {
            let logs = step.log.iter().filter_map(|(machine, _)| machine.as_ref()).filter(|name| *name != "*");
            if let Some(stranger) = step.machines.iter().chain(logs).find(|name| !known.contains_key(name)) {
                return Err(format!("step {:?}: there is no machine {stranger:?}", step.title));
            }
            if step.body.trim().is_empty() {
                return Err(format!("step {:?} has no command line", step.title));
            }
        }
        Ok(())
    }

    pub(crate) fn steps(&self) -> impl Iterator<Item = &Step> {
        self.items.iter().filter_map(|item| if let Item::Step(step) = item { Some(&**step) } else { None })
    }
}

impl Step {
    fn attribute(&mut self, word: &str, rest: &str) -> Result<(), String> {
        let text = rest.to_owned();
        let needed = |text: String| if text.is_empty() { Err("something must follow") } else { Ok(text) };
        match word {
            "says" => self.says.push(needed(text)?),
            "hides" => self.hides.push(needed(text)?),
            "refused" => self.refused = Some(needed(text)?),
            "again" => self.again = true,
            "stays" => self.stays = true,
            "log" => {
                let (machine, text) = match rest.split_once(": ") {
                    Some((machine, text)) if !machine.contains([' ', '/', '"']) => {
                        (Some(machine.to_owned()), text.to_owned())
                    }
                    _ => (None, text),
                };
                self.log.push((machine, needed(text)?));
            }
            "left" => self.left = Some(needed(text)?),
            "mended" => self.mended = Some(needed(text)?),
            "written" => self.written = Some(needed(text)?),
            "note" => self.notes.push(needed(text)?),
            _ => return Err("no such marker".into()),
        }
        Ok(())
    }
}

/// Whether one line of a text has all parts of a pattern in order; between them, where the pattern has `…`, may be anything.
pub(crate) fn has(text: &str, pattern: &str) -> bool {
    text.lines().any(|line| {
        let mut rest = Some(line);
        for part in pattern.split('…') {
            rest = rest.and_then(|rest| rest.find(part).map(|at| &rest[at + part.len()..]));
        }
        rest.is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_has_machines_and_steps() {
        let text = "# why\n#@ tutorial T\n#@ machine a 10.0.0.1\n#@ part P\n#@ step a,a go\nx \\\n  y\n\
                    #@ log a: some: text\n#@ refused no … way\n#@ interrupt a\n";
        let script = Script::parse(text).expect("well formed");
        assert_eq!(script.machines, [("a".to_owned(), "10.0.0.1".to_owned())]);
        let [Item::Part(_), Item::Step(step), Item::Interrupt(_)] = script.items.as_slice() else {
            panic!("{script:?}")
        };
        assert_eq!(step.body, "x \\\n  y\n");
        assert_eq!(step.log, [(Some("a".to_owned()), "some: text".to_owned())]);
        assert_eq!(step.refused.as_deref(), Some("no … way"));
        for (bad, why) in [
            ("#@ says x", "line 1: this marker belongs to a step"),
            ("ls", "line 1: a command line outside"),
            ("#@ machine a 10.0.0.1\n#@ step b go\nls", "there is no machine \"b\""),
            ("#@ machine a 10.0.0.1\n#@ step a go\n#@ sais x", "line 3: no such marker"),
            ("#@ machine a 10.0.0.1\n#@ step a go\n#@ part", "has no command line"),
        ] {
            let error = Script::parse(bad).expect_err(bad);
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn patterns_leave_out_what_changes() {
        assert!(has("x\nmember 12 is healthy: all", "member … is healthy"));
        assert!(has("any", "any"));
        assert!(!has("member 12\nis healthy", "member … is healthy"));
        assert!(!has("is healthy member", "member … is healthy"));
    }
}
