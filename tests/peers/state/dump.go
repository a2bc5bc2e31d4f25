package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// dumper writes what a client can see, a file for each kind of thing, sorted, nothing in it that may differ
// between two servers in the same state.
type dumper struct {
	target
	dir string
}

// shown is printed at the end, as one line of JSON.
type shown struct {
	// Revision is the newest one.
	Revision int64 `json:"revision"`
	// Revs are all that keys and hashes were shown of.
	Revs []int64 `json:"revs"`
}

func runDump(args []string) error {
	d := dumper{}
	fs := flag.NewFlagSet("dump", flag.ExitOnError)
	d.target.flags(fs)
	fs.StringVar(&d.dir, "out", "", "folder for the files, made if it is not there")
	list := fs.String("revs", "", "older revisions to show keys and hashes of (comma separated)")
	keysAt := fs.Int64("keys-at", 0, "one more revision to show only the keys of")
	samples := fs.Int("samples", 0, "how many older revisions to choose, all above that of the last compaction")
	seed := fs.Uint64("seed", 1, "chance behind the choice")
	fs.Parse(args)
	if d.dir == "" {
		return fmt.Errorf("--out is missing")
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	if err := d.connect(); err != nil {
		return err
	}
	defer d.client.Close()
	now, compacted, err := d.revisions()
	if err != nil {
		return err
	}
	revs := []int64{now}
	for _, text := range strings.FieldsFunc(*list, func(r rune) bool { return r == ',' }) {
		rev, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("--revs: %w", err)
		}
		revs = append(revs, rev)
	}
	// The hash of the compaction's own revision may be one that the server remembers from it, and forgets
	// when it stops: it says nothing.
	if first := max(compacted, 0) + 1; *samples > 0 && first < now {
		r := chance(*seed, purposeSample, 0)
		revs = append(revs, first)
		for range *samples - 1 {
			revs = append(revs, first+r.Int64N(now-first))
		}
	}
	slices.Sort(revs)
	revs = slices.Compact(revs)
	if err := d.all(revs, *keysAt); err != nil {
		return err
	}
	after, _, err := d.revisions()
	if err == nil && after != now {
		err = fmt.Errorf("somebody writes: revision %d became %d", now, after)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(shown{now, revs})
}

func (d *dumper) all(revs []int64, keysAt int64) error {
	for _, rev := range revs {
		if err := d.keys(rev); err != nil {
			return fmt.Errorf("keys at revision %d: %w", rev, err)
		}
	}
	if keysAt > 0 {
		if err := d.keys(keysAt); err != nil {
			return fmt.Errorf("keys at revision %d: %w", keysAt, err)
		}
	}
	if err := d.hashes(revs); err != nil {
		return fmt.Errorf("hashes: %w", err)
	}
	if err := d.members(); err != nil {
		return fmt.Errorf("members: %w", err)
	}
	if err := d.leases(); err != nil {
		return fmt.Errorf("leases: %w", err)
	}
	if err := d.auth(); err != nil {
		return fmt.Errorf("users and roles: %w", err)
	}
	return nil
}

// write makes a file of lines.
func (d *dumper) write(name string, lines func(out *bufio.Writer) error) error {
	file, err := os.Create(filepath.Join(d.dir, name))
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(file, 1<<20)
	if err := lines(out); err != nil {
		file.Close()
		return err
	}
	if err := out.Flush(); err != nil {
		file.Close()
		return err
	}
	return file.Close()
}

// page is how many keys are read at a time.
const page = 5000

func (d *dumper) keys(rev int64) error {
	return d.write(fmt.Sprintf("keys@%d", rev), func(out *bufio.Writer) error {
		var count, seen int64
		for from, first := "\x00", true; ; first = false {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			r, err := d.client.Get(ctx, from, clientv3.WithFromKey(), clientv3.WithLimit(page), clientv3.WithRev(rev))
			cancel()
			if err != nil {
				return err
			}
			if first {
				count = r.Count
			}
			for _, kv := range r.Kvs {
				fmt.Fprintf(out, "%x create %d mod %d version %d lease %x value %d %s\n",
					kv.Key, kv.CreateRevision, kv.ModRevision, kv.Version, kv.Lease, len(kv.Value), digest(kv.Value))
			}
			seen += int64(len(r.Kvs))
			if !r.More {
				break
			}
			from = string(r.Kvs[len(r.Kvs)-1].Key) + "\x00"
		}
		if count != seen {
			return fmt.Errorf("the server counts %d keys and shows %d", count, seen)
		}
		fmt.Fprintf(out, "count %d\n", count)
		return nil
	})
}

func (d *dumper) hashes(revs []int64) error {
	return d.write("hashes", func(out *bufio.Writer) error {
		for _, rev := range revs {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			r, err := d.client.HashKV(ctx, d.endpoint, rev)
			cancel()
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "revision %d hash %d compacted %d of revision %d\n", r.HashRevision, r.Hash, r.CompactRevision, r.Header.Revision)
		}
		return nil
	})
}

