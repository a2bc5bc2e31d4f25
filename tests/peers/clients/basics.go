package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// trusting is a configuration of TLS for servers whose certificates come from an authority in a file.
func trusting(file string) (*tls.Config, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", file)
	}
	return &tls.Config{RootCAs: authorities, MinVersion: tls.VersionTLS12}, nil
}

// basics: what every user does.
func basics(ctx context.Context, client *clientv3.Client) error {
	parts := []func(context.Context, *clientv3.Client) error{puts, txns, watches, leases, locks}
	for _, part := range parts {
		if err := part(ctx, client); err != nil {
			return err
		}
	}
	return nil
}

func puts(ctx context.Context, client *clientv3.Client) error {
	first, err := client.Put(ctx, "go/a", "1")
	if err != nil {
		return err
	}
	r, err := client.Put(ctx, "go/a", "2", clientv3.WithPrevKV())
	if err != nil {
		return err
	}
	if err := expect("the value before", string(r.PrevKv.Value), "1"); err != nil {
		return err
	}
	if _, err := client.Put(ctx, "go/b", "3"); err != nil {
		return err
	}
	all, err := client.Get(ctx, "go/", clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend))
	if err != nil {
		return err
	}
	if err := expect("all", fmt.Sprintf("%s", all.Kvs[0].Value)+fmt.Sprintf("%s", all.Kvs[1].Value), "32"); err != nil {
		return err
	}
	past, err := client.Get(ctx, "go/a", clientv3.WithRev(first.Header.Revision), clientv3.WithSerializable())
	if err != nil {
		return err
	}
	if err := expect("the past", string(past.Kvs[0].Value), "1"); err != nil {
		return err
	}
	gone, err := client.Delete(ctx, "go/b")
	if err != nil {
		return err
	}
	if err := expect("what is deleted", gone.Deleted, 1); err != nil {
		return err
	}
	if _, err := client.Compact(ctx, r.Header.Revision); err != nil {
		return err
	}
	_, err = client.Get(ctx, "go/a", clientv3.WithRev(first.Header.Revision))
	if !errors.Is(err, rpctypes.ErrCompacted) {
		return fmt.Errorf("what was compacted is answered %v", err)
	}
	return nil
}

func txns(ctx context.Context, client *clientv3.Client) error {
	yes, err := client.Txn(ctx).
		If(clientv3.Compare(clientv3.Value("go/a"), "=", "2"), clientv3.Compare(clientv3.Version("go/none"), "=", 0)).
		Then(clientv3.OpPut("go/t", "yes"), clientv3.OpGet("go/a")).
		Else(clientv3.OpPut("go/t", "no")).
		Commit()
	if err != nil {
		return err
	}
	if !yes.Succeeded || string(yes.Responses[1].GetResponseRange().Kvs[0].Value) != "2" {
		return fmt.Errorf("the first transaction: %v", yes)
	}
	no, err := client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision("go/a"), ">", yes.Header.Revision)).
		Then(clientv3.OpPut("go/t", "no")).
		Else(clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpDelete("go/t")}, nil)).
		Commit()
	if err != nil {
		return err
	}
	if no.Succeeded || no.Responses[0].GetResponseTxn().Responses[0].GetResponseDeleteRange().Deleted != 1 {
		return fmt.Errorf("the second transaction: %v", no)
	}
	return nil
}

func watches(ctx context.Context, client *clientv3.Client) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := client.Watch(ctx, "go/w/", clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithCreatedNotify())
	if r := <-events; !r.Created {
		return fmt.Errorf("a watch begins with %v", r)
	}
	for n := range 20 {
		if _, err := client.Put(ctx, fmt.Sprintf("go/w/%d", n%3), fmt.Sprint(n)); err != nil {
			return err
		}
	}
	if _, err := client.Delete(ctx, "go/w/0"); err != nil {
		return err
	}
	var seen []*clientv3.Event
	for len(seen) < 21 {
		r, ok := <-events
		if !ok || r.Err() != nil {
			return fmt.Errorf("the watch ended: %v", r.Err())
		}
		seen = append(seen, r.Events...)
	}
	for n, ev := range seen[:20] {
		if err := expect("an event", string(ev.Kv.Value), fmt.Sprint(n)); err != nil {
			return err
		}
		if n >= 3 && string(ev.PrevKv.Value) != fmt.Sprint(n-3) {
			return fmt.Errorf("event %d follows %v", n, ev.PrevKv)
		}
	}
	if err := expect("the last event", seen[20].Type, mvccpb.DELETE); err != nil {
		return err
	}
	later := client.Watch(ctx, "go/w/", clientv3.WithPrefix(), clientv3.WithRev(seen[5].Kv.ModRevision), clientv3.WithFilterPut())
	r := <-later
	if r.Err() != nil || len(r.Events) != 1 || r.Events[0].Type != mvccpb.DELETE {
		return fmt.Errorf("what is left of the past: %v", r)
	}
	return nil
}

func leases(ctx context.Context, client *clientv3.Client) error {
	lease, err := client.Grant(ctx, 60)
	if err != nil {
		return err
	}
	if _, err := client.Put(ctx, "go/l", "v", clientv3.WithLease(lease.ID)); err != nil {
		return err
	}
	left, err := client.TimeToLive(ctx, lease.ID, clientv3.WithAttachedKeys())
	if err != nil {
		return err
	}
	if left.GrantedTTL != 60 || len(left.Keys) != 1 || string(left.Keys[0]) != "go/l" {
		return fmt.Errorf("what is left of a lease: %v", left)
	}
	kept, err := client.KeepAliveOnce(ctx, lease.ID)
	if err != nil {
		return err
	}
	if err := expect("the renewed time", kept.TTL, 60); err != nil {
		return err
	}
	if _, err := client.Revoke(ctx, lease.ID); err != nil {
		return err
	}
	v, err := value(ctx, client, "go/l")
	if err != nil {
		return err
	}
	if err := expect("the key of a revoked lease", v, ""); err != nil {
		return err
	}
	if lease, err = client.Grant(ctx, 10); err != nil {
		return err
	}
	put, err := client.Put(ctx, "go/l", "w", clientv3.WithLease(lease.ID))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	r := <-client.Watch(ctx, "go/l", clientv3.WithRev(put.Header.Revision+1))
	if r.Err() != nil || len(r.Events) != 1 || r.Events[0].Type != mvccpb.DELETE {
		return fmt.Errorf("the end of a lease: %v", r)
	}
	return nil
}

func locks(ctx context.Context, client *clientv3.Client) error {
	one, err := concurrency.NewSession(client, concurrency.WithTTL(60))
	if err != nil {
		return err
	}
	defer one.Close()
	two, err := concurrency.NewSession(client, concurrency.WithTTL(60))
	if err != nil {
		return err
	}
	defer two.Close()
	first, second := concurrency.NewMutex(one, "go/lock"), concurrency.NewMutex(two, "go/lock")
	if err := first.Lock(ctx); err != nil {
		return err
	}
	if err := second.TryLock(ctx); !errors.Is(err, concurrency.ErrLocked) {
		return fmt.Errorf("the second one is told %v", err)
	}
	waited := make(chan error, 1)
	go func() { waited <- second.Lock(ctx) }()
	if err := first.Unlock(ctx); err != nil {
		return err
	}
	if err := <-waited; err != nil {
		return err
	}
	return second.Unlock(ctx)
}
