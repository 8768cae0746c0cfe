package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"wheelhouse/store"
)

// runOperation looks after long work: what it is, how far it is, and whether it goes on.
func runOperation(ctx context.Context, env *environment, args []string) error {
	return subcommand(args, map[string]func([]string) error{
		"list": func(args []string) error {
			return listing(ctx, env, args, "operation list", "/-/operations", func(list []store.OperationStatus) error {
				return operationTable(env.stdout, list)
			})
		},
		"show":  func(args []string) error { return operationShow(ctx, env, args) },
		"wait":  func(args []string) error { return operationWait(ctx, env, args) },
		"limit": func(args []string) error { return operationLimit(ctx, env, args) },
		"problems": func(args []string) error {
			return operationProblems(ctx, env, args)
		},
		"pause":  func(args []string) error { return setOperation(ctx, env, "pause", store.OpPaused, args) },
		"resume": func(args []string) error { return setOperation(ctx, env, "resume", store.OpRunning, args) },
		"cancel": func(args []string) error { return setOperation(ctx, env, "cancel", store.OpCancelled, args) },
	})
}

func operationTable(w io.Writer, list []store.OperationStatus) error {
	return table(w, "ID\tKIND\tTARGET\tSTATE\tDONE\tRATE\tLEFT\tPROBLEMS\tNOTE", func(row func(...any)) {
		for i := range list {
			op := &list[i]
			row(op.ID, op.Kind, op.Target, op.State, doneText(op), rateText(op), leftText(op), problemText(op), noteText(op))
		}
	})
}

// doneText is how much is done, in per cent where it is known of how much.
func doneText(op *store.OperationStatus) string {
	text := fmt.Sprintf("%d objects, %s", op.Objects, human(op.Bytes))
	switch {
	case op.TotalBytes > 0:
		return fmt.Sprintf("%d%% (%s)", min(100, op.Bytes*100/op.TotalBytes), text)
	case op.TotalObjects > 0:
		return fmt.Sprintf("%d%% (%s)", min(100, op.Objects*100/op.TotalObjects), text)
	}
	return text
}

func rateText(op *store.OperationStatus) string {
	if op.Rate == 0 && op.ObjectRate == 0 {
		return "-"
	}
	return fmt.Sprintf("%s/s, %.0f/s", human(int64(op.Rate)), op.ObjectRate)
}

func leftText(op *store.OperationStatus) string {
	if op.LeftSeconds <= 0 {
		return "-"
	}
	return shortTime(time.Duration(op.LeftSeconds) * time.Second)
}

func problemText(op *store.OperationStatus) string {
	if op.Problems == 0 {
		return "-"
	}
	return fmt.Sprintf("%d, %d fixed", op.Problems, op.Fixed)
}

// noteText is why it is not going as fast as it could, or not at all.
func noteText(op *store.OperationStatus) string {
	if op.Error != "" {
		return op.Error
	}
	return cmp.Or(op.Throttled, "-")
}

// oneOperation does something with the operation that the arguments name.
func oneOperation(ctx context.Context, env *environment, verb string, args []string, do func(c *store.Client, op *store.OperationStatus, asJSON bool) error) error {
	f := newClientFlags("operation "+verb, env).withJSON()
	c, rest, err := f.parse(args, 1, 1)
	if err != nil {
		return err
	}
	op, err := getOperation(ctx, c, rest[0])
	if err != nil {
		return err
	}
	return do(c, op, f.json)
}

func operationShow(ctx context.Context, env *environment, args []string) error {
	return oneOperation(ctx, env, "show", args, func(_ *store.Client, op *store.OperationStatus, asJSON bool) error {
		if asJSON {
			return printJSON(env.stdout, op)
		}
		printOperation(env.stdout, op)
		return nil
	})
}

func printOperation(w io.Writer, op *store.OperationStatus) {
	line := func(name, value string) {
		if value != "" && value != "-" {
			fmt.Fprintf(w, "%-10s%s\n", name, value)
		}
	}
	when := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.Local().Format(time.DateTime)
	}
	line("operation", fmt.Sprint(op.ID))
	line("what", fmt.Sprintf("%s of %s", op.Kind, op.Target))
	line("state", string(op.State))
	line("done", doneText(op))
	line("rate", rateText(op))
	line("left", leftText(op))
	line("problems", problemText(op))
	line("slowed by", op.Throttled)
	line("error", op.Error)
	line("worker", op.Owner)
	line("created", when(op.Created))
	line("started", when(op.Started))
	line("ended", when(op.Ended))
}

