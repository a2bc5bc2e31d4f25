use std::process::Command as Process;

use super::*;

fn script(shell: Shell) -> String {
    let mut out = Vec::new();
    write(
        shell,
        &[&crate::etcdutl::ROOT, &crate::tool::ROOT],
        true,
        &mut out,
    )
    .expect("written");
    String::from_utf8(out).expect("text")
}

#[test]
fn every_flag_that_does_something_is_offered_in_every_shell() {
    let (bash, zsh, fish) = (script(Shell::Bash), script(Shell::Zsh), script(Shell::Fish));
    for flag in retcd::config::flags().filter(|flag| flag.help.is_some()) {
        let name = flag.name;
        assert!(
            bash.contains(&format!("--{name} ")) || bash.contains(&format!("--{name}'")),
            "{name}"
        );
        assert!(zsh.contains(&format!("'--{name}:")), "{name}");
        assert!(
            fish.contains(&format!("complete -c etcd -l {name} ")),
            "{name}"
        );
    }
    assert!(fish.contains("-x -a 'new existing'"), "{fish}");
    for script in [bash, zsh, fish] {
        assert!(script.contains("snapshot") && script.contains("doctor"));
        assert!(!script.contains("migrate"), "it is not there yet");
    }
}

#[test]
fn other_shells_are_refused() {
    let failure = Shell::parse("powershell").expect_err("none");
    assert_eq!(failure.code, exit::BAD_ARGS);
    assert!(
        failure.message.contains("bash, zsh and fish"),
        "{failure:?}"
    );
}

/// What bash offers for a line, by the script; `None` where there is no bash.
fn offered(line: &[&str]) -> Option<Vec<String>> {
    let words: Vec<String> = line.iter().map(|word| format!("'{word}'")).collect();
    let code = format!(
        "{}\nCOMP_WORDS=({})\nCOMP_CWORD={}\n_retcd_completion\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script(Shell::Bash),
        words.join(" "),
        line.len() - 1
    );
    let output = Process::new("bash").arg("-c").arg(code).output().ok()?;
    assert!(output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    Some(
        text.lines()
            .map(str::to_owned)
            .filter(|line| !line.is_empty())
            .collect(),
    )
}

#[test]
fn bash_completes_by_the_script() {
    for (line, expected) in [
        (
            &["etcd", "--initial-cluster-s"][..],
            &["--initial-cluster-state"][..],
        ),
        (
            &["etcd", "--initial-cluster-state", ""],
            &["new", "existing"],
        ),
        (
            &["etcd", "--initial-cluster-state", "=", "e"],
            &["existing"],
        ),
        (&["/usr/bin/etcdutl", "sn"], &["snapshot"]),
        (
            &["etcdutl", "-w", "json", "snapshot", ""],
            &["restore", "status", "--timeout", "--write-out", "--help"],
        ),
        (
            &["etcdutl", "snapshot", "restore", "--bump"],
            &["--bump-revision"],
        ),
        (&["etcdutl", "snapshot", "restore", "x"], &[]),
        (&["retcd", "doc"], &["doctor"]),
        (&["retcd", "doctor", "--listen-p"], &["--listen-peer-urls"]),
        (&["retcd", "dev", "--mem"], &["--members"]),
    ] {
        let Some(offered) = offered(line) else {
            return; // there is no bash here
        };
        assert_eq!(offered, expected, "{line:?}");
    }
}
