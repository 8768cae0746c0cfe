package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"wheelhouse/store"
)

// runAccount manages accounts and their access keys.
func runAccount(ctx context.Context, env *environment, args []string) error {
	return subcommand(args, map[string]func([]string) error{
		"add":      func(args []string) error { return accountAdd(ctx, env, args) },
		"list":     func(args []string) error { return accountList(ctx, env, args) },
		"rm":       func(args []string) error { return removeByID(ctx, env, "account", args) },
		"key-add":  func(args []string) error { return keyAdd(ctx, env, args) },
		"key-list": func(args []string) error { return keyList(ctx, env, args) },
		"key-rm":   func(args []string) error { return removeByID(ctx, env, "key", args) },
	})
}

func accountAdd(ctx context.Context, env *environment, args []string) error {
	f := newClientFlags("account add", env)
	role := f.String("role", "write", "`role`: read, write or admin")
	c, rest, err := f.parse(args, 1, 1)
	if err != nil {
		return err
	}
	a := store.AccountStatus{Name: rest[0], Role: *role}
	if err := c.Call(ctx, http.MethodPost, "/-/accounts", a, &a); err != nil {
		return err
	}
	fmt.Fprintf(env.stdout, "account %d\n", a.ID)
	return nil
}

func accountList(ctx context.Context, env *environment, args []string) error {
	return listing(ctx, env, args, "account list", "/-/accounts", func(list []store.AccountStatus) error {
		return table(env.stdout, "ACCOUNT\tNAME\tROLE\tCREATED", func(row func(...any)) {
			for _, a := range list {
				row(a.ID, a.Name, a.Role, a.Created.Local().Format(time.DateTime))
			}
		})
	})
}

// keyAdd makes a key. Its secret is shown now and never again.
func keyAdd(ctx context.Context, env *environment, args []string) error {
	c, rest, err := newClientFlags("account key-add", env).parse(args, 1, 1)
	if err != nil {
		return err
	}
	var k store.KeyStatus
	if err := c.Call(ctx, http.MethodPost, "/-/accounts/"+url.PathEscape(rest[0])+"/keys", nil, &k); err != nil {
		return err
	}
	fmt.Fprintf(env.stdout, "%s:%s\n", k.ID, k.Secret)
	return nil
}

func keyList(ctx context.Context, env *environment, args []string) error {
	return listing(ctx, env, args, "account key-list", "/-/accounts/%s/keys", func(list []store.KeyStatus) error {
		return table(env.stdout, "KEY\tCREATED", func(row func(...any)) {
			for _, k := range list {
				row(k.ID, k.Created.Local().Format(time.DateTime))
			}
		})
	})
}
