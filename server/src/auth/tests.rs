use std::sync::Arc;

use bytes::Bytes;
use retcd_proto::authpb::{Permission, UserAddOptions};
use retcd_proto::etcdserverpb::{
    AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthRoleDeleteRequest,
    AuthRoleGrantPermissionRequest, AuthRoleRevokePermissionRequest, AuthUserAddRequest,
    AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGetRequest,
    AuthUserGrantRoleRequest, AuthUserRevokeRoleRequest, InternalAuthenticateRequest,
    InternalRaftRequest, PutRequest,
};
use retcd_storage::backend::{Backend, Bucket, MemBackend, Reader, Writer, WriterOptions};

use super::*;

struct Rig {
    auth: Auth,
    writer: Writer,
    reader: Reader,
}

impl Rig {
    fn new() -> Self {
        let engine: Arc<dyn Backend> = Arc::new(MemBackend::new());
        let (mut writer, reader) = Writer::start(engine, WriterOptions::default());
        let mut auth = Auth::load(&reader).unwrap();
        auth.begin(&mut writer);
        Self {
            auth,
            writer,
            reader,
        }
    }

    fn revision(&self) -> u64 {
        let value = self.writer.get(Bucket::Auth, b"authRevision").unwrap();
        u64::from_be_bytes(value.unwrap()[..].try_into().unwrap())
    }

    /// Applies a request; true if it made a new revision.
    fn apply(&mut self, r: InternalRaftRequest) -> Result<bool, Failure> {
        let before = self.revision();
        let result = self.auth.apply(&mut self.writer, &r).expect("of auth");
        let changed = self.revision() - before;
        assert!(changed <= u64::from(result.is_ok()));
        result.map(|()| changed == 1)
    }

