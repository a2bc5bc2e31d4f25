"""What users of the Python client etcd3 do, against one server: put, get, txn, watch, lease, lock.

Prints "ok" and ends with 0, or says what went wrong. Arguments: the endpoint, and a file of authorities for TLS.
"""

import sys
import threading
import time

import etcd3


def puts(client):
    client.put("py/a", "1")
    value, meta = client.get("py/a")
    assert value == b"1" and meta.key == b"py/a" and meta.version == 1, (value, meta)
    _, again = client.get("py/a", serializable=True)
    assert again.mod_revision == meta.mod_revision
    client.put("py/b", "2")
    pairs = {meta.key: value for value, meta in client.get_prefix("py/")}
    assert pairs == {b"py/a": b"1", b"py/b": b"2"}, pairs
    assert client.put_if_not_exists("py/c", "3") and not client.put_if_not_exists("py/c", "4")
    assert client.replace("py/c", "3", "5") and not client.replace("py/c", "3", "6")
    assert client.delete("py/c") and not client.delete("py/c")
    assert client.get("py/c")[0] is None


def txns(client):
    succeeded, replies = client.transaction(
        compare=[client.transactions.value("py/a") == "1", client.transactions.version("py/none") == 0],
        success=[client.transactions.put("py/t", "yes"), client.transactions.get("py/a")],
        failure=[client.transactions.put("py/t", "no")],
    )
    assert succeeded and replies[1][0][0] == b"1", (succeeded, replies)
    succeeded, _ = client.transaction(
        compare=[client.transactions.create("py/a") == 0],
        success=[client.transactions.put("py/t", "no")],
        failure=[client.transactions.delete("py/t")],
    )
    assert not succeeded and client.get("py/t")[0] is None


def watches(client):
    events, cancel = client.watch_prefix("py/w/")
    for n in range(20):
        client.put("py/w/%d" % (n % 3), str(n))
    client.delete("py/w/0")
    seen = [next(events) for _ in range(21)]
    assert [e.value for e in seen[:20]] == [str(n).encode() for n in range(20)], seen
    assert isinstance(seen[20], etcd3.events.DeleteEvent) and seen[20].key == b"py/w/0"
    cancel()
    events, cancel = client.watch_prefix("py/w/", start_revision=seen[5].mod_revision)
    again = [next(events) for _ in range(16)]
    assert [e.mod_revision for e in again] == [e.mod_revision for e in seen[5:]], again
    cancel()


def leases(client):
    lease = client.lease(60)
    client.put("py/l/1", "v", lease=lease)
    client.put("py/l/2", "v", lease=lease)
    assert sorted(lease.keys) == [b"py/l/1", b"py/l/2"], lease.keys
    assert lease.granted_ttl == 60 and 0 < lease.remaining_ttl <= 60
    assert lease.refresh()[0].TTL == 60
    lease.revoke()
    assert not list(client.get_prefix("py/l/"))
    short = client.lease(5)
    events, cancel = client.watch("py/short")
    client.put("py/short", "v", lease=short)
    assert next(events).value == b"v"
    assert isinstance(next(events), etcd3.events.DeleteEvent)
    cancel()
    own = client.lease(60, lease_id=4711)
    assert own.id == 4711
    own.revoke()


def locks(client, connect):
    inside = threading.Lock()
    failures = []

    def work():
        other = connect()
        try:
            for _ in range(5):
                with other.lock("py-lock", ttl=30):
                    if not inside.acquire(blocking=False):
                        raise AssertionError("two hold the lock")
                    time.sleep(0.002)
                    inside.release()
        except BaseException as error:  # told by the main thread
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


def main(endpoint, authorities=None):
    host, port = endpoint.rsplit(":", 1)

    def connect():
        return etcd3.client(host=host, port=int(port), ca_cert=authorities, timeout=60)

    client = connect()
    puts(client)
    txns(client)
    watches(client)
    leases(client)
    locks(client, connect)
    assert client.status().leader is not None
    client.compact(client.get("py/a")[1].response_header.revision)
    print("ok")


if __name__ == "__main__":
    main(*sys.argv[1:])
