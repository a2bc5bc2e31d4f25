package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/client/v3/leasing"
	"go.etcd.io/etcd/client/v3/mirror"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.etcd.io/etcd/client/v3/ordering"
)

// leasingCache: two caches of one store agree after every write of either.
func leasingCache(ctx context.Context, client *clientv3.Client) error {
	other, err := another(client)
	if err != nil {
		return err
	}
	defer other.Close()
	one, closeOne, err := leasing.NewKV(client, "leasing/", concurrency.WithTTL(30))
	if err != nil {
		return err
	}
	defer closeOne()
	two, closeTwo, err := leasing.NewKV(other, "leasing/", concurrency.WithTTL(30))
	if err != nil {
		return err
	}
	defer closeTwo()
	caches := []clientv3.KV{one, two}
	for n := range 30 {
		key, want := fmt.Sprintf("cached/%d", n%4), fmt.Sprint(n)
		switch n % 5 {
		case 3:
			if _, err := caches[n%2].Delete(ctx, key); err != nil {
				return err
			}
			want = ""
		case 4:
			put := clientv3.OpPut(key, want)
			if _, err := caches[n%2].Txn(ctx).Then(put, clientv3.OpGet("cached/0")).Commit(); err != nil {
				return err
			}
		default:
			if _, err := caches[n%2].Put(ctx, key, want); err != nil {
				return err
			}
		}
		for _, kv := range append(caches, client.KV) {
			for range 2 {
				got, err := value(ctx, kv, key)
				if err != nil {
					return err
				}
				if err := expect(key, got, want); err != nil {
					return fmt.Errorf("write %d: %w", n, err)
				}
			}
		}
	}
	return nil
}