    fn refusal(&mut self, r: InternalRaftRequest) -> Error {
        match self.apply(r) {
            Err(Failure::Refused(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    fn get(&self, bucket: Bucket, key: &str) -> Option<Bytes> {
        self.writer.get(bucket, key.as_bytes()).unwrap()
    }

    fn user(&self, name: &str) -> Option<Bytes> {
        self.get(Bucket::AuthUsers, name)
    }

    fn role(&self, name: &str) -> Option<Bytes> {
        self.get(Bucket::AuthRoles, name)
    }
}

macro_rules! request {
    ($field:ident, $value:expr) => {
        InternalRaftRequest {
            $field: Some($value),
            ..InternalRaftRequest::default()
        }
    };
}

fn user_add(name: &str, hashed: &str) -> InternalRaftRequest {
    request!(
        auth_user_add,
        AuthUserAddRequest {
            name: name.into(),
            hashed_password: hashed.into(),
            ..Default::default()
        }
    )
}

fn role_add(name: &str) -> InternalRaftRequest {
    request!(auth_role_add, AuthRoleAddRequest { name: name.into() })
}

fn grant_role(user: &str, role: &str) -> InternalRaftRequest {
    request!(
        auth_user_grant_role,
        AuthUserGrantRoleRequest {
            user: user.into(),
            role: role.into()
        }
    )
}

fn grant(role: &str, kind: i32, key: &str, end: &str) -> InternalRaftRequest {
    request!(
        auth_role_grant_permission,
        AuthRoleGrantPermissionRequest {
            name: role.into(),
            perm: Some(Permission {
                perm_type: kind,
                key: key.to_owned().into(),
                range_end: end.to_owned().into(),
            }),
        }
    )
}

#[test]
fn a_new_store_has_revision_1_and_keeps_it() {
    let mut rig = Rig::new();
    assert_eq!(rig.revision(), 1);
    rig.writer.publish().unwrap();
    let mut again = Auth::load(&rig.reader).unwrap();
    again.begin(&mut rig.writer);
    assert_eq!(rig.revision(), 1);
    assert!(!again.enabled());
}

#[test]
fn users_are_stored_as_etcd_stores_them() {
    let mut rig = Rig::new();
    // "hash", in base64.
    assert!(rig.apply(user_add("u", "aGFzaA==")).unwrap());
    assert_eq!(
        rig.user("u").unwrap(),
        &b"\x0a\x01u\x12\x04hash\x22\x00"[..]
    );
    let no_password = request!(
        auth_user_add,
        AuthUserAddRequest {
            name: "n".into(),
            hashed_password: "aGFzaA==".into(),
            options: Some(UserAddOptions { no_password: true }),
            ..Default::default()
        }
    );
    assert!(rig.apply(no_password).unwrap());
    assert_eq!(rig.user("n").unwrap(), &b"\x0a\x01n\x22\x02\x08\x01"[..]);

    assert_eq!(rig.refusal(user_add("", "")), Error::UserEmpty);
    assert_eq!(rig.refusal(user_add("u", "")), Error::UserAlreadyExist);
    assert_eq!(rig.refusal(user_add("x", "a")), Error::NoPasswordUser);
    assert_eq!(rig.user("x"), None);

    for role in ["r2", "r1"] {
        assert!(rig.apply(role_add(role)).unwrap());
        assert!(rig.apply(grant_role("u", role)).unwrap());
    }
    assert!(!rig.apply(grant_role("u", "r1")).unwrap(), "it has it");
    assert_eq!(
        rig.user("u").unwrap(),
        &b"\x0a\x01u\x12\x04hash\x1a\x02r1\x1a\x02r2\x22\x00"[..]
    );
    assert_eq!(rig.refusal(grant_role("v", "r1")), Error::UserNotFound);
    assert_eq!(rig.refusal(grant_role("u", "r3")), Error::RoleNotFound);
    assert!(
        rig.apply(grant_role("u", "root")).unwrap(),
        "root's role need not be there"
    );

    let password = |name: &str| {
        request!(
            auth_user_change_password,
            AuthUserChangePasswordRequest {
                name: name.into(),
                hashed_password: "bmV3".into(),
                ..Default::default()
            }
        )
    };
    assert!(rig.apply(password("u")).unwrap());
    assert!(
        rig.user("u")
            .unwrap()
            .starts_with(b"\x0a\x01u\x12\x03new\x1a")
    );
    assert!(rig.apply(password("n")).unwrap());
    assert_eq!(
        rig.user("n").unwrap(),
        &b"\x0a\x01n\x22\x02\x08\x01"[..],
        "still without a password"
    );
    assert_eq!(rig.refusal(password("v")), Error::UserNotFound);

    let revoke = |role: &str| {
        request!(
            auth_user_revoke_role,
            AuthUserRevokeRoleRequest {
                name: "u".into(),
                role: role.into()
            }
        )
    };
    assert!(rig.apply(revoke("r1")).unwrap());
    assert_eq!(rig.refusal(revoke("r1")), Error::RoleNotGranted);

    let delete = |name: &str| {
        request!(
            auth_user_delete,
            AuthUserDeleteRequest { name: name.into() }
        )
    };
    assert!(rig.apply(delete("u")).unwrap());
    assert_eq!(rig.user("u"), None);
    assert_eq!(rig.refusal(delete("u")), Error::UserNotFound);
}

#[test]
fn roles_are_stored_as_etcd_stores_them() {
    let mut rig = Rig::new();
    assert_eq!(rig.refusal(role_add("")), Error::RoleEmpty);
    assert!(rig.apply(role_add("r")).unwrap());
    assert_eq!(rig.refusal(role_add("r")), Error::RoleAlreadyExist);
    assert_eq!(rig.role("r").unwrap(), &b"\x0a\x01r"[..]);

    assert!(rig.apply(grant("r", 1, "m", "")).unwrap());
    assert!(rig.apply(grant("r", 0, "b", "c")).unwrap());
    assert!(
        rig.apply(grant("r", 2, "b", "c")).unwrap(),
        "changes the kind"
    );
    assert!(
        rig.apply(grant("r", 0, "b", "d")).unwrap(),
        "another range is another permission"
    );
    assert!(
        rig.apply(grant("r", 0, "b", "d")).unwrap(),
        "etcd looks only at the first one of a key"
    );
    let wanted = b"\x0a\x01r\
        \x12\x08\x08\x02\x12\x01b\x1a\x01c\
        \x12\x06\x12\x01b\x1a\x01d\
        \x12\x06\x12\x01b\x1a\x01d\
        \x12\x05\x08\x01\x12\x01m";
    assert_eq!(rig.role("r").unwrap(), &wanted[..]);
    assert!(rig.apply(grant("r", 0, "z", "\0")).unwrap());

    let nothing = request!(
        auth_role_grant_permission,
        AuthRoleGrantPermissionRequest {
            name: "r".into(),
            perm: None
        }
    );
    assert_eq!(rig.refusal(nothing), Error::PermissionNotGiven);
    for (key, end) in [("", ""), ("b", "b"), ("b", "a")] {
        assert_eq!(rig.refusal(grant("r", 0, key, end)), Error::InvalidAuthMgmt);
    }
    assert_eq!(rig.refusal(grant("s", 0, "a", "")), Error::RoleNotFound);

    let revoke = |role: &str, key: &str, end: &str| {
        request!(
            auth_role_revoke_permission,
            AuthRoleRevokePermissionRequest {
                role: role.into(),
                key: key.to_owned().into(),
                range_end: end.to_owned().into(),
            }
        )
    };
    assert!(
        rig.apply(revoke("r", "b", "d")).unwrap(),
        "both of them at once"
    );
    assert_eq!(
        rig.refusal(revoke("r", "b", "d")),
        Error::PermissionNotGranted
    );
    assert_eq!(rig.refusal(revoke("s", "b", "d")), Error::RoleNotFound);

    rig.apply(user_add("u", "")).unwrap();
    rig.apply(grant_role("u", "r")).unwrap();
    let delete = || request!(auth_role_delete, AuthRoleDeleteRequest { role: "r".into() });
    assert!(rig.apply(delete()).unwrap());
    assert_eq!(rig.role("r"), None);
    assert_eq!(
        rig.user("u").unwrap(),
        &b"\x0a\x01u\x22\x00"[..],
        "the role is gone"
    );
    assert_eq!(rig.refusal(delete()), Error::RoleNotFound);
}

#[test]
fn enabling_needs_root_and_shows_in_the_database() {
    let mut rig = Rig::new();
    let enable = || request!(auth_enable, AuthEnableRequest {});
    let disable = || request!(auth_disable, AuthDisableRequest {});
    let login = || request!(authenticate, InternalAuthenticateRequest::default());
    assert!(!rig.apply(disable()).unwrap(), "it is off");
    assert_eq!(rig.get(Bucket::Auth, "authEnabled"), None);
    assert_eq!(rig.refusal(enable()), Error::RootUserNotExist);
    assert_eq!(rig.refusal(login()), Error::AuthNotEnabled);
    rig.apply(user_add("root", "")).unwrap();
    assert_eq!(rig.refusal(enable()), Error::RootRoleNotExist);
    rig.apply(grant_role("root", "root")).unwrap();

    assert!(!rig.apply(enable()).unwrap(), "no new revision");
    assert!(rig.auth.enabled());
    assert!(!rig.apply(login()).unwrap());
    assert_eq!(rig.get(Bucket::Auth, "authEnabled").unwrap(), [1][..]);
    rig.writer.publish().unwrap();
    assert!(Auth::load(&rig.reader).unwrap().enabled());
    let delete_root = request!(
        auth_user_delete,
        AuthUserDeleteRequest {
            name: "root".into()
        }
    );
    assert_eq!(rig.refusal(delete_root), Error::InvalidAuthMgmt);

    assert!(rig.apply(disable()).unwrap());
    assert!(!rig.auth.enabled());
    assert_eq!(rig.get(Bucket::Auth, "authEnabled").unwrap(), [0][..]);
}

#[test]
fn what_only_reads_and_what_is_of_others_changes_nothing() {
    let mut rig = Rig::new();
    let read = request!(auth_user_get, AuthUserGetRequest { name: "u".into() });
    assert!(!rig.apply(read).unwrap());
    let put = request!(put, PutRequest::default());
    assert!(rig.auth.apply(&mut rig.writer, &put).is_none());
}

#[test]
fn a_password_that_every_member_hashes_for_itself_is_not_for_us() {
    let mut rig = Rig::new();
    let old = request!(
        auth_user_add,
        AuthUserAddRequest {
            name: "u".into(),
            password: "secret".into(),
            ..Default::default()
        }
    );
    assert!(matches!(rig.apply(old), Err(Failure::Unsupported(_))));
    assert_eq!(rig.user("u"), None);
}
