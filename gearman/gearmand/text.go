package gearmand

import (
	"bytes"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
)

// line handles the text command at the beginning of b; a size of 0 says that it is not complete. render makes the answer,
// without the lock. s.mu is held.
func (c *conn) line(b []byte) (size int, render func() []byte, err error) {
	end := bytes.IndexByte(b[:min(len(b), maxLine)], '\n')
	if end < 0 {
		if len(b) < maxLine {
			return 0, nil, nil
		}
		c.sendText(fmt.Appendf(nil, "ERR ARGUMENT_TOO_LARGE a+line+has+at+most+%d+bytes\r\n", maxLine))
		return 0, nil, errClosing
	}
	fields := strings.Fields(string(b[:end]))
	if n := len(fields); n > 0 && strings.HasPrefix(fields[n-1], "HTTP/1.") {
		return 0, nil, errClosing // a browser that was sent here to do harm
	}
	c.srv.counts.packets.Add(1)
	return end + 1, c.srv.command(c, fields), nil
}

// command runs a text command and returns what makes its answer. s.mu is held.
func (s *Server) command(c *conn, fields []string) (render func() []byte) {
	name := ""
	if len(fields) > 0 {
		name = strings.ToLower(fields[0])
		fields = fields[1:]
	}
	switch name {
	case "version":
		return answer("OK " + Version + "\n")
	case "getpid":
		return answer("OK " + strconv.Itoa(os.Getpid()) + "\n")
	case "verbose":
		return answer("OK " + s.opts.Verbose + "\n")
	case "status":
		return s.textStatus()
	case "prioritystatus":
		return s.textPriorities()
	case "workers":
		return s.textWorkers()
	case "clients":
		return s.textClients()
	case "jobs":
		return s.textJobs()
	case "show":
		return s.textShow(fields)
	case "maxqueue":
		return answer(s.textMaxQueue(fields))
	case "create":
		return answer(s.textCreate(fields))
	case "drop":
		return answer(s.textDrop(fields))
	case "cancel":
		return answer(s.textCancel(fields))
	case "shutdown":
		return answer(s.textShutdown(c, fields))
	}
	return answer(unknownCommand(name))
}

func answer(text string) func() []byte { return func() []byte { return []byte(text) } }

const textOK = "OK\r\n"

func unknownCommand(name string) string {
	return "ERR UNKNOWN_COMMAND Unknown+server+command" + textSafe(name) + "\r\n"
}

func incomplete(name string) string {
	return "ERR INVALID_ARGUMENTS An+incomplete+set+of+arguments+was+sent+to+this+command+" + name + "\r\n"
}

// textSafe is a name as it may stand in a line: one with a line end would be a line of its own. Bytes that are no UTF-8 stay.
func textSafe[S []byte | string](name S) string {
	b := []byte(name)
	for i, v := range b {
		if v < ' ' || v == 0x7f {
			b[i] = '?'
		}
	}
	return string(b)
}

// functionsByName is a list of all functions. s.mu is held.
func (s *Server) functionsByName() []*function {
	return slices.SortedFunc(maps.Values(s.functions), func(a, b *function) int { return strings.Compare(a.name, b.name) })
}

func (s *Server) textStatus() func() []byte {
	var out []byte
	for _, f := range s.functionsByName() {
		out = fmt.Appendf(out, "%s\t%d\t%d\t%d\n", textSafe(f.name), f.total, f.running, len(f.workers))
	}
	return func() []byte { return append(out, ".\n"...) }
}

func (s *Server) textPriorities() func() []byte {
	var out []byte
	for _, f := range s.functionsByName() {
		n := [priorities]int{}
		for p := range f.queues {
			n[p] = f.queues[p].n
		}
		out = fmt.Appendf(out, "%s\t%d\t%d\t%d\t%d\n", textSafe(f.name), n[High], n[Normal], n[Low], len(f.workers))
	}
	return func() []byte { return append(out, ".\n"...) }
}

