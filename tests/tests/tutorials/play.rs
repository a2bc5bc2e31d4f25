//! Plays a tutorial.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use retcd_tests::net::Network;
use retcd_tests::peers;

use crate::machine::Machine;
use crate::script::{Item, Script, Step, has};
use crate::table;

/// How long an outcome may take.
const PATIENCE: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_millis(50);

/// Plays a script of `tests/seeds`, and writes or compares its table; skipped where the machine does not allow it.
pub(crate) fn tutorial(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("seeds/{name}.sh"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let script = Script::parse(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let tools = ["cfssl", "cfssljson", "openssl", "scp", "curl", "setpriv"];
    let (Some(network), Some(_)) = (Network::make(&tools), peers::debian_etcdctl()) else { return };
    let machines = Machine::all(&network, &script);
    for item in &script.items {
        match item {
            Item::Part(_) => {}
            Item::Interrupt(name) => named(&machines, name).interrupt(),
            Item::Step(step) if step.left.is_some() => {}
            Item::Step(step) => play(&machines, step),
        }
    }
    table::check(name, &script);
}

fn named<'m>(machines: &'m [Machine], name: &str) -> &'m Machine {
    machines.iter().find(|machine| machine.name() == name).expect("the script was checked")
}

fn play(machines: &[Machine], step: &Step) {
    let begun = Instant::now();
    let wrong = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for name in &step.machines {
            let machine = named(machines, name);
            let wrong = &wrong;
            scope.spawn(move || {
                if let Err(why) = outcome(machine, step) {
                    wrong.lock().expect("no one panics with it").push(format!("on {name}: {why}"));
                }
            });
        }
    });
    let mut wrong = wrong.into_inner().expect("no one panics with it");
    let logs = if wrong.is_empty() { step.log.as_slice() } else { &[] };
    for (machine, text) in logs {
        let there = |name: &str| has(&named(machines, name).log(), text);
        let all = match machine.as_deref() {
            Some("*") => within(|| machines.iter().any(|machine| there(machine.name()))),
            Some(name) => within(|| there(name)),
            None => step.machines.iter().all(|name| within(|| there(name))),
        };
        if !all {
            wrong.push(format!("the log does not have {text:?}"));
        }
    }
    assert!(wrong.is_empty(), "{:?} ({:?}):\n{}\n{}", step.title, begun.elapsed(), step.body, wrong.join("\n"));
    eprintln!("{:>8.3?} {}: {}", begun.elapsed(), step.machines.join(","), step.title);
}

fn within(mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(LOOK);
    }
}

fn outcome(machine: &Machine, step: &Step) -> Result<(), String> {
    if step.stays {
        return foreground(machine, step);
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (well, text) = machine.shell(&step.body);
        match judge(step, well, &text) {
            Err(_) if step.again && Instant::now() < deadline => thread::sleep(4 * LOOK),
            judged => return judged,
        }
    }
}

fn foreground(machine: &Machine, step: &Step) -> Result<(), String> {
    machine.stays(&step.body);
    if step.refused.is_none() {
        // Whether it serves is seen by what comes after. It must be more than a shell by then.
        return if within(|| !machine.log().trim().is_empty() || machine.ended().is_some()) {
            match machine.ended() {
                None => Ok(()),
                Some(_) => Err(format!("it has ended:\n{}", machine.log())),
            }
        } else {
            Err("it says nothing".into())
        };
    }
    if !within(|| machine.ended().is_some()) {
        return Err(format!("it does not end:\n{}", machine.log()));
    }
    judge(step, machine.ended() == Some(true), &machine.log())
}

fn judge(step: &Step, well: bool, text: &str) -> Result<(), String> {
    let wanted = step.says.iter().chain(&step.refused);
    if let Some(missing) = wanted.into_iter().find(|says| !has(text, says)) {
        return Err(format!("{missing:?} is not in:\n{text}"));
    }
    if let Some(there) = step.hides.iter().find(|hides| has(text, hides)) {
        return Err(format!("{there:?} is in:\n{text}"));
    }
    match (well, &step.refused) {
        (true, None) | (false, Some(_)) => Ok(()),
        (true, Some(_)) => Err(format!("it works:\n{text}")),
        (false, None) => Err(format!("it fails:\n{text}")),
    }
}