func getOperation(ctx context.Context, c *store.Client, id string) (*store.OperationStatus, error) {
	op := &store.OperationStatus{}
	return op, c.Call(ctx, http.MethodGet, "/-/operations/"+id, nil, op)
}

func setOperation(ctx context.Context, env *environment, verb string, state store.OperationState, args []string) error {
	c, rest, err := newClientFlags("operation "+verb, env).parse(args, 1, 1)
	if err != nil {
		return err
	}
	return c.Call(ctx, http.MethodPost, "/-/operations/"+rest[0]+"/state", map[string]string{"State": string(state)}, nil)
}

func operationWait(ctx context.Context, env *environment, args []string) error {
	return oneOperation(ctx, env, "wait", args, func(c *store.Client, op *store.OperationStatus, asJSON bool) error {
		return watchOperation(ctx, env, c, op, asJSON)
	})
}

// operationLimit sets a limit, which takes effect within seconds, or lists those that are set.
func operationLimit(ctx context.Context, env *environment, args []string) error {
	f := newClientFlags("operation limit", env).withJSON()
	c, rest, err := f.parse(args, 0, 2)
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		all := map[string]string{}
		if err := c.Call(ctx, http.MethodGet, "/-/settings", nil, &all); err != nil {
			return err
		}
		maps.DeleteFunc(all, func(key, _ string) bool { return !strings.HasPrefix(key, "limit.") && key != store.SettingYield })
		if f.json {
			return printJSON(env.stdout, all)
		}
		return table(env.stdout, "LIMIT\tVALUE", func(row func(...any)) {
			for _, key := range slices.Sorted(maps.Keys(all)) {
				row(strings.TrimPrefix(key, "limit."), all[key])
			}
		})
	}
	if len(rest) != 2 {
		return usagef("want KIND.bytes, KIND.objects or background.bytes, and a number a second such as 50MB; 0: no limit. Or background.yield, " +
			"and how many times longer clients may wait; 0: any")
	}
	key, value := "limit."+rest[0], rest[1]
	switch {
	case rest[0] == store.SettingYield:
		key = rest[0]
	case value == "0":
		value = ""
	}
	return c.Call(ctx, http.MethodPost, "/-/settings", map[string]string{"Key": key, "Value": value}, nil)
}

// operationFlags are those of all commands that begin an operation.
type operationFlags struct {
	*clientFlags
	noWait bool
}

func newOperationFlags(name string, env *environment) *operationFlags {
	f := &operationFlags{clientFlags: newClientFlags(name, env).withJSON()}
	f.BoolVar(&f.noWait, "no-wait", false, "begin it and return at once")
	f.BoolFunc("wait", "wait for its end (the default)", func(s string) error {
		f.noWait = s == "false"
		return nil
	})
	return f
}

// newOperation is a request for an operation.
type newOperation struct {
	Kind    store.OperationKind
	Storage store.StorageID `json:",omitempty"`
	Cluster store.ClusterID `json:",omitempty"`
	Bucket  string          `json:",omitempty"`
	Options any             `json:",omitempty"`
}

// begin starts an operation and, unless that is not wanted, waits for its end. Where the same is under way already, it waits
// for that one.
func (f *operationFlags) begin(ctx context.Context, env *environment, c *store.Client, in newOperation) error {
	op := &store.OperationStatus{}
	if err := c.Call(ctx, http.MethodPost, "/-/operations", in, op); err != nil {
		return err
	}
	if f.noWait {
		if f.json {
			return printJSON(env.stdout, op)
		}
		fmt.Fprintf(env.stdout, "operation %d\n", op.ID)
		return nil
	}
	return watchOperation(ctx, env, c, op, f.json)
}

// watchEvery is how often a command that waits asks.
const watchEvery = 500 * time.Millisecond

// watchOperation shows how far an operation is until it has ended. An interrupt ends the watching alone.
func watchOperation(ctx context.Context, env *environment, c *store.Client, op *store.OperationStatus, asJSON bool) error {
	terminal := isTerminal(env.stderr)
	if !asJSON {
		fmt.Fprintf(env.stdout, "operation %d: %s of %s\n", op.ID, op.Kind, op.Target)
	}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for failures := 0; !op.State.Final(); {
		if terminal {
			fmt.Fprint(env.stderr, "\r\033[K"+operationLine(op))
		}
		select {
		case <-ctx.Done():
			if terminal {
				fmt.Fprintln(env.stderr)
			}
			fmt.Fprintf(env.stderr, "operation %d goes on; see: wheelhouse operation wait %d\n", op.ID, op.ID)
			return nil
		case <-tick.C:
		}
		now, err := getOperation(ctx, c, fmt.Sprint(op.ID))
		if err == nil {
			op, failures = now, 0
		} else if api := (*store.APIError)(nil); ctx.Err() == nil && (errors.As(err, &api) || failures > 60) {
			return err
		} else {
			failures++ // a server that is being restarted comes back
		}
	}
	if terminal {
		fmt.Fprint(env.stderr, "\r\033[K")
	}
	if asJSON {
		if err := printJSON(env.stdout, op); err != nil {
			return err
		}
	} else {
		printEnd(env.stdout, op)
		if err := printProblems(ctx, env.stdout, c, op, shownProblems); err != nil {
			return err
		}
	}
	switch {
	case op.State != store.OpDone:
		return fmt.Errorf("operation %d is %s: %s", op.ID, op.State, cmp.Or(op.Error, "no reason was given"))
	case op.Problems > op.Fixed:
		return fmt.Errorf("%d problems are left", op.Problems-op.Fixed)
	}
	return nil
}

