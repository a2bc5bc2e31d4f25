//! Whether authentication is on, its revision, and the way of a request to its effect.

use bytes::Bytes;
use prost::Message;
use retcd_proto::etcdserverpb::InternalRaftRequest;
use retcd_storage::backend::{Bucket, Reader, Writer};
use retcd_storage::mvcc;

use super::{Failure, ROOT, users};
use crate::error::Error;

/// Keys of the bucket `auth` (disk-format 6).
const ENABLED: &[u8] = b"authEnabled";
const REVISION: &[u8] = b"authRevision";

/// The state of authentication. Users and roles are in the backend alone: they are few, and seldom asked for.
#[derive(Debug)]
pub(crate) struct Auth {
    pub(super) enabled: bool,
    revision: u64,
}

impl Auth {
    /// # Errors
    /// `Corrupt` for a record that no member writes; `Backend`.
    pub(crate) fn load(reader: &Reader) -> Result<Self, mvcc::Error> {
        let enabled = reader.get(Bucket::Auth, ENABLED)?;
        let revision = match reader.get(Bucket::Auth, REVISION)? {
            None => 0,
            Some(value) => match <[u8; 8]>::try_from(value.as_ref()) {
                Ok(bytes) => u64::from_be_bytes(bytes),
                Err(_) => return Err(corrupt(Bucket::Auth, REVISION, "it is not 8 bytes long")),
            },
        };
        Ok(Self {
            enabled: enabled.is_some_and(|value| value == [1][..]),
            revision,
        })
    }

    /// The revision of users and roles.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Gives a new store its first revision.
    pub(crate) fn begin(&mut self, writer: &mut Writer) {
        if self.revision == 0 {
            self.changed(writer);
        }
    }

    pub(crate) fn enabled(&self) -> bool {
        self.enabled
    }

    /// Applies a request that came through the log; `None` when it is about something else.
    pub(crate) fn apply(
        &mut self,
        writer: &mut Writer,
        r: &InternalRaftRequest,
    ) -> Option<Result<(), Failure>> {
        Some(if r.auth_enable.is_some() {
            self.enable(writer)
        } else if r.auth_disable.is_some() {
            self.disable(writer);
            Ok(())
        } else if r.authenticate.is_some() {
            // With authentication on, a token; it is in no database.
            self.authenticate()
        } else if let Some(r) = &r.auth_user_add {
            self.user_add(writer, r)
        } else if let Some(r) = &r.auth_user_delete {
            self.user_delete(writer, r)
        } else if let Some(r) = &r.auth_user_change_password {
            self.user_change_password(writer, r)
        } else if let Some(r) = &r.auth_user_grant_role {
            self.user_grant_role(writer, r)
        } else if let Some(r) = &r.auth_user_revoke_role {
            self.user_revoke_role(writer, r)
        } else if let Some(r) = &r.auth_role_add {
            self.role_add(writer, r)
        } else if let Some(r) = &r.auth_role_delete {
            self.role_delete(writer, r)
        } else if let Some(r) = &r.auth_role_grant_permission {
            self.role_grant_permission(writer, r)
        } else if let Some(r) = &r.auth_role_revoke_permission {
            self.role_revoke_permission(writer, r)
        } else if is_read(r) {
            Ok(())
        } else {
            return None;
        })
    }

    fn enable(&mut self, writer: &mut Writer) -> Result<(), Failure> {
        if self.enabled {
            return Ok(());
        }
        let root = users::get(writer, ROOT)?.ok_or(Error::RootUserNotExist)?;
        if !root.roles.iter().any(|role| role == ROOT) {
            return Err(Error::RootRoleNotExist.into());
        }
        writer.put(Bucket::Auth, ENABLED, Bytes::from_static(&[1]));
        self.enabled = true;
        Ok(())
    }

    fn disable(&mut self, writer: &mut Writer) {
        if self.enabled {
            writer.put(Bucket::Auth, ENABLED, Bytes::from_static(&[0]));
            self.changed(writer);
            self.enabled = false;
        }
    }

    fn authenticate(&self) -> Result<(), Failure> {
        if self.enabled {
            Ok(())
        } else {
            Err(Error::AuthNotEnabled.into())
        }
    }

    /// Ends a change of users or roles: the next revision.
    pub(super) fn changed(&mut self, writer: &mut Writer) {
        self.revision += 1;
        writer.put(Bucket::Auth, REVISION, self.revision.to_be_bytes().to_vec());
    }
}

/// What only reads, which no member proposes any more.
fn is_read(r: &InternalRaftRequest) -> bool {
    r.auth_status.is_some()
        || r.auth_user_get.is_some()
        || r.auth_user_list.is_some()
        || r.auth_role_get.is_some()
        || r.auth_role_list.is_some()
}

/// A user or role by its name.
pub(super) fn get<M: Message + Default>(
    writer: &Writer,
    bucket: Bucket,
    name: &str,
) -> Result<Option<M>, mvcc::Error> {
    match writer.get(bucket, name.as_bytes())? {
        None => Ok(None),
        Some(value) => decode(bucket, name.as_bytes(), value).map(Some),
    }
}

pub(super) fn decode<M: Message + Default>(
    bucket: Bucket,
    name: &[u8],
    value: Bytes,
) -> Result<M, mvcc::Error> {
    M::decode(value).map_err(|_| corrupt(bucket, name, "the value cannot be decoded"))
}

fn corrupt(bucket: Bucket, key: &[u8], problem: &'static str) -> mvcc::Error {
    mvcc::Error::Corrupt {
        bucket,
        key: key.escape_ascii().to_string(),
        problem,
    }
}
