//! For bash 4 and later.

use std::fmt::Write as _;

use super::place::Program;

/// Where a word of the line leads on, it is followed; then what fits there is offered, else names of files.
pub(super) fn script(programs: &[Program]) -> String {
    let names: Vec<&str> = programs.iter().map(|program| program.name).collect();
    let mut text = format!(
        "# Completion of {} for bash. To use it: eval \"$(retcd completion bash)\"\n\n",
        names.join(", ")
    );
    text.push_str(
        "_retcd_completion() {\n\
         \x20   local place=${COMP_WORDS[0]##*/} word i\n\
         \x20   local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} offered=\n\
         \x20   # `--flag=value` comes in three words.\n\
         \x20   if [ \"$current\" = = ]; then current=; fi\n\
         \x20   if [ \"$before\" = = ]; then before=${COMP_WORDS[COMP_CWORD - 2]}; fi\n\
         \x20   for ((i = 1; i < COMP_CWORD; i++)); do\n\
         \x20       word=${COMP_WORDS[i]}\n\
         \x20       case \"$place $word\" in\n",
    );
    let places = || programs.iter().flat_map(|program| &program.places);
    for place in places().filter(|place| place.path.contains(' ')) {
        let _ = writeln!(text, "            '{0}') place='{0}' ;;", place.path);
    }
    text.push_str("            *) ;;\n        esac\n    done\n    case \"$place $before\" in\n");
    for place in places() {
        for flag in place.flags.iter().filter(|flag| !flag.choices.is_empty()) {
            let _ = writeln!(
                text,
                "        '{} --{}') offered='{}' ;;",
                place.path,
                flag.name,
                flag.choices.join(" ")
            );
        }
    }
    text.push_str("        *)\n            case \"$place\" in\n");
    for place in places() {
        let commands = place.commands.iter().map(|word| word.name.to_owned());
        let flags = place.flags.iter().map(|word| format!("--{}", word.name));
        let all: Vec<String> = commands.chain(flags).collect();
        let _ = writeln!(
            text,
            "                '{}') offered='{}' ;;",
            place.path,
            all.join(" ")
        );
    }
    text.push_str(
        "                *) ;;\n\
         \x20           esac\n\
         \x20           ;;\n\
         \x20   esac\n\
         \x20   mapfile -t COMPREPLY < <(compgen -W \"$offered\" -- \"$current\")\n\
         }\n\n",
    );
    let _ = writeln!(
        text,
        "complete -o default -F _retcd_completion {}",
        names.join(" ")
    );
    text
}
