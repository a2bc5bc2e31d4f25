//! The raft configuration as the backend keeps it (disk-format 6.3): JSON under `confState`.

use retcd_proto::raftpb::ConfState;
use serde_json::{Map, Value};

/// Its key in the bucket `meta`.
pub(crate) const CONF_STATE: &[u8] = b"confState";

/// In the order of etcd's fields, so that equal members have equal bytes.
pub(crate) fn to_json(state: &ConfState) -> Vec<u8> {
    let mut fields = Vec::new();
    for (name, ids) in [
        ("voters", &state.voters),
        ("learners", &state.learners),
        ("voters_outgoing", &state.voters_outgoing),
        ("learners_next", &state.learners_next),
    ] {
        if !ids.is_empty() {
            fields.push(format!("\"{name}\":{}", Value::from(ids.as_slice())));
        }
    }
    fields.push(format!("\"auto_leave\":{}", state.auto_leave()));
    format!("{{{}}}", fields.join(",")).into_bytes()
}

/// `None` for what is not such a JSON document.
pub(crate) fn from_json(text: &[u8]) -> Option<ConfState> {
    let json: Map<String, Value> = serde_json::from_slice(text).ok()?;
    let ids = |name| match json.get(name) {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(ids) => ids.as_array()?.iter().map(Value::as_u64).collect(),
    };
    Some(ConfState {
        voters: ids("voters")?,
        learners: ids("learners")?,
        voters_outgoing: ids("voters_outgoing")?,
        learners_next: ids("learners_next")?,
        auto_leave: Some(match json.get("auto_leave") {
            None => false,
            Some(value) => value.as_bool()?,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_etcd_writes_is_read_and_written_alike() {
        let text = br#"{"voters":[14699554536758614914],"auto_leave":false}"#;
        let state = from_json(text).expect("as seen in a file of etcd 3.6");
        assert_eq!(state.voters, [14_699_554_536_758_614_914]);
        assert_eq!(to_json(&state), text);
        let with_learner = br#"{"voters":[1,2],"learners":[3],"auto_leave":false}"#;
        let state = from_json(with_learner).expect("as etcd writes it");
        assert_eq!(to_json(&state), with_learner);
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "[]", r#"{"voters":[-1]}"#, r#"{"auto_leave":"no"}"#] {
            assert_eq!(from_json(text.as_bytes()), None, "{text}");
        }
    }
}
