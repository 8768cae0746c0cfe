package main

import (
	"cmp"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"wheelhouse/internal/bridge/metacache"
	"wheelhouse/internal/config"
	"wheelhouse/internal/imaging"
	"wheelhouse/internal/service"
	"wheelhouse/store"
	"wheelhouse/store/disk"
	"wheelhouse/store/dispatcher"
	"wheelhouse/store/storaged"
)

// Config is everything that can be configured. One file serves all roles; each reads its own sections.
type Config struct {
	Data   string          `toml:"data" doc:"directory of the catalog, the secret, the root key and, by default, the storages"`
	Secret string          `toml:"secret_file" doc:"file with the secret that the parts of one installation share, in hex; empty: DATA/secret, made on first start"`
	Drain  config.Duration `toml:"drain" doc:"how long requests in flight may take to finish when the process stops or hands over"`
	Log    struct {
		Level  string `toml:"level" doc:"debug, info, warn or error"`
		Format string `toml:"format" doc:"text or json"`
	} `toml:"log"`
	Catalog struct {
		File  string          `toml:"file" doc:"SQLite file; empty: DATA/catalog.db"`
		Cache config.Size     `toml:"cache" doc:"memory for look-ups where one process does everything (wheelhouse up)"`
		Grace config.Duration `toml:"grace" doc:"how long the bytes of deleted, overwritten and unfinished objects are kept"`
		Every config.Duration `toml:"backup_every" doc:"time between backups of the catalog into the store itself; 0s: only when asked for (wheelhouse catalog backup)"`
		Keep  int             `toml:"backup_keep" doc:"how many of these backups are kept"`
	} `toml:"catalog"`
	Dispatcher struct {
		Listen        string          `toml:"listen" doc:"address of the HTTP API"`
		Auth          string          `toml:"auth" doc:"keys: requests need an access key; none: everybody may do everything (loopback addresses only)"`
		Proxies       []string        `toml:"proxies" doc:"networks of proxies that may be told the storages' URLs"`
		Reproxy       string          `toml:"reproxy" doc:"asked: a proxy that says X-Proxy-Capabilities: reproxy-file is sent X-Reproxy-URL; always: every proxy is; never. Inside up its own balancer is the proxy, and gets the bytes itself"`
		AccelRedirect string          `toml:"accel_redirect" doc:"location for X-Accel-Redirect, for nginx; empty: X-Reproxy-URL with all URLs"`
		TailWait      config.Duration `toml:"tail_wait" doc:"how long a write that is durable enough waits for the remaining storages"`
		PutTimeout    config.Duration `toml:"put_timeout" doc:"how long a storage may take for a small object, or be silent in a large one"`
		BufferLimit   config.Size     `toml:"buffer_limit" doc:"bodies up to this are held in memory while they are stored, larger ones are streamed"`
		MemoryLimit   config.Size     `toml:"memory_limit" doc:"all bodies held in memory at once; more uploads are answered 503"`
		HotCache      config.Size     `toml:"hot_cache" doc:"memory that keeps small objects that are read often; 0: none"`
		SpoolDir      string          `toml:"spool_dir" doc:"where large bodies are kept for a second try in another cluster; empty: the system's directory for temporary files"`
	} `toml:"dispatcher"`
	Storaged struct {
		Listen string `toml:"listen" doc:"address of the storages"`
		Auth   string `toml:"auth" doc:"secret: requests carry an HMAC of the installation's secret; none: they need not (closed networks)"`
	} `toml:"storaged"`
	Storage []StorageConfig `toml:"storage" doc:"the storages of this process: id, dir, layout (packs or files); up makes three below DATA/storage by itself"`
	Disk    struct {
		PackSize   config.Size `toml:"pack_size" doc:"size at which a pack is sealed and the next one begun"`
		SmallLimit config.Size `toml:"small_limit" doc:"objects up to this go to packs, larger ones are files"`
		MinFree    config.Size `toml:"min_free" doc:"free space below which writes are refused; 0: 1 GiB or 1 %, whichever is less"`
		Verify     bool        `toml:"verify_reads" doc:"check the checksum of all bytes before they leave a storage"`
	} `toml:"disk"`
	Worker struct {
		Listen        string          `toml:"listen" doc:"address of a worker's /healthz and /metrics"`
		Interval      config.Duration `toml:"interval" doc:"time between two rounds of catching up, sweeping and measuring space"`
		ProbeInterval config.Duration `toml:"probe_interval" doc:"time between two looks at each storage: a few bytes are written, read back and compared"`
		Concurrency   int             `toml:"concurrency" doc:"jobs of one kind that a process does at once"`
		ScrubRate     config.Size     `toml:"scrub_rate" doc:"bytes a second with which each storage is read and verified all the time; 0: not at all"`
	} `toml:"worker"`
	Jobs struct {
		WakeServers []string `toml:"wake_servers" doc:"Gearman job servers by which processes call each other when there is background work; empty: workers of other processes look once a second"`
		WakeName    string   `toml:"wake_name" doc:"tells this installation's calls from others' on the same job servers"`
	} `toml:"jobs"`
	Images struct {
		Enabled     bool            `toml:"enabled" doc:"answer GET of an image with w, h, fit, format or quality by an image in that form"`
		Servers     []string        `toml:"servers" doc:"Gearman job servers whose workers make the images (wheelhouse gearman worker images); empty: this process does"`
		Concurrency int             `toml:"concurrency" doc:"images made at a time by one process; 0: one less than there are processors"`
		MaxPixels   int64           `toml:"max_pixels" doc:"width times height above which an image is refused before it is decoded"`
		MaxBytes    config.Size     `toml:"max_bytes" doc:"originals above this are refused"`
		MaxVariants int             `toml:"max_variants" doc:"forms of one object that are kept; more are refused"`
		Timeout     config.Duration `toml:"timeout" doc:"how long making an image may take; never longer than half of catalog.grace"`
	} `toml:"images"`
	Balancer struct {
		Config string      `toml:"config" doc:"file in the balancer's language with further services, or a console, for the balancer that stands before the store inside up; it may change the service store too"`
		Cache  config.Size `toml:"cache" doc:"memory for answers that the balancer keeps; each is asked about before it is given again; 0: none"`
	} `toml:"balancer"`
	Memcached struct {
		Listen string      `toml:"listen" doc:"address of a cache server inside up, HOST:PORT or the path of a socket; empty: none"`
		Limit  config.Size `toml:"limit" doc:"memory of that cache server"`
	} `toml:"memcached"`
	Metacache struct {
		Servers []string        `toml:"servers" doc:"cache servers for look-ups, in the same order in all processes: HOST:PORT or unix:/PATH of memcached 1.6 or later, or local, one inside up on a socket in the data directory; empty: none (up keeps look-ups in its own memory: catalog.cache)"`
		Memory  config.Size     `toml:"memory" doc:"memory of the server local"`
		Timeout config.Duration `toml:"timeout" doc:"how long a cache server may take for an answer before the catalog is asked"`
	} `toml:"metacache"`
	HTTP struct {
		MaxConns    int             `toml:"max_conns" doc:"open connections on one address; 0: no limit but the system's"`
		IdleTimeout config.Duration `toml:"idle_timeout" doc:"how long a connection may be silent between requests"`
		HeadTimeout config.Duration `toml:"head_timeout" doc:"how long a request's head may take to arrive"`
		BodyTimeout config.Duration `toml:"body_timeout" doc:"how long a client may be silent while it sends a body, or take nothing of an answer"`
	} `toml:"http"`
}

