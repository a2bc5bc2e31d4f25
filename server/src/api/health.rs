//! What `/health`, `/livez` and `/readyz` look at (config-and-ops 8.1, 8.2).

use retcd_proto::etcdserverpb as pb;

use super::{Api, Caller};
use crate::error::Error;

/// The outcome of one health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    /// Its name, as in `/readyz/<name>`.
    pub(crate) name: &'static str,
    /// Why it failed.
    pub(crate) error: Option<String>,
}

impl Api {
    /// Why the member is not healthy. `exclude` names alarms not to look at.
    pub(crate) async fn health(
        &self,
        exclude: &[String],
        serializable: bool,
    ) -> Result<(), String> {
        let result = self.is_healthy(exclude, serializable).await;
        let server = &self.member.metrics.server;
        match result {
            Ok(()) => server.health_success.inc(),
            Err(_) => server.health_failures.inc(),
        }
        result
    }

    async fn is_healthy(&self, exclude: &[String], serializable: bool) -> Result<(), String> {
        let alarms = self.member.alarms.load_full();
        for alarm in alarms.iter() {
            let name = alarm.alarm().as_str_name();
            if exclude.iter().any(|excluded| excluded == name) {
                continue;
            }
            return Err(match alarm.alarm() {
                pb::AlarmType::Nospace | pb::AlarmType::Corrupt => format!("ALARM {name}"),
                pb::AlarmType::None => "ALARM UNKNOWN".to_owned(),
            });
        }
        if !serializable && !self.member.has_leader() {
            return Err("RAFT NO LEADER".to_owned());
        }
        self.probe(serializable)
            .await
            .map_err(|error| format!("RANGE ERROR:{error}"))
    }

    /// The checks of `/livez`.
    pub(crate) async fn live(&self, exclude: &[String]) -> Vec<Check> {
        self.checks("livez", &["serializable_read"], exclude).await
    }

    /// The checks of `/readyz`.
    pub(crate) async fn ready(&self, exclude: &[String]) -> Vec<Check> {
        let all = [
            "data_corruption",
            "serializable_read",
            "linearizable_read",
            "non_learner",
        ];
        self.checks("readyz", &all, exclude).await
    }

    async fn checks(
        &self,
        endpoint: &str,
        names: &[&'static str],
        exclude: &[String],
    ) -> Vec<Check> {
        let mut checks = Vec::new();
        for &name in names {
            if !exclude.iter().any(|excluded| excluded == name) {
                let error = self.check(name).await.err();
                let server = &self.member.metrics.server;
                server.checked(endpoint, name, error.is_none());
                checks.push(Check { name, error });
            }
        }
        checks
    }

    async fn check(&self, name: &str) -> Result<(), String> {
        match name {
            "data_corruption" => {
                let corrupt = |a: &pb::AlarmMember| a.alarm() == pb::AlarmType::Corrupt;
                if self.member.alarms.load().iter().any(corrupt) {
                    return Err("alarm activated: CORRUPT".to_owned());
                }
                Ok(())
            }
            "serializable_read" => self.probe(true).await.map_err(|e| e.to_string()),
            "linearizable_read" => self.probe(false).await.map_err(|e| e.to_string()),
            "non_learner" if self.member.is_learner() => {
                Err("not supported for learner".to_owned())
            }
            _ => Ok(()),
        }
    }

    async fn probe(&self, serializable: bool) -> Result<(), Error> {
        let request = pb::RangeRequest {
            key: "health".into(),
            limit: 1,
            serializable,
            ..Default::default()
        };
        self.check_state(&Caller::default())?;
        self.admitted_range(request).await.map(|_| ())
    }
}