func printEnd(w io.Writer, op *store.OperationStatus) {
	took := op.Ended.Sub(op.Started)
	fmt.Fprintf(w, "%s: %d objects, %s in %s", op.State, op.Objects, human(op.Bytes), shortTime(took))
	if op.Problems > 0 {
		fmt.Fprintf(w, "; %d problems, %d fixed", op.Problems, op.Fixed)
	}
	fmt.Fprintln(w)
}

// shownProblems is how many problems a command shows by itself.
const shownProblems = 20

func printProblems(ctx context.Context, w io.Writer, c *store.Client, op *store.OperationStatus, most int) error {
	if op.Problems == 0 {
		return nil
	}
	var list []store.OperationProblem
	if err := c.Call(ctx, http.MethodGet, fmt.Sprintf("/-/operations/%d/problems", op.ID), nil, &list); err != nil || len(list) == 0 {
		return err
	}
	if most < len(list) {
		if err := problemTable(w, list[:most]); err != nil {
			return err
		}
		fmt.Fprintf(w, "and %d more: wheelhouse operation problems %d\n", op.Problems-int64(most), op.ID)
		return nil
	}
	return allProblems(w, op, list)
}

// operationProblems lists what an operation has found, and says what is not in the list.
func operationProblems(ctx context.Context, env *environment, args []string) error {
	f := newClientFlags("operation problems", env).withJSON()
	c, rest, err := f.parse(args, 1, 1)
	if err != nil {
		return err
	}
	var list []store.OperationProblem
	if err := c.Call(ctx, http.MethodGet, "/-/operations/"+url.PathEscape(rest[0])+"/problems", nil, &list); err != nil {
		return err
	}
	if f.json {
		return printJSON(env.stdout, list)
	}
	op, err := getOperation(ctx, c, url.PathEscape(rest[0]))
	if err != nil {
		return err
	}
	return allProblems(env.stdout, op, list)
}

// allProblems shows all that is on record of an operation's problems, and how many more it has counted.
func allProblems(w io.Writer, op *store.OperationStatus, list []store.OperationProblem) error {
	if err := problemTable(w, list); err != nil {
		return err
	}
	if more := op.Problems - int64(len(list)); more > 0 {
		fmt.Fprintf(w, "and %d more, which are not on record: the workers' logs have each (an operation keeps %d)\n", more, store.MaxProblems)
	}
	return nil
}

func problemTable(w io.Writer, list []store.OperationProblem) error {
	return table(w, "PROBLEM\tOBJECT\tSTORAGE\tFIXED\tNAME\tREASON", func(row func(...any)) {
		for _, p := range list {
			name := "-"
			if p.Bucket != "" {
				name = p.Bucket + "/" + p.Name
			}
			row(p.Kind, orDash(uint64(p.Object)), orDash(uint64(p.Storage)), p.Fixed, name, cmp.Or(p.Reason, "-"))
		}
	})
}

