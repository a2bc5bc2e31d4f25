package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// put is what a key shall be.
type put struct {
	key, value string
	lease      clientv3.LeaseID
}

// change does operation number n to keys that were filled in, whether they are there at the moment or not.
func (l *loader) change(ctx context.Context, n int) error {
	r := chance(l.seed, purposeChurn, n)
	some := func() put {
		return put{key: keyName(l.seed, r.IntN(l.firstKey+l.keys)), value: value(r), lease: l.lease(r, 8)}
	}
	switch k := r.IntN(100); {
	case k < 45:
		return l.put(ctx, some())
	case k < 65:
		return l.remove(ctx, some().key)
	case k < 70:
		return l.removeTen(ctx, r)
	case k < 75:
		return l.keepValue(ctx, some())
	case k < 85:
		// Both ways out of a condition that depends on what others did.
		p, q := some(), some()
		cond := clientv3.Compare(clientv3.Version(p.key), ">", 0)
		if p.key == q.key {
			return l.put(ctx, p)
		}
		return l.transact(ctx, &cond, []put{p, q}, []put{q})
	default:
		puts := make([]put, 0, 6)
		seen := map[string]bool{}
		for range 1 + r.IntN(6) {
			if p := some(); !seen[p.key] {
				seen[p.key] = true
				puts = append(puts, p)
			}
		}
		return l.transact(ctx, nil, puts, nil)
	}
}

func (l *loader) put(ctx context.Context, p put) error {
	resp, err := l.client.Put(ctx, p.key, p.value, clientv3.WithLease(p.lease))
	if err != nil {
		return fmt.Errorf("put %q: %w", p.key, err)
	}
	l.done.Add(1)
	return l.acks.put(p, resp.Header.Revision)
}

// keepValue changes nothing but the lease of a key, if there is the key.
func (l *loader) keepValue(ctx context.Context, p put) error {
	_, err := l.client.Put(ctx, p.key, "", clientv3.WithIgnoreValue(), clientv3.WithLease(p.lease))
	if err != nil && !errors.Is(err, rpctypes.ErrKeyNotFound) {
		return fmt.Errorf("put %q without a value: %w", p.key, err)
	}
	l.done.Add(1)
	return nil
}

func (l *loader) remove(ctx context.Context, key string) error {
	resp, err := l.client.Delete(ctx, key)
	if err != nil {
		return fmt.Errorf("delete %q: %w", key, err)
	}
	l.done.Add(1)
	return l.acks.removed(key, resp.Header.Revision)
}

// removeTen deletes up to ten keys that are neighbours, in one revision.
func (l *loader) removeTen(ctx context.Context, r *rand.Rand) error {
	key := keyName(l.seed, r.IntN(l.firstKey+l.keys)/100*100)
	prefix := key[:len(key)-min(len(key), 1)]
	resp, err := l.client.Delete(ctx, prefix, clientv3.WithRange(prefix+"\xff\xff\xff\xff"))
	if err != nil {
		return fmt.Errorf("delete range %q: %w", prefix, err)
	}
	l.done.Add(1)
	return l.acks.removed(key, resp.Header.Revision)
}

// transact puts one or the other, the latter from within a transaction in the transaction.
func (l *loader) transact(ctx context.Context, cond *clientv3.Cmp, then, otherwise []put) error {
	ops := func(puts []put) []clientv3.Op {
		var out []clientv3.Op
		for _, p := range puts {
			out = append(out, clientv3.OpPut(p.key, p.value, clientv3.WithLease(p.lease)))
		}
		return out
	}
	txn := l.client.Txn(ctx)
	if cond != nil {
		txn = txn.If(*cond)
	}
	txn = txn.Then(ops(then)...)
	if len(otherwise) > 0 {
		txn = txn.Else(clientv3.OpTxn(nil, ops(otherwise), nil))
	}
	resp, err := txn.Commit()
	if err != nil {
		return fmt.Errorf("transaction on %q: %w", then[0].key, err)
	}
	l.done.Add(1)
	did := then
	if !resp.Succeeded {
		did = otherwise
	}
	for _, p := range did {
		if err := l.acks.put(p, resp.Header.Revision); err != nil {
			return err
		}
	}
	return nil
}
