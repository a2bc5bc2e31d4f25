use super::*;

fn wish(args: &[&str]) -> Result<Wish, String> {
    // By way of the tool itself, so that the flags are the ones it has.
    let args: Vec<String> = args.iter().map(ToString::to_string).collect();
    let call = crate::cli::invocation(&super::super::ROOT, &args);
    Wish::read(&call).map_err(|failure| failure.message)
}

#[test]
fn wishes_that_cannot_be_are_refused() {
    let none = wish(&["dev"]).expect("nothing asked for");
    assert_eq!(
        none,
        Wish {
            members: None,
            data_dir: None,
            keep: false,
            client_port: None
        }
    );
    let all = wish(&[
        "dev",
        "--members=3",
        "--client-port",
        "0",
        "--keep",
        "--data-dir=x",
    ]);
    let all = all.expect("fine");
    assert_eq!(
        (all.members, all.client_port, all.keep),
        (Some(3), Some(0), true)
    );
    for (arg, text) in [
        (
            "--members=0",
            "--members=0 cannot be: give a number from 1 to 9",
        ),
        (
            "--members=10",
            "--members=10 cannot be: give a number from 1 to 9",
        ),
        (
            "--client-port=65536",
            "--client-port=65536 is no port: give a number up to 65535, 0 for any free one",
        ),
    ] {
        assert_eq!(wish(&["dev", arg]), Err(text.to_owned()));
    }
}

#[test]
fn a_directory_of_something_else_is_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("member")).expect("made");
    let failure = Place::given(dir.path()).expect_err("not ours");
    assert!(failure.message.contains("did not make"), "{failure:?}");
    assert!(dir.path().join("member").exists());
}

#[test]
fn a_layout_stays_with_its_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = Place::given(&dir.path().join("data")).expect("made");
    let first = Layout::of(&place, Some(3), Some(0)).expect("made");
    assert_eq!(first.members().len(), 3);
    let again = Place::given(place.dir()).expect("it is ours");
    assert_eq!(Layout::of(&again, None, None).expect("read"), first);
    let failure = Layout::of(&again, Some(1), None).expect_err("it has three");
    assert!(failure.message.contains("--members=1, but "), "{failure:?}");
    let configs = first.configs(place.dir(), true);
    let lists: Vec<_> = configs
        .iter()
        .map(|config| config.initial_cluster.clone())
        .collect();
    assert!(lists.windows(2).all(|pair| pair[0] == pair[1]), "{lists:?}");
    for config in configs {
        let resolved = config.resolve().expect("sound");
        assert_eq!(resolved.bootstrap().expect("it is in the cluster").len(), 3);
        assert!(!resolved.unsafe_no_fsync);
    }
}

#[test]
fn a_temporary_directory_goes_with_its_place() {
    let place = Place::temporary(false).expect("made");
    let dir = place.dir().to_owned();
    std::fs::write(dir.join("file"), "x").expect("written");
    drop(place);
    assert!(!dir.exists());
    let place = Place::temporary(true).expect("made");
    let dir = place.dir().to_owned();
    drop(place);
    assert!(dir.exists());
    std::fs::remove_dir_all(dir).expect("removed");
}

#[test]
fn the_banner_says_what_to_type() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = Place::given(&dir.path().join("data")).expect("made");
    let layout = Layout::of(&place, Some(1), Some(12379)).expect("made");
    let text = banner(&layout, &place);
    assert!(
        text.contains("etcdctl --endpoints=http://127.0.0.1:12379 put greeting hello"),
        "{text}"
    );
    assert!(text.contains("is kept"), "{text}");
}
