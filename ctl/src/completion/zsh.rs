//! For zsh.

use std::fmt::Write as _;

use super::place::{Program, Word};

/// As for bash, with what each word does beside it.
pub(super) fn script(programs: &[Program]) -> String {
    let names: Vec<&str> = programs.iter().map(|program| program.name).collect();
    let names = names.join(" ");
    let mut text = format!(
        "#compdef {names}\n\
         # Completion for zsh. To use it, write it into a file _retcd in a directory of $fpath, before compinit.\n\n\
         _retcd() {{\n\
         \x20   local place=$service word before=${{words[CURRENT - 1]}}\n\
         \x20   local -a flags commands\n\
         \x20   for word in ${{words[2,CURRENT-1]}}; do\n\
         \x20       case \"$place $word\" in\n"
    );
    let places = || programs.iter().flat_map(|program| &program.places);
    for place in places().filter(|place| place.path.contains(' ')) {
        let _ = writeln!(text, "            '{0}') place='{0}' ;;", place.path);
    }
    text.push_str("        esac\n    done\n    case \"$place $before\" in\n");
    for place in places() {
        for flag in place.flags.iter().filter(|flag| !flag.choices.is_empty()) {
            let _ = writeln!(
                text,
                "        '{} --{}') compadd {}; return ;;",
                place.path,
                flag.name,
                flag.choices.join(" ")
            );
        }
    }
    text.push_str("    esac\n    case $place in\n");
    for place in places() {
        let _ = writeln!(text, "        '{}')", place.path);
        let _ = writeln!(
            text,
            "            commands=({})",
            words(&place.commands, "")
        );
        let _ = writeln!(text, "            flags=({})", words(&place.flags, "--"));
        text.push_str("            ;;\n");
    }
    text.push_str(
        "    esac\n\
         \x20   if [[ $PREFIX == -* ]]; then\n\
         \x20       _describe -o flag flags\n\
         \x20   else\n\
         \x20       _describe command commands\n\
         \x20       _files\n\
         \x20   fi\n\
         }\n\n\
         if [[ $zsh_eval_context[-1] == loadautofunc ]]; then\n\
         \x20   _retcd \"$@\"\n\
         else\n",
    );
    let _ = writeln!(text, "    compdef _retcd {names}\nfi");
    text
}

fn words(words: &[Word], dashes: &str) -> String {
    let quoted = words.iter().map(|word| {
        let help = word.help.replace('\'', "'\\''");
        // The first colon ends the word, so one in the help does no harm.
        format!("\n                '{dashes}{}:{help}'", word.name)
    });
    let mut text: String = quoted.collect();
    if !text.is_empty() {
        text.push_str("\n            ");
    }
    text
}