// StorageConfig is one storage of this process.
type StorageConfig struct {
	ID     uint32 `toml:"id"`
	Dir    string `toml:"dir"`
	Layout string `toml:"layout"`
}

const envPrefix = "WHEELHOUSE_"

// clientVariables are environment variables of the client commands; they are no keys of the configuration.
var clientVariables = append([]string{"WHEELHOUSE_SERVER", "WHEELHOUSE_KEY"}, service.HandoverVariables...)

func defaultConfig() *Config {
	c := &Config{Data: "./data", Drain: config.Duration(30 * time.Second)}
	c.Log.Level, c.Log.Format = "info", "text"
	c.Catalog.Cache, c.Catalog.Grace = 32<<20, config.Duration(15*time.Minute)
	c.Catalog.Every, c.Catalog.Keep = config.Duration(time.Hour), 48
	c.Dispatcher.Listen, c.Dispatcher.Auth, c.Dispatcher.Reproxy = "127.0.0.1:8080", "keys", "asked"
	c.Dispatcher.Proxies = []string{"127.0.0.0/8", "::1/128"}
	c.Dispatcher.TailWait, c.Dispatcher.PutTimeout = config.Duration(100*time.Millisecond), config.Duration(10*time.Second)
	c.Dispatcher.BufferLimit, c.Dispatcher.MemoryLimit, c.Dispatcher.HotCache = 1<<20, 256<<20, 32<<20
	c.Storaged.Listen, c.Storaged.Auth = "127.0.0.1:0", "secret"
	c.Disk.PackSize, c.Disk.SmallLimit, c.Disk.Verify = 1<<30, 1<<20, true
	c.Worker.Listen, c.Worker.Interval, c.Worker.Concurrency = "127.0.0.1:0", config.Duration(5*time.Second), 4
	c.Worker.ProbeInterval = config.Duration(3 * time.Second)
	c.Worker.ScrubRate = 2 << 20
	c.Images.Enabled, c.Images.MaxPixels, c.Images.MaxBytes = true, imaging.DefaultMaxPixels, 64<<20
	c.Images.MaxVariants, c.Images.Timeout = 64, config.Duration(30*time.Second)
	c.Memcached.Limit = 64 << 20
	c.Metacache.Memory, c.Metacache.Timeout = 64<<20, config.Duration(metacache.DefaultTimeout)
	c.HTTP.IdleTimeout, c.HTTP.HeadTimeout = config.Duration(75*time.Second), config.Duration(10*time.Second)
	c.HTTP.BodyTimeout = config.Duration(time.Minute)
	return c
}

