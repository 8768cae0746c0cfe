package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"wheelhouse/store"
)

// runBucket manages buckets.
func runBucket(ctx context.Context, env *environment, args []string) error {
	return subcommand(args, map[string]func([]string) error{
		"create": func(args []string) error { return setBucket(ctx, env, "create", args, (*store.Client).CreateBucket) },
		"set":    func(args []string) error { return setBucket(ctx, env, "set", args, (*store.Client).UpdateBucket) },
		"list": func(args []string) error {
			f := newClientFlags("bucket list", env).withJSON()
			c, _, err := f.parse(args, 0, 0)
			if err != nil {
				return err
			}
			return listBuckets(ctx, env, c, f.json)
		},
		"rename": func(args []string) error {
			c, rest, err := newClientFlags("bucket rename", env).parse(args, 2, 2)
			if err != nil {
				return err
			}
			return c.Move(ctx, rest[0], "", rest[1], "")
		},
		"rm": func(args []string) error {
			f := newClientFlags("bucket rm", env)
			recursive := f.Bool("r", false, "with all its objects")
			c, rest, err := f.parse(args, 1, 1)
			if err != nil {
				return err
			}
			return c.DeleteBucket(ctx, rest[0], *recursive)
		},
	})
}

func setBucket(ctx context.Context, env *environment, verb string, args []string, do func(*store.Client, context.Context, string, store.BucketAttributes) error) error {
	f := newClientFlags("bucket "+verb, env)
	var a store.BucketAttributes
	f.StringVar(&a.Access, "access", "", "`private` or public-read")
	f.StringVar(&a.Class, "class", "", "`class` of the bucket")
	f.StringVar(&a.Owner, "owner", "", "`id` of the account that it belongs to, 0 for nobody; only administrators may say that")
	c, rest, err := f.parse(args, 1, 1)
	if err != nil {
		return err
	}
	return do(c, ctx, rest[0], a)
}

// runObject shows and repairs an object's entities, and signs URLs.
func runObject(ctx context.Context, env *environment, args []string) error {
	return subcommand(args, map[string]func([]string) error{
		"stat":   func(args []string) error { return objectStat(ctx, env, args) },
		"sign":   func(args []string) error { return objectSign(env, args) },
		"repair": func(args []string) error { return objectRepair(ctx, env, args) },
	})
}

func objectStat(ctx context.Context, env *environment, args []string) error {
	f := newClientFlags("object stat", env).withJSON()
	c, bucket, name, err := f.parseObject(args)
	if err != nil {
		return err
	}
	var o store.ObjectStatus
	if err := c.Call(ctx, http.MethodGet, "/-/objects?"+url.Values{"bucket": {bucket}, "name": {name}}.Encode(), nil, &o); err != nil {
		return err
	}
	if f.json {
		return printJSON(env.stdout, o)
	}
	fmt.Fprintf(env.stdout, "name:    %s/%s\nid:      %d\nsize:    %d (%s)\ntype:    %s\nmd5:     %s\ncreated: %s\ncluster: %d\n\n",
		o.Bucket, o.Name, o.ID, o.Size, human(o.Size), o.ContentType, o.ETag, o.Created.Local().Format(time.DateTime), o.Cluster)
	return table(env.stdout, "STORAGE\tMODE\tENTITY\tURI", func(row func(...any)) {
		for _, e := range o.Entities {
			state := e.State
			if e.Owed {
				state += ", owed"
			}
			if e.Error != "" {
				state += ": " + e.Error
			}
			row(e.Storage, e.Mode, state, e.URI)
		}
	})
}

func objectSign(env *environment, args []string) error {
	f := newClientFlags("object sign", env)
	method := f.String("method", "GET", "`GET` or PUT")
	valid := f.Duration("for", time.Hour, "how long the URL is good for")
	c, bucket, name, err := f.parseObject(args)
	if err != nil {
		return err
	}
	if *method != http.MethodGet && *method != http.MethodPut {
		return usagef("--method %s: want GET or PUT", *method)
	}
	if *valid <= 0 {
		return usagef("--for %v: the URL would be expired already", *valid)
	}
	if key, err := f.accessKey(); err != nil || key.ID == "" {
		return fmt.Errorf("a URL is signed with an access key, and there is none: give --key, WHEELHOUSE_KEY or --data")
	}
	fmt.Fprintln(env.stdout, c.SignedURL(*method, bucket, name, time.Now().Add(*valid)))
	return nil
}

