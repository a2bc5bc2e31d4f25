package main

import (
	"context"
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// changeLeases grants new leases and revokes one in ten of those that were there, with their keys.
// They live for weeks: none expires while anybody compares.
func (l *loader) changeLeases() error {
	if l.skip["leases"] {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	there, err := l.client.Leases(ctx)
	if err != nil {
		return err
	}
	for _, lease := range there.Leases {
		l.held = append(l.held, lease.ID)
	}
	slices.Sort(l.held)
	kept := l.held[:0]
	for i, id := range l.held {
		if l.leases == 0 || i%10 != 9 {
			kept = append(kept, id)
			continue
		}
		if _, err := l.client.Revoke(ctx, id); err != nil {
			return fmt.Errorf("revoke %x: %w", id, err)
		}
		if err := l.acks.add("revoked", id); err != nil {
			return err
		}
	}
	l.held = kept
	grants := pb.NewLeaseClient(l.client.ActiveConnection())
	for n := range l.leases {
		r := chance(l.seed, purposeLease, l.firstOp+n)
		request := pb.LeaseGrantRequest{ID: 1 + r.Int64N(1<<62), TTL: 2_000_000 + r.Int64N(1_000_000)}
		granted, err := grants.LeaseGrant(ctx, &request)
		if err != nil {
			return fmt.Errorf("grant %x: %w", request.ID, err)
		}
		if err := l.acks.add("lease", granted.ID, granted.TTL); err != nil {
			return err
		}
		l.held = append(l.held, clientv3.LeaseID(granted.ID))
	}
	return nil
}
