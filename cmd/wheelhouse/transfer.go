package main

import (
	"cmp"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"time"

	"wheelhouse/store"
)

// runPut stores files. The bucket is not made: a mistyped name should not become one.
func runPut(ctx context.Context, env *environment, args []string) error {
	f := newClientFlags("put", env)
	var o store.PutOptions
	f.StringVar(&o.ContentType, "type", "", "`content type` (default: by the name's suffix)")
	f.BoolVar(&o.IfAbsent, "create", false, "fail when the name is taken")
	f.IntVar(&o.Durable, "durable", 0, "entities that must be durable before it counts as stored (default: as the class says)")
	name := f.String("name", "", "`name` of the object, for a single file (default: the file's, below PREFIX)")
	c, rest, err := f.parse(args, 2, -1)
	if err != nil {
		return err
	}
	bucket, prefix := splitName(rest[0])
	files := rest[1:]
	if bucket == "" {
		return usagef("%q: want BUCKET or BUCKET/PREFIX", rest[0])
	}
	if *name != "" && len(files) > 1 {
		return usagef("--name is for a single file")
	}
	for _, file := range files {
		target := *name
		if target == "" {
			target = path.Join(prefix, filepath.Base(file))
			if file == "-" {
				target = prefix
			}
		}
		if target == "" {
			return usagef("standard input needs a name: BUCKET/NAME, or --name")
		}
		if err := putFile(ctx, env, c, bucket, target, file, o); err != nil {
			return err
		}
	}
	return nil
}

func putFile(ctx context.Context, env *environment, c *store.Client, bucket, name, file string, o store.PutOptions) error {
	in, size := env.stdin, int64(-1)
	if file != "-" {
		opened, err := os.Open(file)
		if err != nil {
			return err
		}
		defer opened.Close()
		st, err := opened.Stat()
		if err != nil {
			return err
		}
		if st.IsDir() {
			return fmt.Errorf("%s is a directory", file)
		}
		if st.Mode().IsRegular() {
			size = st.Size()
		}
		in = opened
	}
	sum := md5.New()
	p := startProgress(env.stderr, name, size)
	etag, err := c.Put(ctx, bucket, name, io.TeeReader(p.reader(in), sum), size, o)
	p.end()
	if err != nil {
		return err
	}
	if own := hex.EncodeToString(sum.Sum(nil)); etag != own {
		return fmt.Errorf("%s/%s: the server stored content with MD5 %s; %s was sent", bucket, name, etag, own)
	}
	return nil
}

// runGet fetches an object. A download that breaks off goes on where it broke, as long as some bytes come each time.
func runGet(ctx context.Context, env *environment, args []string) error {
	f := newClientFlags("get", env)
	c, rest, err := f.parse(args, 1, 2)
	if err != nil {
		return err
	}
	bucket, name, err := needName(rest[0])
	if err != nil {
		return err
	}
	if len(rest) == 1 || rest[1] == "-" {
		return fetch(ctx, env, c, bucket, name, env.stdout)
	}
	return fetchFile(ctx, env, c, bucket, name, rest[1])
}

// fetchFile fetches into a file, which appears under its name when it is whole. What is there and is not a regular file, a
// device or a pipe, is written to as it is.
func fetchFile(ctx context.Context, env *environment, c *store.Client, bucket, name, file string) error {
	st, err := os.Stat(file)
	if err == nil && st.IsDir() {
		file = filepath.Join(file, path.Base(name))
		st, err = os.Stat(file)
	}
	if err == nil && !st.Mode().IsRegular() {
		out, err := os.OpenFile(file, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(fetch(ctx, env, c, bucket, name, out), out.Close())
	}
	out, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".part-")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name()) // after the rename there is nothing left to remove
	err = fetch(ctx, env, c, bucket, name, out)
	if err = errors.Join(err, out.Chmod(0o644), out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), file)
}

