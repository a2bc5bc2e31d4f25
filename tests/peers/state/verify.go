package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// verifier looks for every acknowledged effect.
type verifier struct {
	target
	checked, compacted, skipped atomic.Int64
}

// verified is printed at the end, as one line of JSON.
type verified struct {
	// Checked effects are there.
	Checked int64 `json:"checked"`
	// Compacted effects are of revisions that cannot be read any more.
	Compacted int64 `json:"compacted"`
	// Skipped effects are of services that the server does not have.
	Skipped int64 `json:"skipped"`
}

func runVerify(args []string) error {
	v := verifier{}
	fs := flag.NewFlagSet("verify", flag.ExitOnError)
	v.target.flags(fs)
	path := fs.String("acks", "", "the file that load wrote")
	workers := fs.Int("workers", 32, "calls at a time")
	fs.Parse(args)
	file, err := os.Open(*path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := v.connect(); err != nil {
		return err
	}
	defer v.client.Close()

	lines, failures := make(chan string), make(chan error)
	var group sync.WaitGroup
	for range *workers {
		group.Go(func() {
			for line := range lines {
				if err := v.check(line); err != nil {
					failures <- fmt.Errorf("%s: %w", line, err)
				}
			}
		})
	}
	var scanned error
	go func() {
		in := bufio.NewScanner(file)
		for in.Scan() {
			lines <- in.Text()
		}
		scanned = in.Err()
		close(lines)
		group.Wait()
		close(failures)
	}()
	var lost []error
	for err := range failures {
		lost = append(lost, err)
	}
	if scanned != nil {
		return scanned
	}
	if len(lost) > 0 {
		return fmt.Errorf("%d acknowledged effects are not there:\n%w", len(lost), errors.Join(lost[:min(len(lost), 10)]...))
	}
	return json.NewEncoder(os.Stdout).Encode(verified{v.checked.Load(), v.compacted.Load(), v.skipped.Load()})
}

func (v *verifier) check(line string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	kind, rest, _ := strings.Cut(line, " ")
	var err error
	switch kind {
	case "put", "removed":
		err = v.checkKey(ctx, kind == "put", rest)
	case "lease", "revoked":
		if v.skip["leases"] {
			v.skipped.Add(1)
			return nil
		}
		err = v.checkLease(ctx, kind == "lease", rest)
	case "user", "user-gone":
		if v.skip["auth"] {
			v.skipped.Add(1)
			return nil
		}
		err = v.checkUser(ctx, kind == "user", rest)
	case "compact":
		err = v.checkCompacted(ctx, rest)
	default:
		return fmt.Errorf("no such effect")
	}
	if errors.Is(err, rpctypes.ErrCompacted) {
		v.compacted.Add(1)
		return nil
	}
	if err == nil {
		v.checked.Add(1)
	}
	return err
}

func (v *verifier) checkKey(ctx context.Context, there bool, rest string) error {
	var rev, lease int64
	var key, hash string
	if there {
		if _, err := fmt.Sscanf(rest, "%d %x %s %d", &rev, &key, &hash, &lease); err != nil {
			return err
		}
	} else if _, err := fmt.Sscanf(rest, "%d %x", &rev, &key); err != nil {
		return err
	}
	got, err := v.client.Get(ctx, key, clientv3.WithRev(rev))
	if err != nil {
		return err
	}
	switch {
	case !there && len(got.Kvs) == 0:
		return nil
	case !there:
		return fmt.Errorf("it is there, of revision %d", got.Kvs[0].ModRevision)
	case len(got.Kvs) == 0:
		return fmt.Errorf("it is lost")
	}
	kv := got.Kvs[0]
	if kv.ModRevision != rev || digest(kv.Value) != hash || kv.Lease != lease {
		return fmt.Errorf("it is of revision %d, its value's digest %s, its lease %d", kv.ModRevision, digest(kv.Value), kv.Lease)
	}
	return nil
}

func (v *verifier) checkLease(ctx context.Context, there bool, rest string) error {
	var id, ttl int64
	if there {
		if _, err := fmt.Sscanf(rest, "%d %d", &id, &ttl); err != nil {
			return err
		}
	} else if _, err := fmt.Sscanf(rest, "%d", &id); err != nil {
		return err
	}
	got, err := v.client.TimeToLive(ctx, clientv3.LeaseID(id))
	if err != nil {
		return err
	}
	if !there && got.TTL >= 0 {
		return fmt.Errorf("it was revoked and lives")
	}
	// A lease of an older load may have been revoked by a later one; that has its own line.
	if there && got.TTL >= 0 && got.GrantedTTL != ttl {
		return fmt.Errorf("it was granted %d s", got.GrantedTTL)
	}
	if there && got.TTL < 0 {
		return fmt.Errorf("it is lost")
	}
	return nil
}

func (v *verifier) checkUser(ctx context.Context, there bool, name string) error {
	_, err := v.client.UserGet(ctx, name)
	switch {
	case there && err != nil:
		return err
	case !there && err == nil:
		return fmt.Errorf("it was deleted and is there")
	case !there && !errors.Is(err, rpctypes.ErrUserNotFound):
		return err
	}
	return nil
}

// checkCompacted finds the revision before that of a compaction unreadable.
func (v *verifier) checkCompacted(ctx context.Context, rest string) error {
	var rev int64
	if _, err := fmt.Sscanf(rest, "%d", &rev); err != nil {
		return err
	}
	if _, err := v.client.Get(ctx, "none", clientv3.WithRev(rev-1)); !errors.Is(err, rpctypes.ErrCompacted) {
		return fmt.Errorf("revision %d can be read: %v", rev-1, err)
	}
	return nil
}