// loadConfig reads defaults, file, environment and flags, in this order. shortcuts maps flags of a command to keys; more add
// flags that are no keys. It returns what is left of the arguments.
func loadConfig(name string, args []string, stderr io.Writer, shortcuts map[string]string, more ...func(*flag.FlagSet)) (*Config, []string, error) {
	c := defaultConfig()
	keys := config.Keys(c, envPrefix)
	fs := newFlags(name, stderr)
	file := fs.String("config", "", "TOML `file`; see: wheelhouse config describe")
	var sets, values []string
	set := func(s string) error {
		if !strings.Contains(s, "=") {
			return errors.New("want KEY=VALUE")
		}
		sets = append(sets, s)
		return nil
	}
	fs.Func("set", "`KEY=VALUE` of the configuration, such as dispatcher.auth=none; may be repeated", set)
	for short, key := range shortcuts {
		fs.Func(short, describeKey(keys, key), func(v string) error {
			values = append(values, key+"="+v)
			return nil
		})
	}
	for _, f := range more {
		f(fs)
	}
	rest, err := parseFlags(fs, args)
	if err != nil {
		return nil, nil, err
	}
	if *file != "" {
		if err := config.LoadFile(c, *file); err != nil {
			return nil, nil, err
		}
	}
	if err := config.ApplyEnv(keys, envPrefix, os.Environ(), clientVariables...); err != nil {
		return nil, nil, err
	}
	for _, kv := range append(sets, values...) {
		key, value, _ := strings.Cut(kv, "=")
		if err := config.SetKey(keys, key, value); err != nil {
			return nil, nil, &usageError{err.Error()}
		}
	}
	return c, rest, c.Validate()
}

func describeKey(keys []config.Key, name string) string {
	for _, k := range keys {
		if k.Name == name {
			return k.Doc + " (default " + k.Default + ")"
		}
	}
	return name
}