// mirrorAll: a copy made of the base and the updates is the store.
func mirrorAll(ctx context.Context, client *clientv3.Client) error {
	for n := range 50 {
		if _, err := client.Put(ctx, fmt.Sprintf("mirror/%03d", n), "base"); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	syncer := mirror.NewSyncer(client, "mirror/", 0)
	copied := map[string]string{}
	base, errs := syncer.SyncBase(ctx)
	for r := range base {
		for _, kv := range r.Kvs {
			copied[string(kv.Key)] = string(kv.Value)
		}
	}
	if err := <-errs; err != nil {
		return err
	}
	if err := expect("the size of the base", len(copied), 50); err != nil {
		return err
	}
	updates := syncer.SyncUpdates(ctx)
	for n := range 40 {
		if _, err := client.Put(ctx, fmt.Sprintf("mirror/%03d", n*2), fmt.Sprint(n)); err != nil {
			return err
		}
	}
	if _, err := client.Delete(ctx, "mirror/01", clientv3.WithPrefix()); err != nil {
		return err
	}
	last, err := client.Put(ctx, "mirror/end", "")
	if err != nil {
		return err
	}
	for r := range updates {
		if err := r.Err(); err != nil {
			return err
		}
		for _, ev := range r.Events {
			if ev.Type == clientv3.EventTypeDelete {
				delete(copied, string(ev.Kv.Key))
			} else {
				copied[string(ev.Kv.Key)] = string(ev.Kv.Value)
			}
		}
		if r.Header.Revision >= last.Header.Revision {
			break
		}
	}
	all, err := client.Get(ctx, "mirror/", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	for _, kv := range all.Kvs {
		if err := expect(string(kv.Key), copied[string(kv.Key)], string(kv.Value)); err != nil {
			return err
		}
	}
	return expect("the size of the copy", len(copied), len(all.Kvs))
}

// namespaces: what is done in one stays in it, leases, locks and watches too.
func namespaces(ctx context.Context, client *clientv3.Client) error {
	other, err := another(client)
	if err != nil {
		return err
	}
	defer other.Close()
	other.KV = namespace.NewKV(other.KV, "ns/")
	other.Watcher = namespace.NewWatcher(other.Watcher, "ns/")
	other.Lease = namespace.NewLease(other.Lease, "ns/")
	lease, err := other.Grant(ctx, 60)
	if err != nil {
		return err
	}
	events := other.Watch(ctx, "", clientv3.WithPrefix())
	if _, err := client.Put(ctx, "outside", "x"); err != nil {
		return err
	}
	if _, err := other.Put(ctx, "inside", "v", clientv3.WithLease(lease.ID)); err != nil {
		return err
	}
	r := <-events
	if err := r.Err(); err != nil {
		return err
	}
	if err := expect("the key of the event", string(r.Events[0].Kv.Key), "inside"); err != nil {
		return err
	}
	if v, err := value(ctx, client, "ns/inside"); err != nil || v != "v" {
		return fmt.Errorf("from outside it holds %q (%v)", v, err)
	}
	keys, err := other.TimeToLive(ctx, lease.ID, clientv3.WithAttachedKeys())
	if err != nil {
		return err
	}
	if len(keys.Keys) != 1 || string(keys.Keys[0]) != "inside" {
		return fmt.Errorf("keys of the lease: %q", keys.Keys)
	}
	s, err := concurrency.NewSession(other)
	if err != nil {
		return err
	}
	defer s.Close()
	m := concurrency.NewMutex(s, "lock")
	if err := m.Lock(ctx); err != nil {
		return err
	}
	locked, err := client.Get(ctx, "ns/lock/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return err
	}
	if err := expect("locks below the namespace", locked.Count, 1); err != nil {
		return err
	}
	if err := m.Unlock(ctx); err != nil {
		return err
	}
	if _, err := other.Revoke(ctx, lease.ID); err != nil {
		return err
	}
	left, err := client.Get(ctx, "ns/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return err
	}
	return expect("what is left in it", left.Count, 0)
}

// orderedReads: nobody who reads through it goes back in time.
func orderedReads(ctx context.Context, client *clientv3.Client) error {
	kv := ordering.NewKV(client.KV, ordering.NewOrderViolationSwitchEndpointClosure(client))
	last := int64(0)
	for n := range 100 {
		if _, err := client.Put(ctx, "ordered", fmt.Sprint(n)); err != nil {
			return err
		}
		for range 3 {
			r, err := kv.Get(ctx, "ordered", clientv3.WithSerializable())
			if err != nil {
				return err
			}
			if r.Header.Revision < last {
				return fmt.Errorf("revision %d after %d", r.Header.Revision, last)
			}
			last = r.Header.Revision
		}
		if _, err := kv.Txn(ctx).Then(clientv3.OpGet("ordered", clientv3.WithSerializable())).Commit(); err != nil {
			return err
		}
	}
	return nil
}

// keepAlive: many leases on one stream, longer than their time.
func keepAlive(ctx context.Context, client *clientv3.Client) error {
	const leases = 100
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var ids []clientv3.LeaseID
	for range leases {
		r, err := client.Grant(ctx, 5)
		if err != nil {
			return err
		}
		replies, err := client.KeepAlive(ctx, r.ID)
		if err != nil {
			return err
		}
		go func() {
			for range replies {
			}
		}()
		ids = append(ids, r.ID)
	}
	time.Sleep(11 * time.Second)
	for _, id := range ids {
		r, err := client.TimeToLive(ctx, id)
		if err != nil {
			return err
		}
		if r.TTL < 0 {
			return fmt.Errorf("lease %x ended while it was renewed", int64(id))
		}
	}
	if _, err := client.KeepAliveOnce(ctx, 77); err == nil {
		return errors.New("a lease that is not there was renewed")
	}
	return nil
}

// watchOverRestart: says "ready"; then the server is killed and comes back, again and again, while it writes.
// Every acknowledged write is seen, once and in order.
func watchOverRestart(ctx context.Context, client *clientv3.Client) error {
	const writes = 2000
	events := client.Watch(ctx, "restart/", clientv3.WithPrefix(), clientv3.WithPrevKV())
	acknowledged := make(map[string]int64, writes)
	done := make(chan error, 1)
	go func() {
		for n := 0; n < writes; n++ {
			key := fmt.Sprintf("restart/%05d", n)
			r, err := client.Put(ctx, key, fmt.Sprint(n))
			for err != nil {
				if ctx.Err() != nil {
					done <- err
					return
				}
				time.Sleep(20 * time.Millisecond)
				r, err = client.Put(ctx, key, fmt.Sprint(n))
			}
			acknowledged[key] = r.Header.Revision
			if n == 20 {
				fmt.Println("ready")
			}
			time.Sleep(time.Millisecond)
		}
		_, err := client.Put(ctx, "restart/end", "")
		for err != nil && ctx.Err() == nil {
			time.Sleep(20 * time.Millisecond)
			_, err = client.Put(ctx, "restart/end", "")
		}
		done <- err
	}()
	seen := make(map[string][]int64, writes)
	last := int64(0)
	for ended := false; !ended; {
		r, ok := <-events
		if !ok {
			return errors.New("the watch ended")
		}
		if err := r.Err(); err != nil {
			return err
		}
		for _, ev := range r.Events {
			if ev.Kv.ModRevision <= last {
				return fmt.Errorf("revision %d after %d", ev.Kv.ModRevision, last)
			}
			last = ev.Kv.ModRevision
			key := string(ev.Kv.Key)
			if before := seen[key]; len(before) > 0 && (ev.PrevKv == nil || ev.PrevKv.ModRevision != before[len(before)-1]) {
				return fmt.Errorf("%s at %d follows %v, and says %v", key, last, before, ev.PrevKv)
			}
			seen[key] = append(seen[key], last)
			ended = ended || key == "restart/end"
		}
	}
	if err := <-done; err != nil {
		return err
	}
	for key, revision := range acknowledged {
		found := false
		for _, at := range seen[key] {
			found = found || at == revision
		}
		if !found {
			return fmt.Errorf("%s at %d was acknowledged and not seen, only %v", key, revision, seen[key])
		}
	}
	return nil
}
