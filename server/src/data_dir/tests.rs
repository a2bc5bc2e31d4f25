use retcd_storage::fs::SimFs;

use super::*;

fn with(engine: Engine, files: &[&str]) -> Result<(), DataDirError> {
    let snap = PathBuf::from("/data/member/snap");
    let fs = SimFs::new();
    fs.create_dir_all(&snap).unwrap();
    for name in files {
        fs.open(&snap.join(name), OpenMode::CreateNew).unwrap();
    }
    let dir = DataDir {
        root: "/data".into(),
        member: "/data/member".into(),
        wal: "/data/member/wal".into(),
        snap,
        engine,
    };
    dir.check_engine(&fs)
}

#[test]
fn data_belongs_to_its_engine() {
    let others = ["0000000000000001-0000000000000005.snap", "tmp1"];
    for engine in Engine::ALL {
        with(engine, &others).unwrap();
        with(engine, &[engine.file()]).unwrap();
    }
    let error = with(Engine::Bolt, &["sled"]).unwrap_err().to_string();
    let start = "/data/member/snap/sled is the data of the engine sled, but this member is started with the engine bolt: start it with --experimental-backend-engine=sled";
    assert!(error.starts_with(start), "{error}");
    assert_eq!(
        error.contains("in a build with the cargo feature sled"),
        !cfg!(feature = "sled")
    );
    let error = with(Engine::Sled, &["db"]).unwrap_err().to_string();
    assert!(
        error.contains("--experimental-backend-engine=bolt"),
        "{error}"
    );
}

#[test]
fn data_of_two_engines_is_not_chosen_from() {
    for engine in Engine::ALL {
        let error = with(engine, &["db", "sled"]).unwrap_err().to_string();
        assert!(error.contains("db and sled: move away"), "{error}");
    }
}
