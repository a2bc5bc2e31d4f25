//! Every method of the etcd API that a client port knows, served or not.

/// How many messages each side of a call sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One request, one reply.
    Unary,
    /// One request, many replies.
    ServerStream,
    /// Many of both.
    BidiStream,
}

impl Kind {
    /// The value of the metrics label `grpc_type`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::ServerStream => "server_stream",
            Self::BidiStream => "bidi_stream",
        }
    }
}

macro_rules! methods {
    ($($service:literal { $($id:ident $name:literal $kind:ident,)* })*) => {
        /// A method of the API. `as usize` numbers them from 0 without gaps.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Method { $($($id,)*)* }

        impl Method {
            /// All of them, in the order of their numbers.
            pub(crate) const ALL: &[Self] = &[$($(Self::$id,)*)*];

            /// The services, by full name.
            pub(crate) const SERVICES: &[&str] = &[$($service,)*];

            /// The method with this path, `/package.Service/Method`.
            pub(crate) fn find(path: &str) -> Option<Self> {
                match path {
                    $($(concat!("/", $service, "/", $name) => Some(Self::$id),)*)*
                    _ => None,
                }
            }

            /// The full name of its service, also the metrics label `grpc_service`.
            pub(crate) fn service(self) -> &'static str {
                match self { $($(Self::$id => $service,)*)* }
            }

            /// Its name within the service, also the metrics label `grpc_method`.
            pub(crate) fn name(self) -> &'static str {
                match self { $($(Self::$id => $name,)*)* }
            }

            /// What it takes and returns.
            pub(crate) fn schema(self) -> Option<&'static retcd_proto::schema::Method> {
                retcd_proto::schema::method(self.service(), self.name())
            }

            /// How many messages each side sends.
            pub(crate) fn kind(self) -> Kind {
                match self { $($(Self::$id => Kind::$kind,)*)* }
            }
        }
    };
}

methods! {
    "etcdserverpb.KV" {
        Range "Range" Unary,
        Put "Put" Unary,
        Txn "Txn" Unary,
        DeleteRange "DeleteRange" Unary,
        Compact "Compact" Unary,
        RangeStream "RangeStream" ServerStream,
    }
    "etcdserverpb.Watch" {
        Watch "Watch" BidiStream,
    }
    "etcdserverpb.Lease" {
        LeaseGrant "LeaseGrant" Unary,
        LeaseRevoke "LeaseRevoke" Unary,
        LeaseKeepAlive "LeaseKeepAlive" BidiStream,
        LeaseTimeToLive "LeaseTimeToLive" Unary,
        LeaseLeases "LeaseLeases" Unary,
    }
    "etcdserverpb.Cluster" {
        MemberAdd "MemberAdd" Unary,
        MemberRemove "MemberRemove" Unary,
        MemberUpdate "MemberUpdate" Unary,
        MemberList "MemberList" Unary,
        MemberPromote "MemberPromote" Unary,
    }
    "etcdserverpb.Maintenance" {
        Alarm "Alarm" Unary,
        Status "Status" Unary,
        Defragment "Defragment" Unary,
        Hash "Hash" Unary,
        HashKv "HashKV" Unary,
        Snapshot "Snapshot" ServerStream,
        MoveLeader "MoveLeader" Unary,
        Downgrade "Downgrade" Unary,
    }
    "etcdserverpb.Auth" {
        AuthEnable "AuthEnable" Unary,
        AuthDisable "AuthDisable" Unary,
        AuthStatus "AuthStatus" Unary,
        Authenticate "Authenticate" Unary,
        UserAdd "UserAdd" Unary,
        UserGet "UserGet" Unary,
        UserList "UserList" Unary,
        UserDelete "UserDelete" Unary,
        UserChangePassword "UserChangePassword" Unary,
        UserGrantRole "UserGrantRole" Unary,
        UserRevokeRole "UserRevokeRole" Unary,
        RoleAdd "RoleAdd" Unary,
        RoleGet "RoleGet" Unary,
        RoleList "RoleList" Unary,
        RoleDelete "RoleDelete" Unary,
        RoleGrantPermission "RoleGrantPermission" Unary,
        RoleRevokePermission "RoleRevokePermission" Unary,
    }
    "v3lockpb.Lock" {
        Lock "Lock" Unary,
        Unlock "Unlock" Unary,
    }
    "v3electionpb.Election" {
        Campaign "Campaign" Unary,
        Proclaim "Proclaim" Unary,
        Leader "Leader" Unary,
        Observe "Observe" ServerStream,
        Resign "Resign" Unary,
    }
    "grpc.health.v1.Health" {
        HealthCheck "Check" Unary,
        HealthList "List" Unary,
        HealthWatch "Watch" ServerStream,
    }
}
