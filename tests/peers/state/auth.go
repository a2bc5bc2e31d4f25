package main

import (
	"context"
	"fmt"
	"math/rand/v2"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// changeAuth adds users and roles with permissions of all kinds, and changes and deletes those of a load
// before. Authentication stays off.
func (l *loader) changeAuth() error {
	if l.skip["auth"] || l.users == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	roles, err := l.client.RoleList(ctx)
	if err != nil {
		return err
	}
	users, err := l.client.UserList(ctx)
	if err != nil {
		return err
	}
	for i, role := range roles.Roles {
		if err := l.changeRole(ctx, chance(l.seed, purposeRole, l.firstOp+i), role, i); err != nil {
			return fmt.Errorf("role %s: %w", role, err)
		}
	}
	for i, user := range users.Users {
		if err := l.changeUser(ctx, user, i); err != nil {
			return fmt.Errorf("user %s: %w", user, err)
		}
	}
	for n := range l.users {
		name := fmt.Sprintf("%d-%d", l.firstOp, n)
		if err := l.addUser(ctx, chance(l.seed, purposeUser, l.firstOp+n), name, n); err != nil {
			return fmt.Errorf("user and role %s: %w", name, err)
		}
	}
	return nil
}

func (l *loader) addUser(ctx context.Context, r *rand.Rand, name string, n int) error {
	role, user := "role-"+name, "user-"+name
	if _, err := l.client.RoleAdd(ctx, role); err != nil {
		return err
	}
	for range 1 + r.IntN(4) {
		if err := l.grant(ctx, r, role); err != nil {
			return err
		}
	}
	options := &clientv3.UserAddOptions{NoPassword: n%4 == 3}
	password := "secret of " + name
	if options.NoPassword {
		password = ""
	}
	if _, err := l.client.UserAddWithOptions(ctx, user, password, options); err != nil {
		return err
	}
	if _, err := l.client.UserGrantRole(ctx, user, role); err != nil {
		return err
	}
	return l.acks.add("user", user)
}

func (l *loader) grant(ctx context.Context, r *rand.Rand, role string) error {
	key := keyName(l.seed, r.IntN(1000))
	end := [...]string{"", "\x00", clientv3.GetPrefixRangeEnd(key), key + "~"}[r.IntN(4)]
	kind := clientv3.PermissionType(r.IntN(3)) // READ, WRITE, READWRITE
	_, err := l.client.RoleGrantPermission(ctx, role, key, end, kind)
	return err
}

func (l *loader) changeRole(ctx context.Context, r *rand.Rand, role string, i int) error {
	switch i % 5 {
	case 0:
		return l.grant(ctx, r, role)
	case 1:
		got, err := l.client.RoleGet(ctx, role)
		if err != nil || len(got.Perm) == 0 {
			return err
		}
		_, err = l.client.RoleRevokePermission(ctx, role, string(got.Perm[0].Key), string(got.Perm[0].RangeEnd))
		return err
	case 2:
		_, err := l.client.RoleDelete(ctx, role)
		return err
	}
	return nil
}

func (l *loader) changeUser(ctx context.Context, user string, i int) error {
	switch i % 6 {
	case 0:
		_, err := l.client.UserChangePassword(ctx, user, "new secret of "+user)
		return err
	case 1:
		got, err := l.client.UserGet(ctx, user)
		if err != nil || len(got.Roles) == 0 {
			return err
		}
		_, err = l.client.UserRevokeRole(ctx, user, got.Roles[0])
		return err
	case 2:
		if _, err := l.client.UserDelete(ctx, user); err != nil {
			return err
		}
		return l.acks.add("user-gone", user)
	}
	return nil
}