// Validate reports all that is wrong, each with its key.
func (c *Config) Validate() error {
	var errs []error
	bad := func(key string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("configuration: %s: %w", key, err))
		}
	}
	var level slog.Level
	if level.UnmarshalText([]byte(c.Log.Level)) != nil {
		bad("log.level", fmt.Errorf("%q: want debug, info, warn or error", c.Log.Level))
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		bad("log.format", fmt.Errorf("%q: want text or json", c.Log.Format))
	}
	if c.Data == "" {
		bad("data", errors.New("no directory is given"))
	}
	for _, l := range []struct{ key, addr string }{
		{"dispatcher.listen", c.Dispatcher.Listen}, {"storaged.listen", c.Storaged.Listen}, {"worker.listen", c.Worker.Listen},
	} {
		bad(l.key, checkListen(l.addr))
	}
	if !strings.HasPrefix(c.Memcached.Listen, "/") {
		bad("memcached.listen", checkListen(c.Memcached.Listen))
	}
	auth, err := dispatcher.ParseAuth(c.Dispatcher.Auth)
	bad("dispatcher.auth", err)
	if auth == dispatcher.AuthNone && !isLoopback(c.Dispatcher.Listen) {
		bad("dispatcher.auth", fmt.Errorf("none is for loopback addresses; dispatcher.listen is %s, where everybody could delete everything", c.Dispatcher.Listen))
	}
	_, err = dispatcher.ParseReproxy(c.Dispatcher.Reproxy)
	bad("dispatcher.reproxy", err)
	_, err = c.proxies()
	bad("dispatcher.proxies", err)
	if c.Dispatcher.BufferLimit < 1 || c.Dispatcher.BufferLimit > 64<<20 {
		bad("dispatcher.buffer_limit", fmt.Errorf("%s: want 1 B to 64 MiB", c.Dispatcher.BufferLimit))
	}
	if c.Dispatcher.MemoryLimit < c.Dispatcher.BufferLimit {
		bad("dispatcher.memory_limit", fmt.Errorf("%s is less than dispatcher.buffer_limit", c.Dispatcher.MemoryLimit))
	}
	if c.Storaged.Auth != "secret" && c.Storaged.Auth != "none" {
		bad("storaged.auth", fmt.Errorf("%q: want secret or none", c.Storaged.Auth))
	}
	if c.Worker.Concurrency < 1 || c.Worker.Concurrency > 1000 {
		bad("worker.concurrency", fmt.Errorf("%d: want 1 to 1000", c.Worker.Concurrency))
	}
	if c.Images.MaxPixels < 1 || c.Images.MaxBytes < 1 || c.Images.MaxVariants < 1 || c.Images.Concurrency < 0 {
		bad("images", errors.New("max_pixels, max_bytes and max_variants: want at least 1; concurrency: 0 or more"))
	}
	if c.Catalog.Every < 0 {
		bad("catalog.backup_every", errors.New("want 0s or more"))
	}
	if c.Catalog.Keep < 1 || c.Catalog.Keep > 10_000 {
		bad("catalog.backup_keep", fmt.Errorf("%d: want 1 to 10000", c.Catalog.Keep))
	}
	for _, d := range []struct {
		key   string
		value config.Duration
	}{
		{"images.timeout", c.Images.Timeout},
		{"drain", c.Drain},
		{"catalog.grace", c.Catalog.Grace},
		{"dispatcher.tail_wait", c.Dispatcher.TailWait},
		{"dispatcher.put_timeout", c.Dispatcher.PutTimeout},
		{"worker.interval", c.Worker.Interval},
		{"worker.probe_interval", c.Worker.ProbeInterval},
		{"http.idle_timeout", c.HTTP.IdleTimeout},
		{"http.head_timeout", c.HTTP.HeadTimeout},
		{"http.body_timeout", c.HTTP.BodyTimeout},
	} {
		if d.value <= 0 {
			bad(d.key, errors.New("want more than 0s"))
		}
	}
	if c.Memcached.Limit < 1<<20 {
		bad("memcached.limit", fmt.Errorf("%s: want at least 1 MiB", c.Memcached.Limit))
	}
	_, err = c.metacacheOptions()
	bad("metacache", err)
	seen, dirs := map[uint32]bool{}, map[string]uint32{}
	for _, s := range c.Storage {
		if seen[s.ID] {
			bad("storage", fmt.Errorf("id %d stands there twice", s.ID))
		}
		seen[s.ID] = true
		dir := filepath.Clean(s.Dir)
		if s.Dir == "" {
			bad("storage", fmt.Errorf("storage %d has no dir", s.ID))
		} else if other, ok := dirs[dir]; ok {
			bad("storage", fmt.Errorf("storages %d and %d have the same dir, %s", other, s.ID, dir))
		}
		dirs[dir] = s.ID
		if err := c.diskOptions(s, nil).Validate(); err != nil {
			bad("storage "+s.Dir, err)
		}
	}
	if len(c.Storage) == 0 { // up makes some
		bad("disk", c.diskOptions(StorageConfig{ID: 1}, nil).Validate())
	}
	return errors.Join(errs...)
}