// connections is a list of all connections in the order in which they came. s.mu is held.
func (s *Server) connections() []*conn {
	list := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		if c.nc != nil {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b *conn) int { return int(int64(a.id) - int64(b.id)) })
	return list
}

func (s *Server) textWorkers() func() []byte {
	var out []byte
	for _, c := range s.connections() {
		id := c.clientID
		if id == "" {
			id = "-"
		}
		out = fmt.Appendf(out, "%d %s %s :", c.id, c.host(), textSafe(id))
		for _, a := range c.abilities {
			out = append(append(out, ' '), textSafe(a.fn.name)...)
		}
		out = append(out, '\n')
	}
	return func() []byte { return append(out, ".\n"...) }
}

// textClients lists who waits for what, as Danga's server does.
func (s *Server) textClients() func() []byte {
	var out []byte
	for _, c := range s.connections() {
		out = append(append(out, c.addr()...), '\n')
		for l := c.waits; l != nil; l = l.cnext {
			out = fmt.Appendf(out, "\t%s\t%s\t%s\n", textSafe(l.j.fn.name), textSafe(l.j.unique), l.j.workerAddr())
		}
	}
	return func() []byte { return append(out, ".\n"...) }
}

func (j *job) workerAddr() string {
	if j.worker == nil {
		return "-"
	}
	return j.worker.addr()
}

// jobLines makes a line of each job, in the order of their numbers: what it needs of them is taken under the lock, the lines
// are made without.
func jobLines[T any](s *Server, of func(*job) T, print func([]byte, T) []byte) func() []byte {
	type numbered struct {
		num uint64
		job T
	}
	list := make([]numbered, 0, len(s.jobs)+len(s.foreign))
	for _, j := range s.foreign {
		list = append(list, numbered{0, of(j)})
	}
	for _, j := range s.jobs {
		list = append(list, numbered{j.num, of(j)})
	}
	return func() []byte {
		slices.SortFunc(list, func(a, b numbered) int { return int(int64(a.num) - int64(b.num)) })
		var out []byte
		for _, n := range list {
			out = print(out, n.job)
		}
		return append(out, ".\n"...)
	}
}

// textJobs lists function, unique, worker and how many wait, as Danga's server does.
func (s *Server) textJobs() func() []byte {
	type line struct {
		j       *job
		worker  string
		waiting int
	}
	return jobLines(s, func(j *job) line {
		n := 0
		for l := j.listeners; l != nil; l = l.next {
			n++
		}
		return line{j, j.workerAddr(), n}
	}, func(out []byte, l line) []byte {
		return fmt.Appendf(out, "%s\t%s\t%s\t%d\n", textSafe(l.j.fn.name), textSafe(l.j.unique), l.worker, l.waiting)
	})
}

func (s *Server) textShow(args []string) func() []byte {
	if len(args) == 0 {
		return answer(unknownCommand("show"))
	}
	switch strings.ToLower(strings.Join(args, " ")) {
	case "jobs":
		type line struct {
			handle             []byte
			retries            int
			ignore, background bool
		}
		return jobLines(s, func(j *job) line { return line{j.handle, j.retries, j.cancelled, j.background} },
			func(out []byte, l line) []byte {
				return fmt.Appendf(out, "%s\t%d\t%s\t%s\n", textSafe(l.handle), l.retries, flag(l.ignore), flag(l.background))
			})
	case "unique jobs":
		return jobLines(s, func(j *job) []byte { return j.unique }, func(out []byte, unique []byte) []byte {
			return append(append(out, textSafe(unique)...), '\n')
		})
	}
	return answer("ERR UNKNOWN_SHOW_ARGUMENTS\r\n")
}

