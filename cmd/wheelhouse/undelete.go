package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"wheelhouse/store"
)

// runUndelete brings back what was deleted or overwritten a short while ago.
func runUndelete(ctx context.Context, env *environment, args []string) error {
	f := newClientFlags("undelete", env).withJSON()
	list := f.Bool("list", false, "show what could be brought back of BUCKET[/PREFIX]")
	limit := f.Int("limit", 1000, "with --list: at most `N` versions")
	version := f.Uint64("version", 0, "bring back the version with this `id`; default: the newest one")
	replace := f.Bool("replace", false, "even if another object has the name now: that one is deleted")
	c, rest, err := f.parse(args, 1, 1)
	if err != nil {
		return err
	}
	bucket, name := splitName(rest[0])
	if *list {
		return listDeleted(ctx, env, c, f.json, bucket, name, *limit)
	}
	in := store.UndeleteRequest{Bucket: bucket, Name: name, Version: store.ObjectID(*version), Replace: *replace}
	return c.Call(ctx, http.MethodPost, "/-/undelete", in, nil)
}

func listDeleted(ctx context.Context, env *environment, c *store.Client, asJSON bool, bucket, prefix string, limit int) error {
	var list []store.DeletedStatus
	query := url.Values{"bucket": {bucket}, "prefix": {prefix}, "limit": {strconv.Itoa(limit)}}
	if err := c.Call(ctx, http.MethodGet, "/-/deleted?"+query.Encode(), nil, &list); err != nil {
		return err
	}
	if asJSON {
		return printJSON(env.stdout, list)
	}
	return table(env.stdout, "VERSION\tSIZE\tDELETED\tKEPT FOR\tNAME", func(row func(...any)) {
		for _, v := range list {
			left := max(0, time.Until(v.Until)).Round(time.Second)
			row(v.Version, human(v.Size), v.Deleted.Local().Format(time.DateTime), left, fmt.Sprintf("%s/%s", v.Bucket, v.Name))
		}
	})
}