func objectRepair(ctx context.Context, env *environment, args []string) error {
	c, bucket, name, err := newClientFlags("object repair", env).parseObject(args)
	if err != nil {
		return err
	}
	return c.Call(ctx, http.MethodPost, "/-/objects/repair", map[string]string{"Bucket": bucket, "Name": name}, nil)
}

// filledFirst is said of a storage that is to be a full member of its cluster and may lack something.
const filledFirst = "it is filled with what its cluster holds, by itself (wheelhouse operation list), and read after that\n"

// runStorage manages storages.
func runStorage(ctx context.Context, env *environment, args []string) error {
	return subcommand(args, map[string]func([]string) error{
		"add": func(args []string) error {
			f := newClientFlags("storage add", env)
			s := store.StorageStatus{}
			f.StringVar(&s.URI, "uri", "", "`URL` of the storage, http://HOST:PORT/dev<ID>")
			f.StringVar(&s.Mode, "mode", "", "`mode` to begin with (default rw; of a storage that is there, the one that it has)")
			cluster := f.Uint("cluster", 0, "`id` of the cluster that it belongs to (default 1; of a storage that is there, the one that it is in)")
			id := f.Uint("id", 0, "its `id`, to be checked against the URL, or to change what is known of a storage that is there (default: as in the URL)")
			c, _, err := f.parse(args, 0, 0)
			if err != nil {
				return err
			}
			s.Cluster, s.ID = store.ClusterID(*cluster), store.StorageID(*id)
			if err := c.Call(ctx, http.MethodPost, "/-/storages", s, &s); err != nil {
				return err
			}
			fmt.Fprintf(env.stdout, "storage %d\n", s.ID)
			if s.Mode == store.ModeFilling.String() {
				fmt.Fprint(env.stdout, filledFirst)
			}
			return nil
		},
		"list": func(args []string) error {
			return listing(ctx, env, args, "storage list", "/-/storages", func(list []store.StorageStatus) error {
				return storageTable(env, list)
			})
		},
		"rebuild":  func(args []string) error { return storageRebuild(ctx, env, args) },
		"drain":    func(args []string) error { return drain(ctx, env, "storage", args) },
		"set-mode": func(args []string) error { return setMode(ctx, env, "storage", args) },
		"accept":   func(args []string) error { return storageCall(ctx, env, "accept", args) },
		"promote":  func(args []string) error { return storageCall(ctx, env, "promote", args) },
		"rm":       func(args []string) error { return removeByID(ctx, env, "storage", args) },
	})
}

// storageCall has something done with one storage: accept takes the empty directory that it finds for its new disk, promote
// makes a spare a full member.
func storageCall(ctx context.Context, env *environment, what string, args []string) error {
	f := newClientFlags("storage "+what, env)
	in := map[string]bool{}
	force := false
	if what == "promote" {
		f.BoolVar(&force, "force", false, "even if it does not hold what its siblings hold")
	}
	c, rest, err := f.parse(args, 1, 1)
	if err != nil {
		return err
	}
	if force {
		in["Force"] = true
	}
	return c.Call(ctx, http.MethodPost, "/-/storages/"+url.PathEscape(rest[0])+"/"+what, in, nil)
}

func storageTable(env *environment, list []store.StorageStatus) error {
	return table(env.stdout, "STORAGE\tCLUSTER\tMODE\tUSED\tCAPACITY\tURI", func(row func(...any)) {
		for _, s := range list {
			used := "-"
			if s.Capacity > 0 {
				used = fmt.Sprintf("%s (%d%%)", human(s.Used), s.Used*100/s.Capacity)
			}
			row(s.ID, s.Cluster, s.Mode, used, human(s.Capacity), s.URI)
		}
	})
}