// textMaxQueue sets a function's limits, for all priorities or for each, also of a function that does not exist yet.
func (s *Server) textMaxQueue(args []string) string {
	var limits []int
	for _, a := range args[min(1, len(args)):] {
		n, err := strconv.Atoi(a)
		if err != nil {
			return "ERR INVALID_ARGUMENTS maxqueue:+" + textSafe(a) + "+is+not+a+number\r\n"
		}
		limits = append(limits, max(n, 0))
	}
	switch {
	case len(args) == 0:
		return incomplete("maxqueue")
	case len(limits) == 0:
		limits = []int{0, 0, 0}
	case len(limits) == 1:
		limits = []int{limits[0], limits[0], limits[0]}
	case len(limits) != priorities:
		return "ERR INVALID_ARGUMENTS maxqueue+takes+a+function+and+one+limit,+or+three:+high,+normal,+low\r\n"
	}
	f, bad := s.functionNamed(args[0])
	if bad != "" {
		return bad
	}
	f.limits = [priorities]int(limits)
	f.limited = f.limits != [priorities]int{}
	return textOK
}

func (s *Server) functionNamed(name string) (f *function, bad string) {
	if u := (&submission{fn: []byte(name)}).check(); u != nil {
		return nil, "ERR " + u.code + " " + strings.ReplaceAll(u.text, " ", "+") + "\r\n"
	}
	f, err := s.function([]byte(name))
	if err != nil {
		return nil, "ERR QUEUE_ERROR " + strings.ReplaceAll(errFunctions.text, " ", "+") + "\r\n"
	}
	return f, ""
}

func (s *Server) textCreate(args []string) string {
	if len(args) != 2 || !strings.EqualFold(args[0], "function") {
		return incomplete("create")
	}
	f, bad := s.functionNamed(args[1])
	if bad != "" {
		return bad
	}
	f.created = true
	return textOK
}

// textDrop forgets a function, with the jobs that wait for it only when "force" says so.
func (s *Server) textDrop(args []string) string {
	force := len(args) == 3 && strings.EqualFold(args[2], "force")
	if (len(args) != 2 && !force) || !strings.EqualFold(args[0], "function") {
		return incomplete("drop")
	}
	f := s.functions[args[1]]
	switch {
	case f == nil:
		return "ERR function not found\r\n"
	case len(f.workers) > 0 || f.running > 0:
		return "ERR there are still connected workers or executing clients\r\n"
	case f.total > 0 && !force:
		return "ERR there are still queued jobs; drop function " + textSafe(args[1]) + " force drops them too\r\n"
	}
	if f.total > 0 {
		for _, j := range s.jobs {
			s.dropJob(f, j)
		}
		for _, j := range s.foreign {
			s.dropJob(f, j)
		}
	}
	if f.total > 0 {
		return "ERR jobs are being stored; try again\r\n"
	}
	delete(s.functions, f.name)
	return textOK
}

func (s *Server) dropJob(f *function, j *job) {
	if j.fn == f && (j.state == queued || j.state == delayed) {
		s.dequeue(j)
		s.fail(j)
	}
}

func (s *Server) textCancel(args []string) string {
	if len(args) < 2 {
		return unknownCommand("cancel")
	}
	if len(args) > 2 || !strings.EqualFold(args[0], "job") {
		return "ERR UNKNOWN_ERROR\r\n"
	}
	if !s.cancel([]byte(args[1])) {
		return "ERR UNKNOWN_JOB\r\n"
	}
	return textOK
}

// textShutdown ends the server, where that is allowed, and for those on the same machine only.
func (s *Server) textShutdown(c *conn, args []string) string {
	graceful := len(args) == 1 && strings.EqualFold(args[0], "graceful")
	if s.opts.OnShutdown == nil || !c.local() || (len(args) > 0 && !graceful) {
		return unknownCommand("shutdown")
	}
	c.sendText([]byte(textOK))
	c.flush() // before the end begins, which may close the connection
	s.once.Do(func() { s.opts.OnShutdown(graceful) })
	return ""
}

func (c *conn) local() bool {
	switch a := c.nc.RemoteAddr().(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	}
	return false
}
