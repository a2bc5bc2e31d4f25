//! Changes of roles.

use prost::Message as _;
use retcd_proto::authpb::{Permission, Role};
use retcd_proto::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGrantPermissionRequest,
    AuthRoleRevokePermissionRequest,
};
use retcd_storage::backend::{Bucket, Writer};
use retcd_storage::mvcc;

use super::{Auth, Failure, ROOT, store, users};
use crate::error::Error;

impl Auth {
    pub(super) fn role_add(
        &mut self,
        writer: &mut Writer,
        r: &AuthRoleAddRequest,
    ) -> Result<(), Failure> {
        if r.name.is_empty() {
            return Err(Error::RoleEmpty.into());
        }
        if get(writer, &r.name)?.is_some() {
            return Err(Error::RoleAlreadyExist.into());
        }
        put(
            writer,
            &Role {
                name: r.name.clone().into(),
                key_permission: Vec::new(),
            },
        );
        self.changed(writer);
        Ok(())
    }

    pub(super) fn role_delete(
        &mut self,
        writer: &mut Writer,
        r: &AuthRoleDeleteRequest,
    ) -> Result<(), Failure> {
        if self.enabled && r.role == ROOT {
            return Err(Error::InvalidAuthMgmt.into());
        }
        existing(writer, &r.role)?;
        writer.delete(Bucket::AuthRoles, &r.role);
        users::forget_role(writer, &r.role)?;
        self.changed(writer);
        Ok(())
    }

    pub(super) fn role_grant_permission(
        &mut self,
        writer: &mut Writer,
        r: &AuthRoleGrantPermissionRequest,
    ) -> Result<(), Failure> {
        let permission = r.perm.as_ref().ok_or(Error::PermissionNotGiven)?;
        if !is_range(permission) {
            return Err(Error::InvalidAuthMgmt.into());
        }
        let mut role = existing(writer, &r.name)?;
        let all = &mut role.key_permission;
        // Only the first permission of this key is looked at, as in etcd.
        let at = all.partition_point(|other| other.key < permission.key);
        match all.get_mut(at) {
            Some(known) if same_range(known, permission) => known.perm_type = permission.perm_type,
            _ => {
                all.push(permission.clone());
                // Etcd's sort is not stable beyond twelve permissions: where a role has more of them and several
                // ranges begin with one key, its order among those may be another. They mean the same.
                all.sort_by(|a, b| a.key.cmp(&b.key));
            }
        }
        put(writer, &role);
        self.changed(writer);
        Ok(())
    }

    pub(super) fn role_revoke_permission(
        &mut self,
        writer: &mut Writer,
        r: &AuthRoleRevokePermissionRequest,
    ) -> Result<(), Failure> {
        let mut role = existing(writer, &r.role)?;
        let before = role.key_permission.len();
        role.key_permission
            .retain(|p| p.key != r.key || p.range_end != r.range_end);
        if role.key_permission.len() == before {
            return Err(Error::PermissionNotGranted.into());
        }
        put(writer, &role);
        self.changed(writer);
        Ok(())
    }
}

fn same_range(a: &Permission, b: &Permission) -> bool {
    a.key == b.key && a.range_end == b.range_end
}

/// Whether a permission's range can hold a key: no end, everything from the key on, or an end behind the key.
fn is_range(permission: &Permission) -> bool {
    let (key, end) = (&permission.key, &permission.range_end);
    !key.is_empty() && (end.is_empty() || end == &b"\0"[..] || end > key)
}

pub(super) fn get(writer: &Writer, name: &str) -> Result<Option<Role>, mvcc::Error> {
    store::get(writer, Bucket::AuthRoles, name)
}

fn existing(writer: &Writer, name: &str) -> Result<Role, Failure> {
    Ok(get(writer, name)?.ok_or(Error::RoleNotFound)?)
}

fn put(writer: &mut Writer, role: &Role) {
    writer.put(Bucket::AuthRoles, &role.name, role.encode_to_vec());
}
