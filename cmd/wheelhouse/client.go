package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf8"

	"wheelhouse/store"
)

// clientFlags are the flags of all commands that speak to a server.
type clientFlags struct {
	*flag.FlagSet
	server, key, data string
	json              bool
}

func newClientFlags(name string, env *environment) *clientFlags {
	f := &clientFlags{FlagSet: newFlags(name, env.stderr)}
	f.register("key")
	return f
}

// register adds the flags that say where the server is; key is the name of the one for the access key.
func (f *clientFlags) register(key string) {
	f.StringVar(&f.server, "server", cmp.Or(os.Getenv("WHEELHOUSE_SERVER"), "http://127.0.0.1:8080"), "`URL` of the server")
	f.StringVar(&f.key, key, "", "access key, `ID:SECRET` (default: WHEELHOUSE_KEY, then DIR/root.key)")
	f.StringVar(&f.data, "data", cmp.Or(os.Getenv("WHEELHOUSE_DATA"), "./data"), "data `directory` where root.key is looked for")
}

// withJSON adds --json, which every listing has.
func (f *clientFlags) withJSON() *clientFlags {
	f.BoolVar(&f.json, "json", false, "machine-readable output")
	return f
}

// parse parses the flags and makes the client. least and most bound the number of other arguments; most < 0: any number.
func (f *clientFlags) parse(args []string, least, most int) (*store.Client, []string, error) {
	rest, err := parseFlags(f.FlagSet, args)
	if err != nil {
		return nil, nil, err
	}
	if len(rest) < least {
		return nil, nil, usagef("too few arguments")
	}
	if most >= 0 && len(rest) > most {
		return nil, nil, usagef("unexpected argument: %s", rest[most])
	}
	key, err := f.accessKey()
	if err != nil {
		return nil, nil, err
	}
	c, err := store.NewClient(f.server, store.ClientOptions{Key: key})
	return c, rest, err
}

// parseObject is parse for commands whose only argument is BUCKET/NAME.
func (f *clientFlags) parseObject(args []string) (c *store.Client, bucket, name string, err error) {
	c, rest, err := f.parse(args, 1, 1)
	if err != nil {
		return nil, "", "", err
	}
	bucket, name, err = needName(rest[0])
	return c, bucket, name, err
}

// accessKey finds the key to ask with; none is fine for public buckets and servers without authentication.
func (f *clientFlags) accessKey() (store.AccessKey, error) {
	if text := cmp.Or(f.key, os.Getenv("WHEELHOUSE_KEY")); text != "" {
		return store.ParseKey(text)
	}
	key, err := readRootKey(filepath.Join(f.data, "root.key"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return store.AccessKey{}, nil
	}
	return key, err
}

// splitName splits BUCKET/NAME. The name is "" where there is no slash or nothing behind it.
func splitName(s string) (bucket, name string) {
	bucket, name, _ = strings.Cut(strings.TrimPrefix(s, "/"), "/")
	return bucket, name
}

// needName splits BUCKET/NAME and demands both.
func needName(s string) (bucket, name string, err error) {
	if bucket, name = splitName(s); bucket == "" || name == "" {
		return "", "", usagef("%q: want BUCKET/NAME", s)
	}
	return bucket, name, nil
}

// subcommand picks the function that the first argument names.
func subcommand(args []string, list map[string]func(args []string) error) error {
	if len(args) == 0 {
		return usagef("which one?")
	}
	f, ok := list[args[0]]
	if !ok && isHelp(args[0]) {
		return errHelp
	}
	if !ok {
		return usagef("no such subcommand: %s", args[0])
	}
	return f(args[1:])
}

// listing runs a command that prints what one call of the operator's API lists: as JSON, or as show does. A %s in path takes
// the command's only argument.
func listing[T any](ctx context.Context, env *environment, args []string, name, path string, show func([]T) error) error {
	f := newClientFlags(name, env).withJSON()
	most := strings.Count(path, "%s")
	c, rest, err := f.parse(args, most, most)
	if err != nil {
		return err
	}
	if most > 0 {
		path = fmt.Sprintf(path, url.PathEscape(rest[0]))
	}
	var list []T
	if err := c.Call(ctx, http.MethodGet, path, nil, &list); err != nil {
		return err
	}
	if f.json {
		return printJSON(env.stdout, list)
	}
	return show(list)
}

// table prints aligned columns.
func table(w io.Writer, header string, rows func(row func(cells ...any))) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, header)
	rows(func(cells ...any) {
		for i, c := range cells {
			if i > 0 {
				fmt.Fprint(t, "\t")
			}
			fmt.Fprint(t, visible(fmt.Sprint(c)))
		}
		fmt.Fprintln(t)
	})
	return t.Flush()
}

// visible is a text that others have chosen as a terminal may show it: what would move its cursor, or change colours, is written out.
func visible(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		_, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			q := strconv.QuoteRune(r)
			b.WriteString(q[1 : len(q)-1])
		}
	}
	return b.String()
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// counted writes how many there are of something whose plural ends in s.
func counted[N int | int64](n N, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// human writes a number of bytes with three significant digits and a binary unit.
func human(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/1024, 0
	for v >= 999.5 && i < len(units)-1 {
		v /= 1024
		i++
	}
	switch {
	case v < 9.995:
		return fmt.Sprintf("%.2f %ciB", v, units[i])
	case v < 99.95:
		return fmt.Sprintf("%.1f %ciB", v, units[i])
	}
	return fmt.Sprintf("%.0f %ciB", v, units[i])
}
