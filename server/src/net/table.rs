//! The one table from methods to the member's services.

use futures_util::FutureExt as _;
use http::{Request, Response};
use hyper::body::Incoming;
use tonic::Code;

use super::body::Body;
use super::grpc::{Call, Metadata, Method, Pending, Status};
use super::site::{Boxed, Check, Probe, Services};
use crate::api::{Api, Caller};
use crate::peers;

impl From<Metadata> for Caller {
    fn from(metadata: Metadata) -> Self {
        Self {
            require_leader: metadata.require_leader,
            api_version: metadata.api_version,
        }
    }
}

impl Services for Api {
    fn call(&self, method: Method, call: Call) -> Pending {
        macro_rules! unary {
            ($name:ident) => {{
                let api = self.clone();
                Box::pin(call.unary(|metadata, request| async move {
                    api.$name(&metadata.into(), request).await
                }))
            }};
        }
        macro_rules! server_stream {
            ($name:ident) => {{
                let api = self.clone();
                Box::pin(call.server_stream(|metadata, request| async move {
                    api.$name(&metadata.into(), request).await
                }))
            }};
        }
        match method {
            Method::Watch => {
                let api = self.clone();
                Box::pin(call.bidi_stream(move |metadata, requests| {
                    api.watch::<Status>(&metadata.into(), requests)
                }))
            }

            Method::LeaseKeepAlive => {
                let api = self.clone();
                Box::pin(call.bidi_stream(move |metadata, requests| {
                    api.lease_keep_alive::<Status>(&metadata.into(), requests)
                }))
            }
            Method::LeaseGrant => unary!(lease_grant),
            Method::LeaseRevoke => unary!(lease_revoke),
            Method::LeaseTimeToLive => unary!(lease_time_to_live),
            Method::LeaseLeases => unary!(lease_leases),

            Method::Lock => unary!(lock),
            Method::Unlock => unary!(unlock),

            Method::Campaign => unary!(campaign),
            Method::Proclaim => unary!(proclaim),
            Method::Leader => unary!(leader),
            Method::Observe => server_stream!(observe),
            Method::Resign => unary!(resign),

            Method::Range => unary!(range),
            Method::RangeStream => server_stream!(range_stream),
            Method::Put => unary!(put),
            Method::DeleteRange => unary!(delete_range),
            Method::Txn => unary!(txn),
            Method::Compact => unary!(compact),

            Method::Alarm => unary!(alarm),
            Method::Status => unary!(status),
            Method::Hash => unary!(hash),
            Method::HashKv => unary!(hash_kv),
            Method::Defragment => unary!(defragment),
            Method::Snapshot => server_stream!(snapshot),

            Method::MoveLeader => unary!(move_leader),

            Method::MemberList => unary!(member_list),
            Method::MemberAdd => unary!(member_add),
            Method::MemberRemove => unary!(member_remove),
            Method::MemberUpdate => unary!(member_update),
            Method::MemberPromote => unary!(member_promote),

            // Not served yet.
            Method::Downgrade
            | Method::AuthEnable
            | Method::AuthDisable
            | Method::AuthStatus
            | Method::Authenticate
            | Method::UserAdd
            | Method::UserGet
            | Method::UserList
            | Method::UserDelete
            | Method::UserChangePassword
            | Method::UserGrantRole
            | Method::UserRevokeRole
            | Method::RoleAdd
            | Method::RoleGet
            | Method::RoleList
            | Method::RoleDelete
            | Method::RoleGrantPermission
            | Method::RoleRevokePermission
            // Answered by the listeners themselves.
            | Method::HealthCheck
            | Method::HealthList
            | Method::HealthWatch => {
                Box::pin(std::future::ready(call.refuse(&not_served(method))))
            }
        }
    }

    fn max_receive_bytes(&self) -> usize {
        Self::max_receive_bytes(self)
    }

    fn health<'a>(
        &'a self,
        exclude: &'a [String],
        serializable: bool,
    ) -> Boxed<'a, Result<(), String>> {
        Box::pin(Self::health(self, exclude, serializable))
    }

    fn probe<'a>(&'a self, probe: Probe, exclude: &'a [String]) -> Boxed<'a, Vec<Check>> {
        let checks = async move {
            match probe {
                Probe::Live => self.live(exclude).await,
                Probe::Ready => self.ready(exclude).await,
            }
        };
        Box::pin(checks.map(|checks| {
            let pairs = checks.into_iter().map(|check| (check.name, check.error));
            pairs.collect()
        }))
    }

    fn version(&self) -> (String, String, String) {
        Self::version(self)
    }

    fn metrics(&self) -> String {
        Self::metrics(self)
    }

    fn variables(&self) -> Vec<(&'static str, serde_json::Value)> {
        Self::variables(self)
    }

    fn peer(
        &self,
        request: Request<Incoming>,
    ) -> Boxed<'static, Result<Response<Body>, Request<Incoming>>> {
        Box::pin(peers::answer(self.member().clone(), request))
    }
}

/// A known call of the etcd API that this release leaves out.
pub(super) fn not_served(method: Method) -> Status {
    let version = env!("CARGO_PKG_VERSION");
    let (service, name) = (method.service(), method.name());
    Status::new(
        Code::Unimplemented,
        format!("retcd {version} does not serve {service}/{name} yet"),
    )
}