func (d *dumper) members() error {
	return d.write("members", func(out *bufio.Writer) error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		r, err := d.client.MemberList(ctx)
		if err != nil {
			return err
		}
		slices.SortFunc(r.Members, func(a, b *pb.Member) int { return cmp.Compare(a.ID, b.ID) })
		fmt.Fprintf(out, "cluster %x\n", r.Header.ClusterId)
		for _, m := range r.Members {
			fmt.Fprintf(out, "member %x name %q peers %q clients %q learner %t\n", m.ID, m.Name, m.PeerURLs, m.ClientURLs, m.IsLearner)
		}
		alarms, err := d.client.AlarmList(ctx)
		if err != nil {
			return err
		}
		for _, a := range alarms.Alarms {
			fmt.Fprintf(out, "alarm %x %s\n", a.MemberID, a.Alarm)
		}
		return nil
	})
}

// leases has a line for each lease and one for each key that is attached to one.
func (d *dumper) leases() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	all, err := d.client.Leases(ctx)
	if d.skip["leases"] {
		return mustBeMissing("leases", err)
	}
	if err != nil {
		return err
	}
	slices.SortFunc(all.Leases, func(a, b clientv3.LeaseStatus) int { return cmp.Compare(a.ID, b.ID) })
	attached := map[string]clientv3.LeaseID{}
	err = d.write("leases", func(out *bufio.Writer) error {
		for _, lease := range all.Leases {
			r, err := d.client.TimeToLive(ctx, lease.ID, clientv3.WithAttachedKeys())
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "lease %x granted %d\n", r.ID, r.GrantedTTL)
			if r.TTL > r.GrantedTTL || r.TTL < 0 {
				return fmt.Errorf("lease %x of %d s has %d s left", r.ID, r.GrantedTTL, r.TTL)
			}
			for _, key := range r.Keys {
				if other, twice := attached[string(key)]; twice {
					return fmt.Errorf("key %x is attached to leases %x and %x", key, other, r.ID)
				}
				attached[string(key)] = lease.ID
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return d.write("lease-keys", func(out *bufio.Writer) error {
		keys := make([]string, 0, len(attached))
		for key := range attached {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		for _, key := range keys {
			fmt.Fprintf(out, "%x lease %x\n", key, int64(attached[key]))
		}
		return nil
	})
}

func (d *dumper) auth() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	users, err := d.client.UserList(ctx)
	if d.skip["auth"] {
		return mustBeMissing("auth", err)
	}
	if err != nil {
		return err
	}
	return d.write("auth", func(out *bufio.Writer) error {
		state, err := d.client.AuthStatus(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "enabled %t revision %d\n", state.Enabled, state.AuthRevision)
		slices.Sort(users.Users)
		for _, name := range users.Users {
			user, err := d.client.UserGet(ctx, name)
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "user %q roles %q\n", name, user.Roles)
		}
		roles, err := d.client.RoleList(ctx)
		if err != nil {
			return err
		}
		slices.Sort(roles.Roles)
		for _, name := range roles.Roles {
			role, err := d.client.RoleGet(ctx, name)
			if err != nil {
				return err
			}
			for _, p := range role.Perm {
				fmt.Fprintf(out, "role %q %s %x %x\n", name, p.PermType, p.Key, p.RangeEnd)
			}
			fmt.Fprintf(out, "role %q permissions %d\n", name, len(role.Perm))
		}
		return nil
	})
}

// mustBeMissing keeps a comparison from being left out once a server has the service.
func mustBeMissing(what string, err error) error {
	if status.Code(err) == codes.Unimplemented {
		return nil
	}
	return fmt.Errorf("--skip=%s, but the server answers (%v): compare it", what, err)
}
