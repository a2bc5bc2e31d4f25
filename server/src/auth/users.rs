//! Changes of users.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use prost::Message as _;
use retcd_proto::authpb::{User, UserAddOptions};
use retcd_proto::etcdserverpb::{
    AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest,
    AuthUserGrantRoleRequest, AuthUserRevokeRoleRequest,
};
use retcd_storage::backend::{Bucket, Writer};
use retcd_storage::mvcc;

use super::{Auth, Failure, ROOT, roles, store};
use crate::error::Error;

/// Base64 as Go's standard decoder takes it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

impl Auth {
    pub(super) fn user_add(
        &mut self,
        writer: &mut Writer,
        r: &AuthUserAddRequest,
    ) -> Result<(), Failure> {
        if r.name.is_empty() {
            return Err(Error::UserEmpty.into());
        }
        if get(writer, &r.name)?.is_some() {
            return Err(Error::UserAlreadyExist.into());
        }
        let options = r.options.unwrap_or_default();
        let password = if options.no_password {
            Bytes::new()
        } else {
            hash(&r.password, &r.hashed_password)?
        };
        put(
            writer,
            &User {
                name: r.name.clone().into(),
                password,
                roles: Vec::new(),
                // Never absent, as in etcd.
                options: Some(options),
            },
        );
        self.changed(writer);
        Ok(())
    }

    pub(super) fn user_delete(
        &mut self,
        writer: &mut Writer,
        r: &AuthUserDeleteRequest,
    ) -> Result<(), Failure> {
        if self.enabled && r.name == ROOT {
            return Err(Error::InvalidAuthMgmt.into());
        }
        existing(writer, &r.name)?;
        writer.delete(Bucket::AuthUsers, &r.name);
        self.changed(writer);
        Ok(())
    }

    pub(super) fn user_change_password(
        &mut self,
        writer: &mut Writer,
        r: &AuthUserChangePasswordRequest,
    ) -> Result<(), Failure> {
        let mut user = existing(writer, &r.name)?;
        user.password = match user.options {
            Some(UserAddOptions { no_password: true }) => Bytes::new(),
            _ => hash(&r.password, &r.hashed_password)?,
        };
        put(writer, &user);
        self.changed(writer);
        Ok(())
    }

    pub(super) fn user_grant_role(
        &mut self,
        writer: &mut Writer,
        r: &AuthUserGrantRoleRequest,
    ) -> Result<(), Failure> {
        let mut user = existing(writer, &r.user)?;
        // Root's role need not exist.
        if r.role != ROOT && roles::get(writer, &r.role)?.is_none() {
            return Err(Error::RoleNotFound.into());
        }
        if user.roles.contains(&r.role) {
            return Ok(());
        }
        user.roles.push(r.role.clone());
        user.roles.sort_unstable();
        put(writer, &user);
        self.changed(writer);
        Ok(())
    }

    pub(super) fn user_revoke_role(
        &mut self,
        writer: &mut Writer,
        r: &AuthUserRevokeRoleRequest,
    ) -> Result<(), Failure> {
        if self.enabled && r.name == ROOT && r.role == ROOT {
            return Err(Error::InvalidAuthMgmt.into());
        }
        let mut user = existing(writer, &r.name)?;
        if !lose_role(&mut user, &r.role) {
            return Err(Error::RoleNotGranted.into());
        }
        put(writer, &user);
        self.changed(writer);
        Ok(())
    }
}

/// Takes a role from everybody.
pub(super) fn forget_role(writer: &mut Writer, role: &str) -> Result<(), mvcc::Error> {
    for (name, value) in writer.scan(Bucket::AuthUsers, &[], None, 0)? {
        let mut user: User = store::decode(Bucket::AuthUsers, &name, value)?;
        if lose_role(&mut user, role) {
            put(writer, &user);
        }
    }
    Ok(())
}

/// Whether the user had the role.
fn lose_role(user: &mut User, role: &str) -> bool {
    let before = user.roles.len();
    user.roles.retain(|other| other != role);
    user.roles.len() < before
}

/// What is stored of a password.
fn hash(password: &str, hashed: &str) -> Result<Bytes, Failure> {
    if !password.is_empty() && hashed.is_empty() {
        return Err(Failure::Unsupported(
            "it sets a password as etcd 3.4 and older did, for every member to hash it by itself",
        ));
    }
    let text: Vec<u8> = hashed
        .bytes()
        .filter(|byte| !matches!(byte, b'\r' | b'\n'))
        .collect();
    match BASE64.decode(text) {
        Ok(hash) => Ok(hash.into()),
        Err(_) => Err(Error::NoPasswordUser.into()),
    }
}

pub(super) fn get(writer: &Writer, name: &str) -> Result<Option<User>, mvcc::Error> {
    store::get(writer, Bucket::AuthUsers, name)
}

fn existing(writer: &Writer, name: &str) -> Result<User, Failure> {
    Ok(get(writer, name)?.ok_or(Error::UserNotFound)?)
}

fn put(writer: &mut Writer, user: &User) {
    writer.put(Bucket::AuthUsers, &user.name, user.encode_to_vec());
}