func fetch(ctx context.Context, env *environment, c *store.Client, bucket, name string, w io.Writer) error {
	r, info, err := c.Get(ctx, bucket, name, 0)
	if err != nil {
		return err
	}
	p := startProgress(env.stderr, name, info.Size)
	defer p.end()
	sum, got := md5.New(), int64(0)
	for {
		n, err := io.Copy(io.MultiWriter(w, sum), p.reader(r))
		_ = r.Close()
		got += n
		if err == nil && got == info.Size {
			break
		}
		if n == 0 || ctx.Err() != nil {
			return fmt.Errorf("%s/%s broke off after %d of %d bytes: %w", bucket, name, got, info.Size, errors.Join(err, ctx.Err()))
		}
		var again store.ObjectInfo
		if r, again, err = c.Get(ctx, bucket, name, got); err != nil {
			return fmt.Errorf("%s/%s broke off after %d of %d bytes: %w", bucket, name, got, info.Size, err)
		}
		if again.ETag != info.ETag {
			_ = r.Close()
			return fmt.Errorf("%s/%s was overwritten while it was fetched", bucket, name)
		}
	}
	if etag := hex.EncodeToString(sum.Sum(nil)); info.ETag != etag {
		return fmt.Errorf("%s/%s: the bytes have MD5 %s; the server says %s", bucket, name, etag, info.ETag)
	}
	return nil
}

// runLs lists buckets, or the objects of one by directory.
func runLs(ctx context.Context, env *environment, args []string) error {
	f := newClientFlags("ls", env).withJSON()
	all := f.Bool("r", false, "all objects below, not one directory")
	c, rest, err := f.parse(args, 0, 1)
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		return listBuckets(ctx, env, c, f.json)
	}
	bucket, prefix := splitName(rest[0])
	delimiter := "/"
	if *all {
		delimiter = ""
	}
	shown := store.Listing{Objects: []store.ObjectInfo{}}
	for next := ""; ; {
		page, err := c.List(ctx, bucket, prefix, delimiter, next, 0)
		if err != nil {
			return err
		}
		if f.json {
			shown.Objects, shown.Prefixes = append(shown.Objects, page.Objects...), append(shown.Prefixes, page.Prefixes...)
		} else {
			printListing(env.stdout, page)
		}
		if next = page.Next; !page.Truncated {
			break
		}
	}
	if f.json {
		return printJSON(env.stdout, shown)
	}
	return nil
}

func printListing(w io.Writer, l store.Listing) {
	for _, p := range l.Prefixes {
		fmt.Fprintf(w, "%30s  %s\n", "", visible(p))
	}
	for _, o := range l.Objects {
		name := o.Name
		if o.Path != "" {
			name = o.Path
		}
		fmt.Fprintf(w, "%10s %s  %s\n", human(o.Size), o.Created.Local().Format(time.DateTime), visible(name))
	}
}

func listBuckets(ctx context.Context, env *environment, c *store.Client, asJSON bool) error {
	all := []store.BucketInfo{}
	for after := ""; ; {
		page, next, err := c.Buckets(ctx, after)
		if err != nil {
			return err
		}
		all = append(all, page...)
		if after = next; next == "" {
			break
		}
	}
	if asJSON {
		return printJSON(env.stdout, all)
	}
	return table(env.stdout, "BUCKET\tACCESS\tCLASS\tOWNER\tCREATED", func(row func(...any)) {
		for _, b := range all {
			row(b.Name, b.Access, b.Class, cmp.Or(b.Owner, "-"), b.Created.Local().Format(time.DateTime))
		}
	})
}

// runRm deletes objects.
func runRm(ctx context.Context, env *environment, args []string) error {
	f := newClientFlags("rm", env)
	force := f.Bool("f", false, "an object that is not there is no error")
	c, rest, err := f.parse(args, 1, -1)
	if err != nil {
		return err
	}
	for _, arg := range rest {
		bucket, name, err := needName(arg)
		if err != nil {
			return err
		}
		if err := c.Delete(ctx, bucket, name); err != nil && (!*force || !errors.Is(err, store.ErrNoObject)) {
			return err
		}
	}
	return nil
}

// runMv renames an object.
func runMv(ctx context.Context, env *environment, args []string) error {
	c, rest, err := newClientFlags("mv", env).parse(args, 2, 2)
	if err != nil {
		return err
	}
	bucket, name, err := needName(rest[0])
	if err != nil {
		return err
	}
	toBucket, toName, err := needName(rest[1])
	if err != nil {
		return err
	}
	return c.Move(ctx, bucket, name, toBucket, toName)
}

// runStat describes an object.
func runStat(ctx context.Context, env *environment, args []string) error {
	f := newClientFlags("stat", env).withJSON()
	c, bucket, name, err := f.parseObject(args)
	if err != nil {
		return err
	}
	info, err := c.Stat(ctx, bucket, name)
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(env.stdout, info)
	}
	fmt.Fprintf(env.stdout, "name:    %s/%s\nsize:    %d (%s)\ntype:    %s\nmd5:     %s\ncreated: %s\n",
		bucket, name, info.Size, human(info.Size), info.ContentType, info.ETag, info.Created.Local().Format(time.DateTime))
	return nil
}
