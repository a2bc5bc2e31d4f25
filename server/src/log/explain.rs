//! What lines that users ask about mean, and what to do next.
//!
//! One table. Its sources are the error lines of the tutorials that users follow, and those that operators meet most. A
//! line is known by a part of its message and, where one message stands for several troubles, by a part of its `error`.

use super::line::Line;

/// One trouble.
#[derive(Debug)]
pub(super) struct Entry {
    /// A part of the message.
    pub(super) message: &'static str,
    /// A part of the field `error`; empty for any.
    pub(super) error: &'static str,
    /// What it means, and the next command.
    pub(super) text: &'static str,
}

const fn entry(message: &'static str, error: &'static str, text: &'static str) -> Entry {
    Entry {
        message,
        error,
        text,
    }
}

const PEER: &str = "rejected connection on peer endpoint";
const CLIENT: &str = "rejected connection on client endpoint";
const BOOTSTRAP: &str = "bootstrap failed";
const LAST: &str = "discovery failed";

/// The first one that fits counts.
pub(super) static ENTRIES: &[Entry] = &[
    // Certificates between members.
    entry(
        PEER,
        "certificate is valid for",
        "another member shows a certificate that does not name the address it connects from, so it is not let in, and cannot see why. Next: look at the names with `openssl x509 -noout -ext subjectAltName -in CERT` on that machine, issue a certificate that has its address, and restart that member.",
    ),
    entry(
        PEER,
        "doesn't contain any IP SANs",
        "another member shows a certificate without any IP address, and connects by one. Next: issue its certificate with its address as subjectAltName (`openssl x509 -noout -ext subjectAltName -in CERT` shows what it has), and restart that member.",
    ),
    entry(
        PEER,
        "does not match any of DNSNames",
        "another member shows a certificate whose host names do not resolve to the address it connects from. Next: issue its certificate with its address as subjectAltName, or make one of the names resolve to it (`getent hosts NAME` on this machine), and restart that member.",
    ),
    entry(
        PEER,
        "certificate signed by unknown authority",
        "another member shows a certificate of an authority that this member does not trust. Next: compare `openssl x509 -noout -issuer -in CERT` there with `openssl x509 -noout -subject -in CA` of --peer-trusted-ca-file here; give all members the same authority.",
    ),
    entry(
        PEER,
        "didn't provide a certificate",
        "another member connects without a certificate, and this one demands one (--peer-client-cert-auth). Next: start that member with --peer-cert-file and --peer-key-file.",
    ),
    entry(
        PEER,
        "first record does not look like a TLS handshake",
        "another member still dials http:// where this one speaks https://. Next: `etcdctl member list`, then `etcdctl member update ID --peer-urls=https://...` for this member, so that the others know its new URL.",
    ),
    entry(
        PEER,
        "a TLS handshake on a port that speaks plain HTTP",
        "another member dials https:// where this one still speaks http://. Next: start this member with --listen-peer-urls=https://..., --peer-cert-file, --peer-key-file and --peer-trusted-ca-file, or correct its URL with `etcdctl member update ID --peer-urls=http://...`.",
    ),
    entry(
        PEER,
        "incompatible key usage",
        "another member's certificate may not be used to connect with: members are servers and clients of each other. Next: issue it with the extended key usages serverAuth and clientAuth (`openssl x509 -noout -ext extendedKeyUsage -in CERT` shows them).",
    ),
    entry(
        PEER,
        "certificate has expired or is not yet valid",
        "another member's certificate is out of its time, or a clock is wrong. Next: `openssl x509 -noout -dates -in CERT` and `date` on both machines; then issue a new certificate, which is picked up without a restart.",
    ),
    entry(
        PEER,
        "remote error: tls:",
        "the other member broke off the handshake because it does not accept this member's certificate. While members change from http:// to https:// this passes when the last one is restarted. Next: read the other member's log at this time; check this member's names with `openssl x509 -noout -ext subjectAltName -in CERT`.",
    ),
    entry(
        PEER,
        "EOF",
        "something connected to the peer port and left before the handshake was over: a port probe, or a member that is being stopped. Nothing to do unless a member is missing: `etcdctl endpoint health --cluster`.",
    ),
    // Certificates of clients.
    entry(
        CLIENT,
        "certificate signed by unknown authority",
        "a client shows a certificate of an authority that is not in --trusted-ca-file; the client itself only sees that its time is over. Next: give it a certificate of that authority: `etcdctl --cacert=CA --cert=CERT --key=KEY endpoint health`.",
    ),
    entry(
        CLIENT,
        "didn't provide a certificate",
        "a client connects without a certificate, and this member demands one (--client-cert-auth); the client itself only sees that its time is over. Next: `etcdctl --cacert=CA --cert=CERT --key=KEY endpoint health`.",
    ),
    entry(
        CLIENT,
        "first record does not look like a TLS handshake",
        "a client speaks plain HTTP to a port that speaks TLS. Next: use https:// in its endpoints, and --cacert.",
    ),
    entry(
        CLIENT,
        "a TLS handshake on a port that speaks plain HTTP",
        "a client speaks TLS to a port that speaks plain HTTP. Next: use http:// in its endpoints, or start this member with --listen-client-urls=https://..., --cert-file and --key-file.",
    ),
    entry(
        CLIENT,
        "incompatible key usage",
        "a client's certificate may not be used to connect with. Next: issue it with the extended key usage clientAuth (`openssl x509 -noout -ext extendedKeyUsage -in CERT` shows what it has).",
    ),
    entry(
        CLIENT,
        "certificate has expired or is not yet valid",
        "a client's certificate is out of its time, or a clock is wrong. Next: `openssl x509 -noout -dates -in CERT` and `date` on both machines.",
    ),
    entry(
        CLIENT,
        "remote error: tls:",
        "the client broke off the handshake because it does not accept this member's certificate. Next: give the client the authority of it (etcdctl: --cacert), and make sure that the certificate names the host in the client's endpoint: `openssl x509 -noout -ext subjectAltName -in CERT`.",
    ),
    entry(
        CLIENT,
        "EOF",
        "something connected to the client port and left before the handshake was over: a port probe, or a load balancer's health check. Nothing to do.",
    ),
    entry(
        "ignoring peer auto TLS since certs given",
        "",
        "both --peer-auto-tls and certificates were given, and the certificates count. Nothing to do; leave --peer-auto-tls out to be rid of the line.",
    ),
    entry(
        "ignoring client auto TLS since certs given",
        "",
        "both --auto-tls and certificates were given, and the certificates count. Nothing to do; leave --auto-tls out to be rid of the line.",
    ),
    // A member that is to join.
    entry(
        "failed to get cluster response",
        "refused",
        "no member listens at that peer URL. Next: check that the member there runs and that the URL in --initial-cluster is its --listen-peer-urls.",
    ),
    entry(
        "failed to get cluster response",
        "",
        "that member did not say who belongs to the cluster. If it closed the connection, it refused this member's certificate, and its own log says why; or one side speaks http:// and the other https://. Next: `openssl s_client -connect HOST:2380 -cert CERT -key KEY -CAfile CA`.",
    ),
    entry(
        BOOTSTRAP,
        "cannot fetch cluster info from peer urls",
        "none of the members in --initial-cluster told who belongs to the cluster; the lines above say why, for each. Next: mend the first of those reasons, and start this member again; there is nothing to be removed.",
    ),
    entry(
        LAST,
        "cannot fetch cluster info from peer urls",
        "none of the members in --initial-cluster told who belongs to the cluster; the lines above say why, for each. No discovery service has anything to do with it.",
    ),
    entry(
        BOOTSTRAP,
        "member count is unequal",
        "the cluster has more or fewer members than --initial-cluster of this one: most often it was not announced yet. Next, on a member of the cluster: `etcdctl member list`, then `etcdctl member add NAME --peer-urls=URL`; start this member with the ETCD_INITIAL_CLUSTER that this prints.",
    ),
    entry(
        BOOTSTRAP,
        "no match found for existing member",
        "--initial-cluster gives a member other peer URLs than the cluster knows. Next: `etcdctl member list` on a member of the cluster, and write its URLs into --initial-cluster.",
    ),
    entry(
        BOOTSTRAP,
        "has already been bootstrapped",
        "the cluster runs and this member was part of it, but its data is not here. If the data is elsewhere: start it with that --data-dir. If it is lost: `etcdctl member remove ID`, `etcdctl member add NAME --peer-urls=URL`, and start it with --initial-cluster-state=existing on an empty directory.",
    ),
    entry(
        BOOTSTRAP,
        "couldn't find local name",
        "--name is not among the names in --initial-cluster. Next: compare the two, letter by letter; each member needs its own --name and its own URLs, also in copied files.",
    ),
    entry(
        BOOTSTRAP,
        "missing from --initial-advertise-peer-urls",
        "this member advertises other peer URLs than --initial-cluster gives it. Next: make both the same; addresses of another machine in a copied file are the usual cause.",
    ),
    entry(
        BOOTSTRAP,
        "missing from --initial-cluster",
        "this member advertises a peer URL that --initial-cluster does not give it. Next: make both the same.",
    ),
    entry(
        BOOTSTRAP,
        "has duplicate url",
        "two members have the same peer URL in --initial-cluster. Next: give each its own address.",
    ),
    entry(
        BOOTSTRAP,
        "comes without its data",
        "the cluster knows this member, but its data directory is empty: it could vote twice and undo what was acknowledged, so it may not go on. Next: start it with the --data-dir it had, or `etcdctl member remove ID`, `etcdctl member add NAME --peer-urls=URL`, and start it with --initial-cluster-state=existing.",
    ),
    entry(
        BOOTSTRAP,
        "comes with the data of cluster",
        "the data directory is that of another cluster: most often this member was once started on its own. Next: move the data directory away, announce the member with `etcdctl member add NAME --peer-urls=URL` and start it with --initial-cluster-state=existing.",
    ),
    entry(
        BOOTSTRAP,
        "address already in use",
        "another process listens there already, perhaps this very member. Next: `ss -ltnp 'sport = :2380'` (or the port in the error) names it.",
    ),
    entry(
        BOOTSTRAP,
        "cannot assign requested address",
        "this machine does not have the address that it is to listen on: most often the file or unit is a copy of another member's. Next: `ip -brief address` shows the addresses of this machine; correct --listen-peer-urls, --listen-client-urls and the --advertise ones, and --name with them.",
    ),
    entry(
        BOOTSTRAP,
        "permission denied",
        "the user that this member runs as may not use that file or directory. Next: `ls -ld` the path in the error and each directory above it, then `chown -R etcd: PATH` for the user of the service; data directories are of mode 0700, keys of 0600.",
    ),
    entry(
        "creating peer listener failed",
        "permission denied",
        "the user that this member runs as may not read that file. Next: `chown etcd: FILE` for the user of the service, and `namei -l FILE` to see each directory above it.",
    ),
    entry(
        "creating peer listener failed",
        "no such file or directory",
        "a file of --peer-cert-file, --peer-key-file or --peer-trusted-ca-file is not there. Next: `ls -l` the path in the error; a path that is not absolute begins at the working directory of the service.",
    ),
    entry(
        "setting up serving from embedded etcd failed.",
        "permission denied",
        "the user that this member runs as may not read that file. Next: `chown etcd: FILE` for the user of the service, and `namei -l FILE` to see each directory above it.",
    ),
    entry(
        "setting up serving from embedded etcd failed.",
        "no such file or directory",
        "a file of --cert-file, --key-file or --trusted-ca-file is not there. Next: `ls -l` the path in the error; a path that is not absolute begins at the working directory of the service.",
    ),
    entry(
        "failed to verify flags",
        "--advertise-client-urls is required",
        "whoever says where to listen must say where clients find this member. Next: add --advertise-client-urls with the address that clients use.",
    ),
    entry(
        "failed to verify flags",
        "expected IP in URL for binding",
        "a member listens on addresses, not on host names. Next: use the IP address of this machine, 127.0.0.1 or 0.0.0.0 in the --listen URL; host names belong into the --advertise ones.",
    ),
    entry(
        "server has already been initialized",
        "",
        "the data directory is in use already, so the --initial-... flags are not looked at. If the first start failed and the member should begin anew: stop it and move the directory away, never on a member that the cluster counts on.",
    ),
    // Members that do not know each other.
    entry(
        "request cluster ID mismatch",
        "",
        "a member of another cluster calls this one: it was first started on its own, or with another --initial-cluster or token. Next, on that machine: stop it, move its data directory away, announce it here with `etcdctl member add NAME --peer-urls=URL` and start it with --initial-cluster-state=existing.",
    ),
    entry(
        "cluster ID mismatch",
        "",
        "the member at that peer URL belongs to another cluster. Next: `etcdctl member list` here and there; one of the two was started with the data directory of another cluster, or the URL is somebody else's.",
    ),
    entry(
        "failed to find remote peer in cluster",
        "",
        "a member calls that this one does not know: it was removed, or this member has not heard of it yet, or two members were given the same peer URL. Next: `etcdctl member list`, and compare the URLs with those that each member listens on; correct with `etcdctl member update ID --peer-urls=URL`.",
    ),
    entry(
        "ID mismatch",
        "",
        "a member looks for another one at this address: its peer URL in the list of members is wrong. Next: `etcdctl member list`, then `etcdctl member update ID --peer-urls=URL` with the URL it really listens on.",
    ),
    entry(
        "failed version compatibility check",
        "",
        "the releases of two members are too far apart. Next: `etcdctl endpoint status --cluster -w table`; bring all members to one release, one minor release at a time.",
    ),
    entry(
        "server error",
        "permanently removed from the cluster",
        "the cluster has removed this member, and its data is of no use any more. To let it join again: move its data directory away, `etcdctl member add NAME --peer-urls=URL`, and start it with --initial-cluster-state=existing.",
    ),
    entry(
        "data-dir used by this member must be removed",
        "",
        "an id that was removed never comes back. Next: move the data directory away before this machine joins again.",
    ),
    entry(
        "because it was removed",
        "",
        "a member that was removed still calls. Next: stop it; to let it join again, move its data directory away and run `etcdctl member add NAME --peer-urls=URL`.",
    ),
    entry(
        "rejecting member add request",
        "",
        "the change could cost the cluster its majority, because members are not reachable. Next: `etcdctl endpoint health --cluster`; bring the unhealthy ones back, or remove the one that is lost for ever with `etcdctl member remove ID`, then add.",
    ),
    entry(
        "rejecting member remove request",
        "",
        "without that member too few healthy ones would be left. Next: `etcdctl endpoint health --cluster`; bring another one back first, or remove one that is unhealthy.",
    ),
    entry(
        "learner is not ready",
        "",
        "the learner has not got enough of the log yet to vote. Next: wait, look at RAFT APPLIED INDEX in `etcdctl endpoint status --cluster -w table`, and promote again.",
    ),
    // A cluster that does not answer.
    entry(
        "failed to publish local member to cluster through raft",
        "",
        "too few members are there to agree on anything, so this one is not ready. Next: start the others; `etcdctl endpoint health --cluster` shows who is missing. It goes on by itself.",
    ),
    entry(
        "prober detected unhealthy status",
        "",
        "that member does not answer at its peer URL: it is down, cut off, or listens elsewhere. Next: look at its log; `etcdctl endpoint status --cluster`.",
    ),
    entry(
        "prober found high clock drift",
        "",
        "the clocks of two machines differ by more than a second; certificates and leases suffer. Next: `timedatectl` on both; let a time service run.",
    ),
    entry(
        "lost TCP streaming connection with remote peer",
        "",
        "the connection to that member broke. Nothing to do if it was stopped or restarted; otherwise look at its log and at the network between the two.",
    ),
    entry(
        "peer became inactive",
        "",
        "that member is not reachable any more. Nothing to do if it was stopped; otherwise look at its log and at the network between the two.",
    ),
    entry(
        "waiting for ReadIndex response took too long",
        "",
        "a read waits because the leader does not answer, or there is none. Next: `etcdctl endpoint status --cluster -w table` shows who leads; disk and network of the leader are the usual causes.",
    ),
    entry(
        "timed out waiting for read index response",
        "",
        "reads failed because the leader did not answer in time, or there was none. Next: `etcdctl endpoint status --cluster -w table`.",
    ),
    // Slow disks and large requests.
    entry(
        "slow fdatasync",
        "",
        "the disk took more than a second to make the log durable; every write of the cluster waits for it. Next: `iostat -x 1` on this machine; give --wal-dir a disk of its own, without other writers.",
    ),
    entry(
        "leader failed to send out heartbeat on time",
        "",
        "this leader was held up for longer than two heartbeats: by its disk, or by a machine without time for it. If it lasts, the others elect another leader. Next: `iostat -x 1` and `top`; if the machine cannot be faster, larger --heartbeat-interval and --election-timeout on all members.",
    ),
    entry(
        "apply request took too long",
        "",
        "one request kept everything else waiting: most often a range of very many keys, or a slow disk. Next: read large ranges in pages (`--limit`), and look at `iostat -x 1`.",
    ),
    entry(
        "alarm raised",
        "",
        "the cluster refuses writes until the cause is mended and the alarm is disarmed. Next, for NOSPACE: `etcdctl compact REVISION`, `etcdctl defrag --cluster`, perhaps a larger --quota-backend-bytes, then `etcdctl alarm disarm`. for CORRUPT: compare `etcdctl endpoint hashkv --cluster`, and replace the member that differs.",
    ),
    entry(
        "failed to raise alarm",
        "",
        "the database is full, and the others could not be told yet. Next: `etcdctl compact REVISION`, `etcdctl defrag`; or a larger --quota-backend-bytes.",
    ),
    // Files.
    entry(
        "the disk has no room for the next segment of the log",
        "",
        "writes go on for a while in the file that is there, then the member stops. Next: `df -h` on the disk of the data directory (or --wal-dir); make room there.",
    ),
    entry(
        "80% of file descriptors are used",
        "",
        "each client's connection takes one, and at the limit nobody else is let in. Next: raise LimitNOFILE in the unit (`systemctl edit etcd`), or see with `ss -tnp` who opens so many.",
    ),
    entry(
        "another process has the database open",
        "",
        "a member before this one still stops, or two are started on one data directory. Next: `fuser -v PATH` names the other process. It goes on by itself when that one ends.",
    ),
    entry(
        "its log cannot be written",
        "",
        "the disk failed, or is full. Nothing that was acknowledged is lost if it reached a majority. Next: `df -h` and `dmesg`; mend the disk and start the member again, or replace it.",
    ),
    entry(
        "the member stops because it cannot go on safely",
        "",
        "going on could have damaged data, so this member stopped; the error says why. Next: keep its data directory, and replace the member: `etcdctl member remove ID`, `etcdctl member add NAME --peer-urls=URL`, start it on an empty directory.",
    ),
    // Texts of Go's members, for whoever reads their logs with our tools.
    entry(
        "is out of range [lastIndex(",
        "",
        "a member of Go etcd was started without the data it had and does not survive the leader's first message. Next: `etcdctl member remove ID`, `etcdctl member add NAME --peer-urls=URL`, start it with --initial-cluster-state=existing on an empty directory.",
    ),
];

/// What a line means in plain words, and the next command; `None` where the line says it all.
///
/// `error` is its field of that name.
#[must_use]
pub fn explain(message: &str, error: &str) -> Option<&'static str> {
    let fits = |entry: &&Entry| message.contains(entry.message) && error.contains(entry.error);
    ENTRIES.iter().find(fits).map(|entry| entry.text)
}

/// Adds the field `explain` to a line that is known.
pub(super) fn add(line: &mut Line) {
    let text = explain(&line.message, line.field("error").unwrap_or_default());
    if let Some(text) = text {
        line.add_text("explain", text);
    }
}

#[cfg(test)]
mod tests;
