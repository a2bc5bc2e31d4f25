//! Tutorials that users follow, command line by command line as they are written (`tests/seeds`), on machines made of
//! namespaces, with our server, Debian's etcdctl 3.4 and cfssl. Each line works, or is refused with a sentence that says
//! what to do; which of both, and what is left out and why, is the table in `docs/seeds.md`, written by the run.

mod machine;
mod play;
mod script;
mod table;
mod units;

macro_rules! tutorials {
    ($($test:ident: $name:literal;)*) => {$(
        #[test]
        fn $test() {
            play::tutorial($name);
        }
    )*};
}

tutorials! {
    t000: "000";
    t001: "001";
    t002: "002";
    t003: "003";
    t004: "004";
}