func setMode(ctx context.Context, env *environment, kind string, args []string) error {
	c, rest, err := newClientFlags(kind+" set-mode", env).parse(args, 2, 2)
	if err != nil {
		return err
	}
	if kind == "storage" {
		var s store.StorageStatus
		err := c.Call(ctx, http.MethodPost, "/-/storages/"+url.PathEscape(rest[0])+"/mode", map[string]string{"Mode": rest[1]}, &s)
		if err == nil && s.Mode != rest[1] {
			fmt.Fprintf(env.stdout, "it may lack what was written meanwhile, and is filled first (wheelhouse operation list; at once: wheelhouse storage rebuild %d)\n", s.ID)
		}
		return err
	}
	var list []store.ClusterStatus
	if err := c.Call(ctx, http.MethodGet, "/-/clusters", nil, &list); err != nil {
		return err
	}
	for _, k := range list {
		if fmt.Sprint(k.ID) == rest[0] {
			return c.Call(ctx, http.MethodPost, "/-/clusters", store.ClusterStatus{ID: k.ID, Name: k.Name, Mode: rest[1]}, nil)
		}
	}
	return fmt.Errorf("no such cluster: %s", rest[0])
}

func removeByID(ctx context.Context, env *environment, kind string, args []string) error {
	name := kind + " rm"
	if kind == "key" {
		name = "account key-rm"
	}
	c, rest, err := newClientFlags(name, env).parse(args, 1, 1)
	if err != nil {
		return err
	}
	return c.Call(ctx, http.MethodDelete, "/-/"+kind+"s/"+url.PathEscape(rest[0]), nil, nil)
}

// runCluster manages clusters.
func runCluster(ctx context.Context, env *environment, args []string) error {
	return subcommand(args, map[string]func([]string) error{
		"add": func(args []string) error {
			f := newClientFlags("cluster add", env)
			in := store.ClusterStatus{}
			f.StringVar(&in.Name, "name", "", "`name` of the cluster")
			f.StringVar(&in.Mode, "mode", "rw", "`mode`: rw, ro or retire")
			c, _, err := f.parse(args, 0, 0)
			if err != nil {
				return err
			}
			if err := c.Call(ctx, http.MethodPost, "/-/clusters", in, &in); err != nil {
				return err
			}
			fmt.Fprintf(env.stdout, "cluster %d\n", in.ID)
			return nil
		},
		"list": func(args []string) error {
			return listing(ctx, env, args, "cluster list", "/-/clusters", func(list []store.ClusterStatus) error {
				return table(env.stdout, "CLUSTER\tNAME\tMODE\tSTORAGES", func(row func(...any)) {
					for _, k := range list {
						row(k.ID, k.Name, k.Mode, strings.Trim(fmt.Sprint(k.Storages), "[]"))
					}
				})
			})
		},
		"drain":     func(args []string) error { return drain(ctx, env, "cluster", args) },
		"rebalance": func(args []string) error { return clusterRebalance(ctx, env, args) },
		"set-mode":  func(args []string) error { return setMode(ctx, env, "cluster", args) },
		"rm":        func(args []string) error { return removeByID(ctx, env, "cluster", args) },
	})
}

// runClass manages classes.
func runClass(ctx context.Context, env *environment, args []string) error {
	return subcommand(args, map[string]func([]string) error{
		"set": func(args []string) error {
			f := newClientFlags("class set", env)
			in := store.ClassStatus{}
			f.IntVar(&in.MinDurable, "durable", 0, "entities that must be durable before a write is acknowledged (default 2)")
			f.Func("cluster", "`id` of a cluster that may take its objects; may be repeated (default: all)", func(s string) error {
				var id store.ClusterID
				_, err := fmt.Sscan(s, &id)
				in.Clusters = append(in.Clusters, id)
				return err
			})
			c, rest, err := f.parse(args, 1, 1)
			if err != nil {
				return err
			}
			in.Name = rest[0]
			return c.Call(ctx, http.MethodPost, "/-/classes", in, nil)
		},
		"list": func(args []string) error {
			return listing(ctx, env, args, "class list", "/-/classes", func(list []store.ClassStatus) error {
				return table(env.stdout, "CLASS\tDURABLE\tCLUSTERS", func(row func(...any)) {
					for _, k := range list {
						row(k.Name, k.MinDurable, cmp.Or(strings.Trim(fmt.Sprint(k.Clusters), "[]"), "all"))
					}
				})
			})
		},
	})
}
