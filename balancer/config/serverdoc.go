package config

// ServerParam describes a parameter of SERVER.
type ServerParam struct{ Name, Default, Doc string }

// ServerParams are those that there are.
var ServerParams = []ServerParam{
	{"max_reproxy_connections", "0", "requests under way to one server for X-REPROXY-URL; 0: no limit"},
	{"max_reproxy_connections(ip:port)", "", "the same for one server"},
	{"max_connections", "0", "descriptors that the process may have open; 0 leaves the limit as it is"},
	{"nice_level", "0", "priority of the process, -20 to 19"},
	{"pidfile", "", "absolute path of a file for the process's number; written at the start"},
	{"metrics_listen", "", "ip:port for the status page, /metrics and /healthz without a console; read at the start and by SIGHUP"},
	{"console_networks", "", "networks that may use management services; this machine alone where none are given"},
	{"shutdown_timeout", "10", "seconds for requests under way after SIGTERM and SIGINT; 0: no limit"},
	{"handover_timeout", "3600", "seconds for requests under way, and WebSockets, in the old process after SIGUSR2; 0: no limit"},
	{"aio_mode", "", "accepted for old files: none or ioaio"},
	{"aio_threads", "", "accepted for old files"},
	{"track_obj", "", "accepted for old files"},
	{"crash_backtrace", "", "accepted for old files"},
}