func orDash(n uint64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

// drain empties a storage or a cluster.
func drain(ctx context.Context, env *environment, kind string, args []string) error {
	f := newOperationFlags(kind+" drain", env)
	c, rest, err := f.parse(args, 1, 1)
	if err != nil {
		return err
	}
	id, err := needID(rest[0])
	if err != nil {
		return err
	}
	in := newOperation{Kind: store.OpDrain, Storage: store.StorageID(id)}
	if kind == "cluster" {
		in = newOperation{Kind: store.OpDrain, Cluster: store.ClusterID(id)}
	}
	return f.begin(ctx, env, c, in)
}

// clusterRebalance evens out space between clusters; with an id, what the storages of one cluster hold.
func clusterRebalance(ctx context.Context, env *environment, args []string) error {
	f := newOperationFlags("cluster rebalance", env)
	within := f.Float64("within", 5, "how far apart the fullest and the emptiest cluster may be, in `percent`")
	from, to := f.Uint("from", 0, "move from this cluster, by `id`, instead"), f.Uint("to", 0, "to this one (default: where new objects would go)")
	bytes := f.String("bytes", "", "and so `much`, such as 50GB")
	c, rest, err := f.parse(args, 0, 1)
	if err != nil {
		return err
	}
	in := newOperation{Kind: store.OpRebalance}
	if len(rest) > 0 {
		id, err := needID(rest[0])
		if err != nil {
			return err
		}
		in.Cluster = store.ClusterID(id)
		return f.begin(ctx, env, c, in)
	}
	options := map[string]any{"within": *within}
	if *from != 0 {
		n, err := store.ParseRate(*bytes)
		if err != nil || n < 1 {
			return usagef("--from takes --bytes as well, such as 50GB")
		}
		options = map[string]any{"from": *from, "to": *to, "bytes": int64(n)}
	} else if *to != 0 || *bytes != "" {
		return usagef("--to and --bytes go with --from")
	}
	if *within <= 0 || *within > 100 {
		return usagef("--within %v: want more than 0 and at most 100", *within)
	}
	in.Options = options
	return f.begin(ctx, env, c, in)
}

// runScrub reads and verifies all bytes of one storage, or of all.
func runScrub(ctx context.Context, env *environment, args []string) error {
	f := newOperationFlags("scrub", env)
	storage := f.Uint("storage", 0, "`id` of the only storage to read")
	c, _, err := f.parse(args, 0, 0)
	if err != nil {
		return err
	}
	return f.begin(ctx, env, c, newOperation{Kind: store.OpScrub, Storage: store.StorageID(*storage)})
}

// runFsck compares the catalog with the storages.
func runFsck(ctx context.Context, env *environment, args []string) error {
	f := newOperationFlags("fsck", env)
	fix := f.Bool("fix", false, "give storages what they lack, replace what is bad, delete what belongs to no object")
	bucket := f.String("bucket", "", "compare the objects of one `bucket` alone")
	cluster := f.Uint("cluster", 0, "compare one cluster alone, by `id`")
	storage := f.Uint("storage", 0, "compare one storage alone, by `id`")
	c, _, err := f.parse(args, 0, 0)
	if err != nil {
		return err
	}
	return f.begin(ctx, env, c, newOperation{
		Kind: store.OpFsck, Storage: store.StorageID(*storage), Cluster: store.ClusterID(*cluster), Bucket: *bucket,
		Options: map[string]bool{"fix": *fix},
	})
}

// operationLine is what a terminal shows while it waits.
func operationLine(op *store.OperationStatus) string {
	const width = 24
	done, total := op.Bytes, op.TotalBytes
	if total <= 0 {
		done, total = op.Objects, op.TotalObjects
	}
	text := fmt.Sprintf("%d objects, %s", op.Objects, human(op.Bytes))
	if total > 0 {
		done = min(done, total)
		filled := int(done * width / total)
		text = fmt.Sprintf("[%s%s] %3d%%  %s", strings.Repeat("#", filled), strings.Repeat(".", width-filled), done*100/total, text)
	}
	if r := rateText(op); r != "-" {
		text += "  " + r
	}
	if l := leftText(op); l != "-" {
		text += "  " + l + " left"
	}
	if op.Problems > 0 {
		text += fmt.Sprintf("  %d problems", op.Problems)
	}
	if n := noteText(op); n != "-" {
		text += "  (" + n + ")"
	}
	if op.State == store.OpPaused {
		text += "  paused"
	}
	if r := []rune(text); len(r) > 160 {
		text = string(r[:159]) + "…"
	}
	return text
}

// needID reads the number of a storage or a cluster from the command line.
func needID(s string) (uint32, error) {
	var id uint32
	if _, err := fmt.Sscanf(s+"\n", "%d\n", &id); err != nil || id == 0 {
		return 0, usagef("%q is not an id", s)
	}
	return id, nil
}

func storageRebuild(ctx context.Context, env *environment, args []string) error {
	f := newOperationFlags("storage rebuild", env)
	from := f.Uint("from", 0, "`id` of the only sibling to read from (default: all)")
	c, rest, err := f.parse(args, 1, 1)
	if err != nil {
		return err
	}
	id, err := needID(rest[0])
	if err != nil {
		return err
	}
	op := newOperation{Kind: store.OpRebuild, Storage: store.StorageID(id)}
	if *from != 0 {
		op.Options = map[string]uint{"from": *from}
	}
	return f.begin(ctx, env, c, op)
}