// checkListen reports what is wrong with an address to listen on; "" is none.
func checkListen(addr string) error {
	if addr == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q: want HOST:PORT", addr)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return fmt.Errorf("%q: want a port from 0 to 65535, or the name of one", addr)
	}
	return nil
}

func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (c *Config) proxies() ([]netip.Prefix, error) {
	var list []netip.Prefix
	for _, s := range c.Dispatcher.Proxies {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			a, addrErr := netip.ParseAddr(s)
			if addrErr != nil {
				return nil, fmt.Errorf("%q: want a network such as 10.0.0.0/8, or an address", s)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		list = append(list, p)
	}
	return list, nil
}

func (c *Config) diskOptions(s StorageConfig, log *slog.Logger) disk.Options {
	return disk.Options{
		StorageID: store.StorageID(s.ID), Layout: s.Layout, PackSize: int64(c.Disk.PackSize), SmallLimit: int64(c.Disk.SmallLimit),
		MinFree: int64(c.Disk.MinFree), NoVerify: !c.Disk.Verify, Log: log,
	}
}

func (c *Config) catalogFile() string {
	return cmp.Or(c.Catalog.File, filepath.Join(c.Data, "catalog.db"))
}

func (c *Config) secretFile() string { return cmp.Or(c.Secret, filepath.Join(c.Data, "secret")) }

// readSecret reads the installation's secret.
func (c *Config) readSecret() (storaged.Secret, error) {
	text, err := os.ReadFile(c.secretFile())
	if err != nil {
		return nil, fmt.Errorf("read the installation's secret (copy it from the machine where wheelhouse was started first): %w", err)
	}
	secret, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(secret) < storaged.MinSecret {
		return nil, fmt.Errorf("%s: want at least %d hex digits", c.secretFile(), 2*storaged.MinSecret)
	}
	return secret, nil
}

func (c *Config) logger(w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Log.Level)) // Validate has checked it
	o := &slog.HandlerOptions{Level: level}
	if c.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// newFlags makes a flag set that reports mistakes as errors.
// newFlags are the flags of a command, whose help begins with what else it takes.
func newFlags(name string, stderr io.Writer) *flag.FlagSet {
	fs := flag.NewFlagSet(strings.TrimSpace("wheelhouse "+name+" "+operands[name]), flag.ContinueOnError)
	fs.SetOutput(stderr)
	return fs
}

// parseFlags parses flags wherever they stand between the other arguments, until "--".
func parseFlags(fs *flag.FlagSet, args []string) (rest []string, err error) {
	for {
		if err := fs.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, &usageError{""} // the flag set has said what is wrong
		}
		left := fs.Args()
		if len(left) == 0 {
			return rest, nil
		}
		if consumed := len(args) - len(left); consumed > 0 && args[consumed-1] == "--" {
			return append(rest, left...), nil
		}
		rest, args = append(rest, left[0]), left[1:]
	}
}
